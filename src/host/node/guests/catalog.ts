/** The guests that can be fetched, and the files that each consists of. */

/** A kernel of Debian's with an initial RAM file system of ours. */
export interface LinuxGuest {
  /** bzImage. */
  readonly kernel: string;
  /** Runs a shell, or a command (see `commandInitramfs`). */
  readonly initramfs: string;
}

/** A hypervisor with the kernel and initial RAM file system of its first domain. */
export interface XenGuest extends LinuxGuest {
  /** ELF with a multiboot header. */
  readonly hypervisor: string;
}

/** What every name resolves to; all values are absolute paths. */
export interface GuestPaths {
  /** Debian 12's cloud kernel. */
  readonly "cloud-6.1": LinuxGuest;
  /** Debian 12's generic kernel. */
  readonly "generic-6.1": LinuxGuest;
  /** The cloud kernel of Debian 12's backports. */
  readonly "cloud-6.12": LinuxGuest;
  /** Debian 12's 32-bit kernel for processors without PAE, and a 32-bit userland. */
  readonly "686-6.1": LinuxGuest;
  /** `smallFirmware` is the build for 128 KiB, for boards that have no room for 256. */
  readonly seabios: { readonly firmware: string; readonly smallFirmware: string; readonly vgaBios: string };
  /** `code` is read-only flash, `variables` the initial contents of the writable flash below it. */
  readonly ovmf: { readonly code: string; readonly variables: string };
  /** `kernel` follows the Linux boot protocol. */
  readonly "memtest86+": { readonly kernel: string; readonly efi: string };
  /** MBR, GRUB in the gap, ext4 root; for SeaBIOS. */
  readonly "disk-bios": { readonly image: string };
  /** GPT, EFI system partition with GRUB, ext4 root; for OVMF. */
  readonly "disk-efi": { readonly image: string };
  /** The cloud kernel and an initial RAM file system with the programs of guests/bench in /bench. */
  readonly bench: LinuxGuest;
  /** The same programs, built for 32 bits, with the 686 kernel. */
  readonly "bench-686": LinuxGuest;
  /** Debian 12's cloud kernel with KVM's modules, and clients of KVM in /virt. */
  readonly "nested-6.1": LinuxGuest;
  /** The same with the cloud kernel of the backports. */
  readonly "nested-6.12": LinuxGuest;
  /** Xen of Debian 12 with the generic kernel as dom0, Xen's tools, and in /xen a guest for it. */
  readonly "xen-4.17": XenGuest;
}

export type GuestName = keyof GuestPaths;

export const guestNames: readonly GuestName[] = [
  "cloud-6.1", "generic-6.1", "cloud-6.12", "686-6.1", "seabios", "ovmf", "memtest86+", "disk-bios", "disk-efi", "bench", "bench-686", "nested-6.1",
  "nested-6.12", "xen-4.17",
];
