/** Names to choose from, for help texts; nothing of the machine comes along. */
export { cpuModelNames } from "../isa/models/index.ts";
export { guestNames } from "../host/node/guests/catalog.ts";
