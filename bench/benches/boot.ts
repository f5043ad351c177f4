/** A Debian kernel from the start of the process to userland. */
import { ensureGuests } from "../../src/host/node/guests/index.ts";
import type { Bench, BenchRow } from "../contract.ts";
import { bootGuest, CommandGuest, describeMemory, startGuest, uptimeCommand, type BootMeasurement } from "../guest-run.ts";
import { interleave, sides } from "../interleave.ts";
import { formatBytes, formatSeconds } from "../report/format.ts";
import { median, medianOfKnown } from "../statistics.ts";
import { guestPeerNames, prepareSides } from "../subjects/index.ts";

interface Boot extends BootMeasurement {
  /** Ours only. */
  readonly instructions: number | undefined;
}

const defaultTimeoutSeconds = 300;

export const boot: Bench = {
  name: "boot",
  summary: "a Debian kernel from the start of the process to the first command of /init",
  peers: guestPeerNames,
  defaultRuns: 5,
  async run(options) {
    const subjects = await prepareSides(options);
    const name = subjects.peer.architecture === "i386" ? "686-6.1" : "cloud-6.1";
    const { [name]: kernel } = await ensureGuests([name], { onProgress: options.onProgress });
    await using command = await CommandGuest.create(kernel, uptimeCommand);
    const boots = await interleave(options.runs, async (side, run): Promise<Boot> => {
      const subject = subjects[side];
      await using guest = startGuest(subject, command);
      const measured = await bootGuest(guest, options.timeoutSeconds ?? defaultTimeoutSeconds, options.signal);
      await guest.stop();
      options.log(`run ${run + 1}/${options.runs}: ${subject.name} ${formatSeconds(measured.seconds)} (guest's clock ${formatSeconds(measured.guestSeconds)}), resident ${formatBytes(measured.memory.residentBytes)}`);
      return { ...measured, instructions: guest.sampleAt(measured.consoleBytes)?.instructions };
    });
    const oursSeconds = median(boots.ours.map(({ seconds }) => seconds));
    const peerSeconds = median(boots.peer.map(({ seconds }) => seconds));
    const oursInstructions = medianOfKnown(boots.ours.map(({ instructions }) => instructions)) ?? 0;
    const row: BenchRow = {
      name: "boot", oursSeconds, peerSeconds, ratio: oursSeconds / peerSeconds,
      oursRuns: boots.ours.map(({ seconds }) => seconds), peerRuns: boots.peer.map(({ seconds }) => seconds),
      oursGuestSeconds: median(boots.ours.map(({ guestSeconds }) => guestSeconds)),
      peerGuestSeconds: median(boots.peer.map(({ guestSeconds }) => guestSeconds)),
      oursResidentBytes: medianOfKnown(boots.ours.map(({ memory }) => memory.residentBytes)),
      peerResidentBytes: medianOfKnown(boots.peer.map(({ memory }) => memory.residentBytes)),
      oursProportionalBytes: medianOfKnown(boots.ours.map(({ memory }) => memory.proportionalBytes)),
      peerProportionalBytes: medianOfKnown(boots.peer.map(({ memory }) => memory.proportionalBytes)),
      oursInstructions,
    };
    const clocks = sides.map((side) => {
      const figure = (of: (measured: Boot) => number): string => formatSeconds(median(boots[side].map(of)));
      return `${subjects[side].name}: /init after ${figure(({ guestInitSeconds }) => guestInitSeconds)}, first command after ${figure(({ guestSeconds }) => guestSeconds)} of the guest's own clock`;
    });
    return {
      title: `boot of Debian's ${name} to userland, ours against ${subjects.peer.name}`,
      subtitle: `${subjects.ours.description}; ${subjects.peer.description}`,
      rows: [row],
      columns: [
        { title: "ours resident", text: ({ oursResidentBytes }) => formatBytes(oursResidentBytes) },
        { title: "peer resident", text: ({ peerResidentBytes }) => formatBytes(peerResidentBytes) },
      ],
      notes: [
        ...clocks,
        `ours: ${(oursInstructions / 1e6).toFixed(0)} million guest instructions, ${(oursInstructions / oursSeconds / 1e6).toFixed(0)} guest MIPS`,
        describeMemory(sides.map((side) => ({ name: subjects[side].name, sizes: boots[side].map(({ memory }) => memory) }))),
      ],
    };
  },
};
