/** The process that `v86` starts: argv[2] is a guest as JSON. The guest's console on standard output. */
import { readFileSync } from "node:fs";
import { flushCompileCache } from "node:module";
import { V86 } from "v86";
import type { V86Job } from "./v86.ts";

const job = JSON.parse(process.argv[2]) as V86Job;

function image(path: string): { readonly buffer: ArrayBuffer } {
  return { buffer: new Uint8Array(readFileSync(path)).buffer };
}

const vm = new V86({
  wasm_path: job.wasm,
  memory_size: job.memoryMib * 2 ** 20,
  bios: image(job.firmware),
  vga_bios: image(job.vgaBios),
  bzimage: image(job.kernel),
  ...(job.initramfs === undefined ? {} : { initrd: image(job.initramfs) }),
  cmdline: job.commandLine,
  disable_speaker: true,
  autostart: true,
});

// One write for what a slice of the guest's time brings, as our own side does it.
let pending: number[] = [];
vm.add_listener("serial0-output-byte", (byte: number) => {
  if (pending.push(byte) > 1) return;
  setImmediate(() => {
    process.stdout.write(Uint8Array.from(pending));
    pending = [];
  });
});
flushCompileCache();
