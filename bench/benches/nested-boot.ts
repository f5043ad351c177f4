/** A second kernel that boots in KVM, as a command of the first one's userland. */

const innerMegabytes = 192;

/** Loads KVM and boots the kernel in /virt; both kernels run without mitigations, see `guest-run.ts`. */
export function nestedBootCommand(module: "kvm_amd" | "kvm_intel"): string {
  const inner = Buffer.from("echo booted: $(uname -r)\nreboot -f\n").toString("base64");
  return [
    `for module in $(cat /lib/modules/${module}.order); do insmod /lib/modules/$module.ko || exit 1; done`,
    `/virt/kvm-client boot /virt/vmlinuz /virt/initramfs.cpio ${innerMegabytes} "console=ttyS0 quiet reboot=t panic=-1 mitigations=off rm.command=${inner}"`,
  ].join("\n");
}
