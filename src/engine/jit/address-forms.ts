/** What of a handler's addresses and results lies at a known distance from a register, or from where the memory operand is. */
import type { Node } from "../../ir/index.ts";
import * as state from "../../isa/state.ts";
import type { Handler } from "../handler.ts";
import type { MemoryAccess } from "./handler-summary.ts";
import type { RoutineCalls } from "./rare-routines.ts";

/** A general register by number, or that of an operand. */
export type RegisterReference = { readonly number: number } | { readonly slot: number };

/** A value as the instruction finds its registers: `distance` bytes, and the immediate so many times, from its origin. */
export interface AddressForm {
  readonly origin: "operand" | RegisterReference;
  readonly distance: number;
  readonly immediates: number;
}

export interface HandlerAddresses {
  /** Accesses that are made whenever the instruction is executed. */
  readonly accesses: readonly { readonly access: MemoryAccess; readonly form: AddressForm }[];
  /** What becomes of registers; without a form, something else. */
  readonly writes: readonly { readonly target: RegisterReference; readonly form: AddressForm | undefined }[];
  /** Calls what may change registers and mappings. */
  readonly forgets: boolean;
}

/** Beyond it no two accesses have much to do with each other. */
const maximumDistance = 2 ** 30;

export function addressesOf({ form: { operands, variant, address }, body }: Handler, all: readonly MemoryAccess[], calls: RoutineCalls): HandlerAddresses {
  const wordBits = variant.long ? 64 : 32;
  const forms = new Map<Node, AddressForm>();
  const accesses: { access: MemoryAccess; form: AddressForm }[] = [];
  const writes: { target: RegisterReference; form: AddressForm | undefined }[] = [];
  let forgets = false;

  const isRegister = (slot: number): boolean => {
    const operand = operands[slot];
    return operand.kind === "register" && operand.file === "gpr";
  };
  const from = (origin: AddressForm["origin"]): AddressForm | undefined =>
    // What an instruction reads after it has written may be what it wrote.
    writes.length > 0 ? undefined : { origin, distance: 0, immediates: 0 };
  const moved = (form: AddressForm | undefined, by: Node, sign: 1 | -1): AddressForm | undefined => {
    if (form === undefined) return undefined;
    if (by.op === "immediate") return { ...form, immediates: form.immediates + sign };
    if (by.op !== "const") return undefined;
    const distance = form.distance + sign * Number(BigInt.asIntN(by.width, by.value));
    return Math.abs(distance) > maximumDistance ? undefined : { ...form, distance };
  };
  const formOf = (node: Node): AddressForm | undefined => {
    switch (node.op) {
      case "readState": {
        const number = generalRegister(node.location.offset);
        return number === undefined || node.width !== wordBits ? undefined : from({ number });
      }
      case "readRegister": return node.width === wordBits && isRegister(node.slot) ? from({ slot: node.slot }) : undefined;
      case "effectiveAddress": return variant.addressSize === wordBits && !address.absolute ? from("operand") : undefined;
      // Outside of 64-bit mode all is modulo 2^32.
      case "zext": case "trunc": return node.width >= 32 && node.args[0].width >= 32 && wordBits === 32 ? forms.get(node.args[0]) : undefined;
      case "add": return moved(forms.get(node.args[0]), node.args[1], 1) ?? moved(forms.get(node.args[1]), node.args[0], 1);
      case "sub": return moved(forms.get(node.args[0]), node.args[1], -1);
      default: return undefined;
    }
  };
  const visit = (block: readonly Node[], isConditional: boolean): void => {
    for (const node of block) {
      const write = (target: RegisterReference, isWhole: boolean): void =>
        void writes.push({ target, form: isWhole && !isConditional ? forms.get(node.args[0]) : undefined });
      switch (node.op) {
        case "load": case "store": case "checkWrite": {
          const access = isConditional ? undefined : all.find((candidate) => candidate.node === node);
          const form = forms.get(node.args[0]);
          if (access !== undefined && form !== undefined) accesses.push({ access, form });
          break;
        }
        case "writeState": {
          const number = (node.location.offset - state.gpr[0].offset) >> 3;
          if (number >= 0 && number < state.gpr.length) write({ number }, node.location.offset === state.gpr[number].offset && node.location.width === wordBits);
          break;
        }
        case "writeRegister":
          if (isRegister(node.slot)) write({ slot: node.slot }, node.args[0].width === wordBits);
          break;
        case "routine":
          forgets ||= !calls.rare.has(node) && !calls.observing.has(node);
          break;
        case "if":
          visit(node.then, true);
          visit(node.otherwise, true);
          break;
        default: {
          const form = formOf(node);
          if (form !== undefined) forms.set(node, form);
        }
      }
    }
  };
  visit(body, false);
  return { accesses, writes, forgets };
}

/** Number of the general register that begins at an offset. */
function generalRegister(offset: number): number | undefined {
  const number = state.gpr.findIndex((field) => field.offset === offset);
  return number < 0 ? undefined : number;
}
