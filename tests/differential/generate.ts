/** Makes cases: any case of any form can be made again from the seed, the form's key and the case's number. */
import { encode, demandedAddressSize, place, usesAddress } from "./encoder.ts";
import { writeFloatingState } from "./floating-state.ts";
import type { Form } from "./forms.ts";
import {
  CaseFlag, codeBase, dataBase, MemoryMap, recordBytes, RecordOffset, Selector, windowBytes,
} from "./layout.ts";
import type { CaseBatch } from "./layout.ts";
import { planOf } from "./prepare.ts";
import type { Plan } from "./prepare.ts";
import { hashText, Random } from "./random.ts";
import { RflagsBit, Scene, segmentOrder, statusFlags } from "./scene.ts";
import { integers, poolBytes, pools } from "./values.ts";
import type { ValueKind } from "./values.ts";

const longestInstruction = 15;

export class CaseGenerator {
  private readonly seed: number;
  private readonly random: Random = new Random();
  private readonly plans = new Map<Form, { readonly plan: Plan; readonly hash: number }>();

  constructor(seed: number) {
    this.seed = seed;
  }

  /** Appends case number `caseNumber` of the form to the batch. */
  append(form: Form, caseNumber: number, batch: CaseBatch): void {
    const { random } = this;
    const { plan, hash } = this.lookUp(form);
    random.reseed(this.seed, hash, caseNumber);
    const record = batch.count++;
    const start = record * recordBytes;
    const gpr = batch.words.subarray((start + RecordOffset.gpr) / 8, (start + RecordOffset.gpr) / 8 + 16);
    const window = batch.window(record);
    const kind = random.chance(80) ? plan.kind : random.pick<ValueKind>(["integer", "float32", "float64"]);
    window.set(poolSlice(random, pools[kind], windowBytes));
    const scene = new Scene(random, form, gpr, window);
    setRegisters(scene);
    scene.rflags = chooseFlags(random);
    writeFloatingState(random, batch.fxsave(record), kind, plan.isMmx && random.chance(80));
    scene.codeOffset = random.between(300, 3700);
    scene.target = scene.chooseTarget(plan.operandBytes, plan.alignmentBytes);
    chooseAddressing(scene, plan);
    const operandKind = kind === "integer" && plan.kind !== "integer" && random.chance(50) ? plan.kind : kind;
    scene.poke(scene.target, poolSlice(random, pools[operandKind], Math.ceil(plan.operandBytes / 16) * 16).subarray(0, plan.operandBytes));
    encodeInto(scene, plan);
    plan.finish?.(scene);
    placeInstruction(scene, plan);
    write(scene, plan, batch, record);
  }

  private lookUp(form: Form): { readonly plan: Plan; readonly hash: number } {
    let found = this.plans.get(form);
    if (found === undefined) {
      found = { plan: planOf(form), hash: hashText(form.key) };
      this.plans.set(form, found);
    }
    return found;
  }
}

function poolSlice(random: Random, pool: Uint8Array, sizeBytes: number): Uint8Array {
  const at = random.below((poolBytes - sizeBytes) / 16) * 16;
  return pool.subarray(at, at + sizeBytes);
}

function setRegisters({ random, form, gpr, windowAddress }: Scene): void {
  const { bits } = form;
  for (let register = 0; register < 16; register++) {
    const value = integers[random.next() & (integers.length - 1)];
    gpr[register] = bits === 64 ? value : register < 8 ? value & 0xffff_ffffn : 0n;
  }
  const misalignment = random.chance(8) ? random.below(8) : 0;
  const pointer = BigInt(windowAddress - dataBase(bits) + 512 + misalignment);
  gpr[4] = bits === 16 ? (gpr[4] & 0xffff_0000n) | pointer : pointer;
}

function chooseFlags(random: Random): number {
  let flags = 0x202;
  for (const flag of statusFlags) if (random.chance(50)) flags |= flag;
  if (random.chance(20)) flags |= RflagsBit.direction;
  if (random.chance(2)) flags |= RflagsBit.nestedTask;
  if (random.chance(3)) flags |= RflagsBit.alignmentCheck;
  if (random.chance(10)) flags |= RflagsBit.identification;
  return flags;
}

