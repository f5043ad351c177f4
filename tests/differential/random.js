/** The test's random numbers: small, seeded, the same on every host (sfc32, after the PractRand collection). */
/** Mixes a string into a 32-bit value (FNV-1a). */
export function hashText(text) {
    let hash = 0x811c_9dc5;
    for (let index = 0; index < text.length; index++)
        hash = Math.imul(hash ^ text.charCodeAt(index), 0x0100_0193);
    return hash >>> 0;
}
export class Random {
    a = 0;
    b = 0;
    c = 0;
    counter = 1;
    constructor(...seed) {
        this.reseed(...seed);
    }
    /** Starts the sequence that belongs to these three numbers. */
    reseed(...[a = 0, b = 0, c = 0]) {
        this.a = a | 0;
        this.b = b | 0;
        this.c = c | 0;
        this.counter = 1;
        for (let round = 0; round < 12; round++)
            this.next();
    }
    /** 32 random bits, unsigned. */
    next() {
        const sum = (this.a + this.b + this.counter) | 0;
        this.counter = (this.counter + 1) | 0;
        this.a = this.b ^ (this.b >>> 9);
        this.b = (this.c + (this.c << 3)) | 0;
        this.c = (((this.c << 21) | (this.c >>> 11)) + sum) | 0;
        return sum >>> 0;
    }
    /** An integer from 0 to `limit - 1`. */
    below(limit) {
        return Math.floor((this.next() / 0x1_0000_0000) * limit);
    }
    /** An integer from `low` to `high`, both included. */
    between(low, high) {
        return low + this.below(high - low + 1);
    }
    /** True `percent` times in a hundred. */
    chance(percent) {
        return this.next() < (percent / 100) * 0x1_0000_0000;
    }
    pick(items) {
        return items[this.below(items.length)];
    }
    next64() {
        return (BigInt(this.next()) << 32n) | BigInt(this.next());
    }
}
//# sourceMappingURL=random.js.map