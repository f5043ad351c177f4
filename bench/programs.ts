/** The programs of guests/bench: what each computes, and how long it may take. */

/** In the order of guests/bench/run.sh, with the checksum of each at scale 1, from the programs run natively: the same for 32 and 64 bits. */
export const programs: Readonly<Record<string, string>> = {
  intloop: "4c0eea015b6bef39",
  sieve: "000000000016b9b2",
  crc32: "00000000ac084836",
  sha256: "e59bf0a8ab61ec86",
  dhry: "00000500034a46b9",
  matmul_x87: "0000000000f8ef61",
  matmul_sse2: "0000000000f8ef61",
  nbody_x87: "ffffffffffe6332b",
  nbody_sse2: "ffffffffffe6332b",
  syscall: "00000000000186a0",
  forkexec: "000000000000015e",
  memcpy: "af08aa450dc23fcd",
  pagefault: "0000000000024000",
};

/** At scale 1; the slowest program takes a tenth of it on the slowest peer. */
export const programLimitSeconds = 60;

/** What a program measured of itself. */
export interface ProgramFigures {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly checksum: string;
}

const killedStatus = 128 + 9;

/** The shell command that runs a program within its limit and marks where its output begins and ends. */
export function programCommand(name: string, scale: number, limitSeconds: number): string {
  return `echo BEGIN ${name}; timeout -s KILL ${limitSeconds} /bench/${name} ${scale}; echo END ${name} $?`;
}

/** The figures in what a program printed, or why there are none. */
export function parseProgramOutput(name: string, output: string, status: number, limitSeconds: number): ProgramFigures | string {
  if (status === killedStatus) return `took more than ${limitSeconds} s`;
  if (status !== 0) return `ended with status ${status}${output.trim() === "" ? "" : `: ${output.trim()}`}`;
  const line = new RegExp(`BENCH ${name} elapsed=(?<elapsed>[\\d.]+) cpu=(?<cpu>[\\d.]+) checksum=(?<checksum>[\\da-f]+)`, "u").exec(output)?.groups;
  if (line === undefined) return `printed no result: ${output.trim()}`;
  return { seconds: Number(line["elapsed"]), cpuSeconds: Number(line["cpu"]), checksum: line["checksum"] };
}
