/** The test's random numbers: small, seeded, the same on every host (sfc32, after the PractRand collection). */
/** Mixes a string into a 32-bit value (FNV-1a). */
export declare function hashText(text: string): number;
export declare class Random {
    private a;
    private b;
    private c;
    private counter;
    constructor(...seed: readonly number[]);
    /** Starts the sequence that belongs to these three numbers. */
    reseed(...[a, b, c]: readonly number[]): void;
    /** 32 random bits, unsigned. */
    next(): number;
    /** An integer from 0 to `limit - 1`. */
    below(limit: number): number;
    /** An integer from `low` to `high`, both included. */
    between(low: number, high: number): number;
    /** True `percent` times in a hundred. */
    chance(percent: number): boolean;
    pick<T>(items: readonly T[]): T;
    next64(): bigint;
}
