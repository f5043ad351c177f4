/** Debian's cloud kernel from the start of the process to userland. */
import { ensureGuests } from "../../src/host/node/guests/index.ts";
import type { Bench, BenchRow } from "../contract.ts";
import { bootGuest, CommandGuest, startGuest, uptimeCommand, type BootMeasurement } from "../guest-run.ts";
import { interleave } from "../interleave.ts";
import { formatBytes, formatSeconds } from "../report/format.ts";
import { median } from "../statistics.ts";

interface Boot extends BootMeasurement {
  /** Ours only. */
  readonly instructions: number | undefined;
}

function medianOf(boots: readonly Boot[], figure: (boot: Boot) => number | undefined): number | undefined {
  const values = boots.map(figure).filter((value) => value !== undefined);
  return values.length === 0 ? undefined : median(values);
}

export const boot: Bench = {
  name: "boot",
  summary: "a Debian kernel from the start of the process to the first command of /init",
  peers: ["qemu"],
  defaultRuns: 3,
  async run(options) {
    const { "cloud-6.1": cloud } = await ensureGuests(["cloud-6.1"], { onProgress: options.onProgress });
    await using command = await CommandGuest.create(cloud, uptimeCommand);
    const boots = await interleave(options.runs, async (side, run): Promise<Boot> => {
      const subject = options[side];
      await using guest = startGuest(subject, command);
      const measured = await bootGuest(guest, options.timeoutSeconds, options.signal);
      await guest.stop();
      options.log(`run ${run + 1}/${options.runs}: ${subject.name} ${formatSeconds(measured.seconds)} (guest's clock ${formatSeconds(measured.guestSeconds)}), resident ${formatBytes(measured.residentBytes)}`);
      return { ...measured, instructions: guest.sampleAt(measured.consoleBytes)?.instructions };
    });
    const oursSeconds = median(boots.ours.map(({ seconds }) => seconds));
    const peerSeconds = median(boots.peer.map(({ seconds }) => seconds));
    const oursInstructions = medianOf(boots.ours, ({ instructions }) => instructions) ?? 0;
    const row: BenchRow = {
      name: "boot", oursSeconds, peerSeconds, ratio: oursSeconds / peerSeconds,
      oursRuns: boots.ours.map(({ seconds }) => seconds), peerRuns: boots.peer.map(({ seconds }) => seconds),
      oursGuestSeconds: medianOf(boots.ours, ({ guestSeconds }) => guestSeconds),
      peerGuestSeconds: medianOf(boots.peer, ({ guestSeconds }) => guestSeconds),
      oursResidentBytes: medianOf(boots.ours, ({ residentBytes }) => residentBytes),
      peerResidentBytes: medianOf(boots.peer, ({ residentBytes }) => residentBytes),
      oursInstructions,
    };
    const clocks = (["ours", "peer"] as const).map((side) =>
      `${options[side].name}: /init after ${formatSeconds(medianOf(boots[side], ({ guestInitSeconds }) => guestInitSeconds))}, first command after ${formatSeconds(medianOf(boots[side], ({ guestSeconds }) => guestSeconds))} of the guest's own clock`);
    return {
      title: `boot to userland, ours against ${options.peer.name}`,
      rows: [row],
      columns: [
        { title: "ours resident", text: ({ oursResidentBytes }) => formatBytes(oursResidentBytes) },
        { title: "peer resident", text: ({ peerResidentBytes }) => formatBytes(peerResidentBytes) },
      ],
      notes: [...clocks, `ours: ${(oursInstructions / 1e6).toFixed(0)} million guest instructions, ${(oursInstructions / oursSeconds / 1e6).toFixed(0)} guest MIPS`],
    };
  },
};
