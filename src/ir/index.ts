export * from "./bits.ts";
export * from "./node.ts";
export * from "./evaluate.ts";
export * from "./moderation.ts";
