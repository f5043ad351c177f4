/** What we want to reach: the highest ratio ours/peer, by bench, peer and row. */

export interface Targets {
  /** Of all programs. */
  readonly geometricMean?: number;
  readonly rows: Readonly<Record<string, number>>;
}

const everyProgramAhead = {
  intloop: 1, sieve: 1, crc32: 1, sha256: 1, dhry: 1, matmul_x87: 1, matmul_sse2: 1, nbody_x87: 1, nbody_sse2: 1, syscall: 1, forkexec: 1, pagefault: 1,
} as const;

const nestedSvm = { vmmcall: 1, cpuid: 1, port: 1, "nested page fault": 1, "boot in KVM": 1 } as const;
const nestedVmx = { "VMX: vmcall": 0.2, "VMX: cpuid": 0.2, "VMX: port": 0.2, "VMX: EPT violation": 0.2, "VMX: boot in KVM": 0.2 } as const;

const all: Readonly<Record<string, Readonly<Record<string, Targets>>>> = {
  guest: {
    qemu: {
      geometricMean: 0.5,
      rows: {
        intloop: 0.8, sieve: 0.8, crc32: 0.8, sha256: 0.8, dhry: 0.8,
        // QEMU computes these in software.
        matmul_x87: 0.3, matmul_sse2: 0.3, nbody_x87: 0.3, nbody_sse2: 0.3,
        memcpy: 0.3, syscall: 1, forkexec: 1, pagefault: 1, boot: 1.3,
      },
    },
    // v86 copies at native speed.
    v86: { geometricMean: 0.4, rows: { ...everyProgramAhead, memcpy: 1.5, boot: 0.5 } },
  },
  exits: { c: { rows: { "port write": 1.25, "port read": 1.25, "memory write": 1.25, "memory read": 1.25 } } },
  nested: { qemu: { rows: nestedSvm }, bochs: { rows: nestedVmx }, "qemu,bochs": { rows: { ...nestedSvm, ...nestedVmx } } },
  boot: { qemu: { rows: { boot: 1.3 } }, v86: { rows: { boot: 0.5 } } },
};

/** None where nothing was set. */
export function targetsOf(bench: string, peer: string | undefined): Targets {
  return all[bench]?.[peer ?? ""] ?? { rows: {} };
}