/** Address size, override and, outside of 64-bit mode, a segment with limits. */
function chooseAddressing(scene: Scene, plan: Plan): void {
  const { random, form } = scene;
  const { bits, encoding } = form;
  const demanded = demandedAddressSize(encoding);
  const hasAddress = usesAddress(form) || plan.repeats.length > 1;
  const isOther = demanded === undefined ? hasAddress && random.chance(10) : demanded !== bits;
  if (isOther) scene.addressSize = bits === 32 ? 16 : 32;
  scene.repeat = random.pick(plan.repeats);
  if (form.rm === "memory" && bits !== 64 && random.chance(8)) return chooseLimitedSegment(scene);
  if (form.rm === "memory" && bits === 32 && scene.addressSize === 16) {
    // Only FS and GS have bases that 16-bit offsets can work with.
    scene.override = scene.target < MemoryMap.dataB ? 4 : 5;
  } else if (hasAddress && random.chance(10)) {
    scene.override = random.below(6);
  }
}

const limitedSelectors: readonly number[] = [
  Selector.limitedData, Selector.readOnlyData, Selector.expandDown, Selector.data16, Selector.expandDown16, 0, Selector.code16,
];

function chooseLimitedSegment(scene: Scene): void {
  const { random } = scene;
  const segment = random.pick([0, 3, 4, 5]);
  const selector = random.pick(limitedSelectors);
  scene.loadsSegments = true;
  scene.selectors[segmentOrder[segment]] = selector;
  scene.segmentBases[segment] = BigInt(selector === Selector.code16 ? MemoryMap.codePage : selector === 0 ? 0 : MemoryMap.dataA);
  scene.override = segment;
  const edge = random.pick([0, 0x1ff, 0x200, 0x3ff, 0x400, 0x1000, random.below(0x400)]);
  scene.target = Number(scene.segmentBases[segment]) + Math.max(edge + random.between(-12, 3), 0);
}

function encodeInto(scene: Scene, plan: Plan): void {
  const { random, form, gpr } = scene;
  const request = {
    avoid: plan.avoid,
    target: scene.target,
    segmentBases: scene.segmentBases,
    repeat: scene.repeat,
    immediate: (storedBits: number): bigint => plan.immediate?.(scene, storedBits) ?? randomImmediate(random, storedBits),
    branchTarget: (storedBits: number): bigint => scene.branchTarget(storedBits === 8),
  };
  const { addressSize, override } = scene;
  scene.encoded = encode(random, form, gpr, { ...request, isFree: true, addressSize, override });
  if (scene.encoded.bytes.length <= longestInstruction) return;
  scene.override = scene.loadsSegments && form.bits !== 16 ? scene.override : -1;
  scene.addressSize = demandedAddressSize(form.encoding) ?? form.bits;
  scene.encoded = encode(random, form, gpr, {
    ...request, isFree: false, addressSize: scene.addressSize, override: scene.override,
  });
}

function randomImmediate(random: Random, storedBits: number): bigint {
  if (storedBits === 8 && random.chance(50)) return BigInt(random.next() & 0xff);
  return BigInt.asUintN(storedBits, integers[random.next() & (integers.length - 1)]);
}

/** Some instructions end with the page, or do not fit in it. */
function placeInstruction(scene: Scene, plan: Plan): void {
  const { random, encoded, form } = scene;
  const { length } = encoded.bytes;
  if (plan.mayMeetPageEnd && random.chance(3)) {
    const cut = random.chance(40) ? random.below(length) : 0;
    scene.codeOffset = MemoryMap.pageBytes - length + cut;
  }
  place(encoded, MemoryMap.codePage + scene.codeOffset - codeBase(form.bits));
}

function write(scene: Scene, plan: Plan, batch: CaseBatch, record: number): void {
  const { bytes, view, words } = batch;
  const start = record * recordBytes;
  const { encoded, form, selectors } = scene;
  if (form.bits !== 64) for (let register = 0; register < 8; register++) scene.gpr[register] &= 0xffff_ffffn;
  bytes[start + RecordOffset.lengthBytes] = encoded.bytes.length;
  bytes[start + RecordOffset.caseFlags] =
    (plan.exitsByTrap || form.bits === 16 ? CaseFlag.exitByTrap : 0) | (scene.loadsSegments ? CaseFlag.loadSegments : 0);
  view.setUint16(start + RecordOffset.codeOffset, scene.codeOffset, true);
  view.setUint32(start + RecordOffset.windowAddress, scene.windowAddress, true);
  bytes.fill(0, start + RecordOffset.instruction, start + RecordOffset.rflags);
  bytes.set(encoded.bytes, start + RecordOffset.instruction);
  words[(start + RecordOffset.rflags) / 8] = BigInt(scene.rflags);
  words[(start + RecordOffset.fsBase) / 8] = scene.fsBase;
  words[(start + RecordOffset.gsBase) / 8] = scene.gsBase;
  const { ds, es, fs, gs, cs, ss } = selectors;
  for (const [index, selector] of [ds, es, fs, gs, cs, ss, 0, 0].entries()) {
    view.setUint16(start + RecordOffset.selectors + 2 * index, selector, true);
  }
}
