/** Handlers: one execution of a definition for fixed operand forms and processor mode, as IR ready for any back end. */
import { record, type Node } from "../ir/index.ts";
import {
  Cpu, Operand, type Context, type InstructionDefinition, type OperandForm, type OperandWidth, type Variant,
} from "../isa/definition.ts";

/** How the memory operand's address is formed, as far as code differs. */
export interface AddressForm {
  readonly hasIndex: boolean;
  /** The record's immediate is the whole address (MOV with offset). */
  readonly absolute: boolean;
  /** Flat: no base to add (64-bit mode, not FS or GS). Based: add the base. Checked: legacy segmentation. */
  readonly segmentation: "flat" | "based" | "checked";
}

/** All that the code of one handler depends on. */
export interface HandlerForm {
  readonly definition: InstructionDefinition;
  readonly operands: readonly OperandForm[];
  readonly variant: Variant;
  readonly address: AddressForm;
}

export interface Handler {
  readonly form: HandlerForm;
  readonly body: readonly Node[];
  /** Ends its block: jumps always, or changes what follows. */
  readonly endsBlock: boolean;
}

const nearTransfers: ReadonlySet<string> = new Set(["jmp", "call", "ret"]);

/** Whether a `jump` to this target is a near one whose target only execution knows: its record remembers where it went last. */
export function remembersTarget(form: HandlerForm, target: Node): boolean {
  if (!nearTransfers.has(form.definition.name)) return false;
  let node = target;
  while (node.op === "zext" || node.op === "trunc") node = node.args[0];
  return node.op !== "branchTarget" && node.op !== "thisRip";
}

function widthOf(form: HandlerForm): OperandWidth {
  const first = form.operands[0];
  if (first !== undefined && "width" in first && first.width !== 0 && first.width !== 80) return first.width;
  return form.variant.operandSize;
}

/** Runs the definition and links each store to the load that already checked its address. */
export function makeHandler(form: HandlerForm): Handler {
  const operands = form.operands.map((operand, slot) => new Operand(operand, slot));
  const context = {
    cpu: new Cpu(form.variant),
    width: widthOf(form),
    operands,
    dst: operands[0], src: operands[1], src2: operands[2], src3: operands[3],
    variant: form.variant,
  } as unknown as Context<8>;
  const body = record(() => form.definition.execute(context));
  pairStoresWithLoads(body);
  return { form, body, endsBlock: (form.definition.endsBlock ?? false) || alwaysJumps(body) };
}

/** Two offsets are the same when they are the same node, or both the memory operand's. */
function sameOffset(a: Node, b: Node): boolean {
  return a === b || (a.op === "effectiveAddress" && b.op === "effectiveAddress");
}

function pairStoresWithLoads(body: readonly Node[]): void {
  const loads: Extract<Node, { op: "load" }>[] = [];
  const visit = (block: readonly Node[], isOutermost: boolean): void => {
    for (const node of block) {
      if (node.op === "load" && isOutermost) loads.push(node);
      if (node.op === "store") {
        const match = loads.find((load) =>
          load.segment === node.segment && load.width === node.width && sameOffset(load.args[0], node.args[0]));
        // A store that may not happen demands nothing: ARPL needs no write access while it changes nothing.
        if (match !== undefined && (isOutermost || match.intent === "readForWrite")) {
          match.intent = "readForWrite";
          node.prepared = match;
        }
      }
      if (node.op === "if") {
        visit(node.then, false);
        visit(node.otherwise, false);
      }
    }
  };
  visit(body, true);
}

function alwaysJumps(block: readonly Node[]): boolean {
  return block.some((node) =>
    node.op === "jump" || node.op === "jumpTarget" || node.op === "raise" ||
    (node.op === "if" && alwaysJumps(node.then) && alwaysJumps(node.otherwise)));
}

const kindLetters = { register: "r", numbered: "n", memory: "m", immediate: "i", relative: "j", far: "p" } as const;

/** A name for a handler, for debugging and as the key of caches. */
export function handlerName(form: HandlerForm): string {
  const { variant, address } = form;
  const operands = form.operands.map((operand) => {
    const width = "width" in operand ? operand.width : "";
    const file = "file" in operand && operand.file !== "gpr" ? operand.file[0] : "";
    const number = operand.kind === "numbered" ? `.${operand.number}` : "";
    return `${kindLetters[operand.kind]}${file}${width}${number}`;
  });
  const mode = `${variant.long ? "L" : "S"}${variant.operandSize}.${variant.addressSize}.${variant.stackSize}`;
  const flavour = `${address.hasIndex ? "x" : ""}${address.absolute ? "o" : ""}${address.segmentation[0]}`;
  const prefixes = `${variant.repeat === "none" ? "" : variant.repeat}${variant.lock ? "lock" : ""}`;
  return `${form.definition.name}/${operands.join(",")}/${mode}/${flavour}${prefixes}`;
}
