/** Status flags in generated code; their encoding is described at `flagsResult` and `flagsAux` of the state. */
import { type Flag, flagNames, type Node } from "../../ir/index.ts";
import * as state from "../../isa/state.ts";
import type { Local } from "../../wasm/index.ts";
import type { RecordCore } from "./record-core.ts";

export class FlagsEmitter {
  readonly #core: RecordCore;

  constructor(core: RecordCore) {
    this.#core = core;
  }

  /** CF = OF = AF = 0, the others from the result. */
  logicFlags(result: Node): void {
    this.#storeFlagsResult(result);
    this.#core.stateAddress();
    this.#core.f.i32.const(0);
    this.#core.f.i32.store(state.flagsAux.offset);
  }

  #aux(): void {
    this.#core.stateAddress();
    this.#core.f.i32.load(state.flagsAux.offset);
  }

  #result(): void {
    this.#core.stateAddress();
    this.#core.f.i64.load(state.flagsResult.offset);
  }

  #auxBit(bit: number): void {
    this.#aux();
    this.#core.f.i32.const(bit);
    this.#core.f.i32.shr_u();
    this.#core.f.i32.const(1);
    this.#core.f.i32.and();
  }

  readFlag(flag: Flag): void {
    const f = this.#core.f;
    switch (flag) {
      case "cf":
        this.#aux();
        f.i32.const(31);
        return f.i32.shr_u();
      case "of":
        this.#aux();
        this.#aux();
        f.i32.const(1);
        f.i32.shl();
        f.i32.xor();
        f.i32.const(31);
        return f.i32.shr_u();
      case "af": return this.#auxBit(3);
      case "zf":
        this.#result();
        return f.i64.eqz();
      case "sf":
        this.#result();
        f.i64.const(63);
        f.i64.shr_u();
        f.i32.wrap_i64();
        this.#auxBit(0);
        return f.i32.xor();
      case "pf":
        this.#result();
        f.i32.wrap_i64();
        this.#aux();
        f.i32.const(8);
        f.i32.shr_u();
        f.i32.xor();
        f.i32.const(0xff);
        f.i32.and();
        f.i32.popcnt();
        f.i32.const(-1);
        f.i32.xor();
        f.i32.const(1);
        return f.i32.and();
    }
  }

  /** One of the sixteen conditions. */
  condition(code: number): void {
    const f = this.#core.f;
    switch (code >> 1) {
      case 0: this.readFlag("of"); break;
      case 1: this.readFlag("cf"); break;
      case 2: this.readFlag("zf"); break;
      case 3: this.readFlag("cf"); this.readFlag("zf"); f.i32.or(); break;
      case 4: this.readFlag("sf"); break;
      case 5: this.readFlag("pf"); break;
      case 6: this.#isLess(); break;
      default: this.readFlag("zf"); this.#isLess(); f.i32.or();
    }
    if ((code & 1) === 0) return;
    f.i32.const(1);
    f.i32.xor();
  }

  #isLess(): void {
    this.readFlag("sf");
    this.readFlag("of");
    this.#core.f.i32.xor();
  }

  /** flagsResult = the node's value, sign-extended. */
  #storeFlagsResult(result: Node): void {
    this.#core.stateAddress();
    this.#core.pushSigned(result);
    if (result.width !== 64) this.#core.f.i64.extend_i32_s();
    this.#core.f.i64.store(state.flagsResult.offset);
  }

  /** Pushes the carry vector as an auxiliary word: bits 31 and 30 the two top carries, bit 3 carry 3, others 0. */
  #auxiliaryOfCarries(carries: Node): void {
    const f = this.#core.f;
    if (carries.width === 64) {
      const c = this.#core.local("i64");
      this.#core.push(carries);
      f.local.tee(c);
      f.i64.const(32);
      f.i64.shr_u();
      f.i32.wrap_i64();
      f.i32.const(0xc000_0000 | 0);
      f.i32.and();
      f.local.get(c);
      f.i32.wrap_i64();
      f.i32.const(8);
      f.i32.and();
      return f.i32.or();
    }
    this.#core.push(carries);
    if (carries.width < 32) {
      const c = this.#core.local("i32");
      f.local.tee(c);
      f.i32.const(32 - carries.width);
      f.i32.shl();
      f.local.get(c);
      f.i32.or();
    }
    f.i32.const(0xc000_0008 | 0);
    f.i32.and();
  }

  arithmeticFlags(result: Node, carries: Node, keepCarry: boolean): void {
    const f = this.#core.f;
    if (keepCarry) {
      const aux = this.#core.local("i32");
      this.#auxiliaryOfCarries(carries);
      f.local.set(aux);
      this.#storeFlagsResult(result);
      this.#core.stateAddress();
      // OF in bit 31 of aux ^ aux << 1; bit 30 of the new word is the old CF xor that.
      this.#aux();
      f.i32.const(0x8000_0000 | 0);
      f.i32.and();
      const carry = this.#core.local("i32");
      f.local.tee(carry);
      f.local.get(carry);
      f.local.get(aux);
      f.local.get(aux);
      f.i32.const(1);
      f.i32.shl();
      f.i32.xor();
      f.i32.const(0x8000_0000 | 0);
      f.i32.and();
      f.i32.xor();
      f.i32.const(1);
      f.i32.shr_u();
      f.i32.or();
      f.local.get(aux);
      f.i32.const(8);
      f.i32.and();
      f.i32.or();
      return f.i32.store(state.flagsAux.offset);
    }
    this.#storeFlagsResult(result);
    this.#core.stateAddress();
    this.#auxiliaryOfCarries(carries);
    f.i32.store(state.flagsAux.offset);
  }

  /** Writes some flags; the others keep their values. */
  writeFlags(flags: readonly Flag[], values: readonly Node[]): void {
    const f = this.#core.f;
    const locals = {} as Record<Flag, Local<"i32">>;
    const touchesResult = flags.some((flag) => flag === "zf" || flag === "sf" || flag === "pf");
    for (const flag of flagNames) {
      const index = flags.indexOf(flag);
      if (index < 0 && !touchesResult && (flag === "zf" || flag === "sf" || flag === "pf")) continue;
      locals[flag] = this.#core.local("i32");
      if (index < 0) this.readFlag(flag);
      else this.#core.push(values[index]);
      f.local.set(locals[flag]);
    }
    const place = (flag: Flag, bit: number): void => {
      f.local.get(locals[flag]);
      f.i32.const(bit);
      f.i32.shl();
    };
    this.#core.stateAddress();
    place("cf", 31);
    f.local.get(locals.cf);
    f.local.get(locals.of);
    f.i32.xor();
    f.i32.const(30);
    f.i32.shl();
    f.i32.or();
    place("af", 3);
    f.i32.or();
    if (touchesResult) {
      f.local.get(locals.sf);
      f.i32.or();
      f.local.get(locals.pf);
      f.local.get(locals.zf);
      f.i32.xor();
      f.i32.const(8);
      f.i32.shl();
      f.i32.or();
    } else {
      this.#aux();
      f.i32.const(0x0000_ff01);
      f.i32.and();
      f.i32.or();
    }
    f.i32.store(state.flagsAux.offset);
    if (!touchesResult) return;
    this.#core.stateAddress();
    f.local.get(locals.zf);
    f.i32.eqz();
    f.i64.extend_i32_u();
    f.i64.store(state.flagsResult.offset);
  }
}
