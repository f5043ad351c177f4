/** Random bytes for guests: the host's, or a sequence that is the same in every run. */
import { randomFillSync } from "node:crypto";

const poolBytes = 4096;

/** Fills arrays from the host's generator, by way of a pool: a guest's RDRAND asks for 8 bytes at a time. */
export function hostRandom(): (target: Uint8Array) => void {
  const pool = new Uint8Array(poolBytes);
  let used = poolBytes;
  return (target) => {
    if (target.length > poolBytes / 4) {
      randomFillSync(target);
      return;
    }
    if (used + target.length > poolBytes) {
      randomFillSync(pool);
      used = 0;
    }
    target.set(pool.subarray(used, used + target.length));
    pool.fill(0, used, used + target.length);
    used += target.length;
  };
}

/** The xorshift64* generator (Vigna, "An experimental exploration of Marsaglia's xorshift generators"); not secret. */
export class SeededRandom {
  #state: bigint;

  constructor(seed: bigint) {
    this.#state = BigInt.asUintN(64, seed) || 1n;
  }

  /** A generator made with it as seed goes on from here. */
  get state(): bigint {
    return this.#state;
  }

  fill(target: Uint8Array): void {
    let state = this.#state;
    for (let i = 0; i < target.length; i++) {
      state ^= state >> 12n;
      state ^= BigInt.asUintN(64, state << 25n);
      state ^= state >> 27n;
      target[i] = Number(BigInt.asUintN(64, state * 0x2545_f491_4f6c_dd1dn) >> 56n);
    }
    this.#state = state;
  }
}
