export * from "./bits.ts";
export * from "./node.ts";
