/**
 * @file Unlike kernels of several models, one of each, all together: words of their own one after the other, one wide word, and branches of a graph.
 * One after the other each runs under its schedule for one alone, in the other ways under that for one beside others. All ways run on the same
 * memory and must give the same bits. Weights come from memory, as in a model's round.
 */
import { InputError } from '../compiler/errors.ts';
import { virtualBlocks } from '../ir/blocks.ts';
import { classOf, type KernelClass } from '../ir/class.ts';
import { type Kernel, kernelVariants } from '../ir/kernel.ts';
import { blocksPerUnit } from '../ir/occupancy.ts';
import type { WordOrder } from '../ir/program.ts';
import { targetOf } from '../ir/target.ts';
import { bytesOf } from '../ir/tensor.ts';
import { type Work, workOf } from '../ir/work.ts';
import { type BlockCurve, timeOn } from '../passes/block_time.ts';
import { blocksWithRoom } from '../passes/leave_room.ts';
import { urgencies } from '../passes/urgency.ts';
import { endTogether, type Load, shapeWord } from '../passes/word_time.ts';
import { CodeCache } from '../runtime/cache.ts';
import type {
  NativeDevice,
  NativeFunction,
  NativeProgram,
  NativeSlot,
  NativeWord,
} from '../runtime/native.ts';
import type { Launch } from '../runtime/program.ts';
import { type Toolchain, toolchainOf } from '../runtime/toolchain.ts';
import { median, timeInTurns } from '../runtime/turns.ts';
import type { BlockTable } from './block_table.ts';
import { type CodeReport, codeOfClasses, type Progress, resourcesOf } from './code.ts';
import { distinctKernels, goesBy, namesOf, scheduledBy } from './distinct_kernels.ts';
import { constantBytes, copiesOf, KernelMemory } from './kernel_memory.ts';
import { measureKernel } from './measure_blocks.ts';
import type { Model } from './model.ts';
import type { Tuning } from './tuning.ts';

export interface UnlikeOptions {
  /** Which of each model's kernels to choose from, by name or by the node they came from. Default: all. */
  readonly kernel?: string;
  /** How long each way is timed, at least. */
  readonly seconds?: number;
  /** Default true: kernels have the schedules that tuning found on this device. */
  readonly tuning?: boolean;
  readonly onProgress?: (p: Progress) => void;
}

/**
 * `turn`: each begins when the one before has ended. `chain`: it begins while that one ends, where the GPU lets it. `shares`: a wide word whose
 * slots are constrained, so that all end together.
 */
export type UnlikeWay = 'turn' | 'chain' | 'wide' | 'shares' | 'branches';

export interface UnlikeKernel {
  readonly model: string;
  readonly kernel: string;
  /** The model's nodes that it came from. */
  readonly loc: readonly string[];
  readonly flops: number;
  /** Beside others. */
  readonly virtualBlocks: number;
  /** By itself, as its block times say. */
  readonly milliseconds: number;
  /** Physical blocks in the way `shares`. */
  readonly share?: number;
  /** What its own code takes, on a GPU, as it runs beside others. */
  readonly resources?: CodeReport;
}

export interface UnlikeResult {
  readonly kernels: readonly UnlikeKernel[];
  /** Of all kernels once. None if there is a problem. */
  readonly ways: readonly { readonly way: UnlikeWay; readonly milliseconds: number }[];
  /** What a plan would give slots: these shares, or all their blocks, as it expects no gain from shares. */
  readonly planned: 'shares' | 'wide';
  /** What the code of all kernels takes, on a GPU, and how many of its blocks a multiprocessor holds. */
  readonly code?: CodeReport & { readonly blocksPerUnit: number };
  /** Set if some way gives other bits than the chain, which would be a bug. */
  readonly problem?: string;
}

/** One of a model's kernels that could be chosen. */
interface Choice {
  /** Of its class. */
  readonly key: string;
  readonly flops: number;
  /** Expected. */
  readonly milliseconds: number;
}

/** Kernels with less than this part of the arithmetic of their model's costliest do not stand for it. */
const leastPart = 0.1;

/**
 * Of each model a kernel of a class that no model before it has chosen; undefined where there is none left. All should take about as long, so
 * it is the one nearest to the middle of what the models' costliest kernels take.
 */
export function chooseUnlike<C extends Choice>(models: readonly (readonly C[])[]): (C | undefined)[] {
  const costliest = models.map((all) => all.reduce((best, c) => (c.flops > best.flops ? c : best), all[0]!));
  const middle = median(costliest.map((c) => c.milliseconds));
  const off = (c: C): number => Math.abs(Math.log(c.milliseconds / middle));
  const taken = new Set<string>();
  return models.map((all, n) => {
    const free = all.filter((c) => !taken.has(c.key));
    const costly = free.filter((c) => c.flops >= leastPart * costliest[n]!.flops);
    const [found] = (costly.length > 0 ? costly : free).sort((a, b) => off(a) - off(b) || b.flops - a.flops);
    if (found) taken.add(found.key);
    return found;
  });
}

/** A kernel under one schedule. */
interface Scheduled {
  readonly kernel: Kernel;
  readonly kernelClass: KernelClass;
  readonly work: Work;
}

/** A chosen kernel, with what is needed to run it: as it runs alone, and as it does beside others. */
interface Chosen extends Choice {
  readonly model: string;
  readonly alone: Scheduled;
  readonly beside: Scheduled;
  readonly isConstant: readonly boolean[];
}

/** The tier of all code here: sizes are constants, as one model's kernels have them. */
const tier = 'specialised';

/** Where and how kernels are measured. */
interface Lab {
  readonly device: NativeDevice;
  readonly cache: CodeCache;
  readonly toolchain: Toolchain;
  readonly blocks: BlockTable;
}

/** See `Device.measureUnlike`. */
export async function measureUnlike(
  device: NativeDevice,
  models: readonly Model[],
  cache: CodeCache,
  tuning: Tuning | undefined,
  blocks: BlockTable,
  { kernel, seconds = 0, onProgress = () => {} }: UnlikeOptions,
): Promise<UnlikeResult> {
  const lab = { device, cache, toolchain: toolchainOf(device.target), blocks };
  const chosen = chooseUnlike(models.map((m) => choicesOf(lab, m, tuning, kernel))).map((c, n) => {
    if (c) return c;
    throw new InputError(`${models[n]!.name} has no kernel of a class that no model before it has chosen`);
  });
  let cached = 0;
  const told = { total: chosen.length + 1, done: 0 };
  const kernels: UnlikeKernel[] = [];
  const codes: Codes[] = [];
  const curves: BlockCurve[] = [];
  const problems: string[] = [];
  for (const c of chosen) {
    const { kernel } = c.beside;
    for (const variant of new Set([c.alone, c.beside])) {
      if (blocks.timeOf(variantOf(variant), tier).measured) continue;
      const { problem } = await measureKernel({ ...lab, tier }, variant.kernel, c.isConstant);
      if (problem !== undefined) problems.push(`${kernel.name} of ${c.model}: ${problem}`);
    }
    const alone = await loadCode(lab, [c.alone.kernelClass]);
    const beside = c.beside === c.alone ? alone : await loadCode(lab, [c.beside.kernelClass]);
    if (alone.cached && beside.cached) cached++;
    codes.push({ alone, beside });
    curves.push(blocks.timeOf(variantOf(c.beside), tier).curve);
    kernels.push({
      model: c.model,
      kernel: kernel.name,
      loc: kernel.loc,
      flops: c.flops,
      virtualBlocks: virtualBlocks(kernel),
      milliseconds: aloneOn(lab, c.alone),
      ...(beside.resources && { resources: beside.resources }),
    });
    told.done++;
    onProgress({ ...told, cached, name: kernel.name });
  }
  const wide = await loadCode(
    lab,
    chosen.map((c) => c.beside.kernelClass),
  );
  const { shares, planned } = sharesOf(lab, kernels, curves, wide);
  const report = {
    kernels: kernels.map((k, n) => ({ ...k, ...(shares && { share: shares[n]! }) })),
    planned,
    ...(wide.resources && { code: { ...wide.resources, blocksPerUnit: perUnit(device, wide) } }),
  };
  const failed = (problem: string): UnlikeResult => ({ ...report, ways: [], problem });
  if (problems.length > 0) return failed(problems.join('; '));
  const together = new UnlikeKernels(device, chosen, codes, curves, wide, blocks);
  try {
    const programs = together.programs(shares);
    const problem = await together.check(programs);
    if (problem !== undefined) return failed(problem);
    const times = await together.time([...programs.values()], seconds);
    onProgress({ total: told.total, done: told.total, cached, name: wide.entry });
    return { ...report, ways: [...programs.keys()].map((way, n) => ({ way, milliseconds: times[n]! })) };
  } finally {
    together.close();
  }
}

/** The kernels of a model that are asked for. */
function choicesOf(lab: Lab, model: Model, tuning: Tuning | undefined, name: string | undefined): Chosen[] {
  const target = targetOf(lab.device.target);
  const all = distinctKernels([model], target.name);
  const some = name === undefined ? all : all.filter(({ kernel }) => goesBy(kernel, name));
  if (some.length === 0)
    throw new InputError(`${model.name} has no kernel '${name}': ${namesOf(all.map((d) => d.kernel))}`);
  return some.map(({ kernel: unscheduled, isConstant }) => {
    const [first, second] = kernelVariants(scheduledBy(tuning, unscheduled, target));
    const alone = scheduled(first.kernel);
    const beside = second?.from === 1 ? scheduled(second.kernel) : alone;
    const { key } = alone.kernelClass;
    const { flops } = alone.work;
    return { model: model.name, alone, beside, isConstant, key, flops, milliseconds: aloneOn(lab, alone) };
  });
}

const scheduled = (kernel: Kernel): Scheduled => ({
  kernel,
  kernelClass: classOf(kernel, tier),
  work: workOf(kernel),
});

/** Milliseconds on all of its blocks, with nothing beside it. */
function aloneOn({ blocks }: Lab, s: Scheduled): number {
  const virtual = virtualBlocks(s.kernel);
  return timeOn(blocks.timeOf(variantOf(s), tier).curve, virtual, virtual);
}

/** As a task of a model has it. */
const variantOf = ({ kernel, kernelClass: { key }, work }: Scheduled) => ({
  classes: { generic: key, specialised: key },
  sizes: classOf(kernel, 'generic').sizes.values,
  blocks: virtualBlocks(kernel),
  work,
  operands: [],
});

interface Code {
  readonly entry: string;
  readonly code: NativeFunction;
  readonly launch: Launch;
  readonly cached: boolean;
  /** On a GPU. */
  readonly resources?: CodeReport;
}

/** Of a kernel by itself, and beside others. */
interface Codes {
  readonly alone: Code;
  readonly beside: Code;
}

async function loadCode({ device, cache, toolchain }: Lab, classes: readonly KernelClass[]): Promise<Code> {
  const ready = await codeOfClasses(classes, device.target, cache, toolchain);
  const { entry, path, symbol, launch, cached } = ready;
  if (device.kind === 'host') return { entry, code: device.load(path, symbol), launch, cached };
  const code = device.load(await CodeCache.read(path), symbol);
  return { entry, code, launch, cached, resources: await resourcesOf(ready) };
}

const perUnit = (device: NativeDevice, { resources }: Code): number =>
  resources ? blocksPerUnit(resources, targetOf(device.target)) : Number.POSITIVE_INFINITY;

/** Physical blocks of each slot of the wide word, so that all end together; undefined if there are fewer places than slots. */
function sharesOf(
  { device }: Lab,
  kernels: readonly UnlikeKernel[],
  curves: readonly BlockCurve[],
  wide: Code,
): { readonly shares: readonly number[] | undefined; readonly planned: UnlikeResult['planned'] } {
  const most = device.units * perUnit(device, wide);
  const loads = kernels.map(({ virtualBlocks: virtual }, n): Load => {
    const curve = curves[n]!;
    return { virtual, curve: { ...curve, places: Math.min(curve.places, most) } };
  });
  const shape = shapeWord(loads).blocks;
  const isPlanned = shape.some((b, n) => b < loads[n]!.virtual);
  return { shares: isPlanned ? shape : endTogether(loads)?.blocks, planned: isPlanned ? 'shares' : 'wide' };
}

/** The chosen kernels on the device, each a tenant of its own. */
class UnlikeKernels {
  readonly #memories: KernelMemory[] = [];
  readonly #programs: NativeProgram[] = [];
  /** Of all weights. A program runs all kernels once on each. */
  readonly #copies: number;
  /** For each copy, each kernel's slot with all its blocks: as it runs alone, and beside others. */
  readonly #alone: readonly (readonly NativeSlot[])[];
  readonly #beside: readonly (readonly NativeSlot[])[];

  constructor(
    private readonly device: NativeDevice,
    private readonly chosen: readonly Chosen[],
    private readonly codes: readonly Codes[],
    private readonly curves: readonly BlockCurve[],
    private readonly wide: Code,
    private readonly blocks: BlockTable,
  ) {
    const bytes = chosen.reduce(
      (sum, { alone, isConstant }) => sum + constantBytes(alone.kernel, isConstant),
      0,
    );
    this.#copies = copiesOf(bytes, device.kind);
    for (const { alone, isConstant } of chosen)
      this.#memories.push(new KernelMemory(device, alone.kernel, isConstant, this.#copies, 1));
    this.#alone = this.#slotsOf(chosen.map((c) => c.alone));
    this.#beside = this.#slotsOf(chosen.map((c) => c.beside));
  }

  #slotsOf(kernels: readonly Scheduled[]): NativeSlot[][] {
    return Array.from({ length: this.#copies }, (_, copy) =>
      kernels.map(({ kernel }, tenant) => {
        const end = virtualBlocks(kernel);
        const sizes = classOf(kernel, tier).sizes.values;
        const operands = this.#memories[tenant]!.operands(copy, 0, kernel).map((operand, at) => ({
          ...operand,
          constant: this.chosen[tenant]!.isConstant[at] ?? false,
        }));
        return { tenant, body: 0, begin: 0, end, blocks: end, sizes, operands };
      }),
    );
  }

  /** A program of each way. */
  programs(shares: readonly number[] | undefined): Map<UnlikeWay, NativeProgram> {
    const single = (all: readonly (readonly NativeSlot[])[], code: (of: Codes) => Code): NativeWord[] =>
      all.flatMap((slots) => slots.map((slot, n) => wordOn(code(this.codes[n]!), [slot])));
    const wide = (blocks?: readonly number[]): NativeWord[] =>
      this.#beside.map((s) => this.#wideWord(s, blocks));
    const words = new Map<UnlikeWay, NativeWord[]>([
      ['turn', single(this.#alone, (c) => c.alone)],
      ['chain', single(this.#alone, (c) => c.alone)],
      ['wide', wide()],
      ...(shares ? [['shares', wide(shares)] as const] : []),
      ['branches', this.#urgent(single(this.#beside, (c) => c.beside))],
    ]);
    const programs = new Map<UnlikeWay, NativeProgram>();
    for (const [way, list] of words) {
      const program = this.device.createProgram(list, { order: orders[way] });
      this.#programs.push(program);
      programs.set(way, program);
    }
    return programs;
  }

  /** Runs every way once; gives what is wrong if one has other outputs than the first. */
  async check(programs: ReadonlyMap<UnlikeWay, NativeProgram>): Promise<string | undefined> {
    let expected: readonly (readonly Uint8Array[])[] | undefined;
    for (const [way, program] of programs) {
      for (const memory of this.#memories) memory.spoilOutputs(0);
      const outputs = this.#memories.map((m) => m.outputs(0));
      await program.run({ active: this.#everyone, writes: [], reads: outputs.flatMap((o) => o.reads) });
      const got = outputs.map((o) => o.tensors.map(bytesOf));
      expected ??= got;
      const wrong = got.findIndex((own, n) => own.some((b, i) => Buffer.compare(b, expected![n]![i]!) !== 0));
      if (wrong < 0) continue;
      const { alone, model } = this.chosen[wrong]!;
      return `${alone.kernel.name} of ${model} has other bits in the way '${way}' than in a word of its own`;
    }
    return undefined;
  }

  /** Milliseconds of all kernels once, in each way. */
  async time(programs: readonly NativeProgram[], seconds: number): Promise<number[]> {
    const everyone = this.#everyone;
    const times = await timeInTurns(
      programs.map((p) => (rounds) => p.time(everyone, rounds)),
      seconds,
    );
    return times.map((t) => t / this.#copies);
  }

  close(): void {
    for (const p of this.#programs.splice(0)) p.close();
    for (const m of this.#memories.splice(0)) m.close();
  }

  get #everyone(): number[] {
    return [...this.chosen.keys()];
  }

  /** All kernels in one word; long blocks first, as plans have them, so that what ends last is short. */
  #wideWord(slots: readonly NativeSlot[], shares?: readonly number[]): NativeWord {
    const all = slots.map((slot, n) => ({ ...slot, body: n, blocks: shares?.[n] ?? slot.blocks }));
    all.sort((a, b) => this.curves[b.tenant]!.round - this.curves[a.tenant]!.round || a.tenant - b.tenant);
    return wordOn(this.wide, all);
  }

  /** As a plan has branches: the more urgent first, and room for others beside what takes many blocks. */
  #urgent(words: readonly NativeWord[]): NativeWord[] {
    const plan = words.map(({ slots: [slot] }) => ({
      tier: tier as typeof tier,
      classes: [],
      slots: [{ tenant: slot!.tenant, task: 0, body: 0, blocks: slot!.blocks }],
    }));
    const times = words.map(({ slots: [slot] }) =>
      timeOn(this.curves[slot!.tenant]!, slot!.end, slot!.blocks),
    );
    const urgency = urgencies(plan, times);
    return words.map((word, n) => {
      const [slot] = word.slots as [NativeSlot];
      // The host runs branches in order: nobody would have the room.
      const known =
        this.device.kind === 'cuda'
          ? this.blocks.onBlocks(variantOf(this.chosen[slot.tenant]!.beside), tier)
          : undefined;
      const blocks = blocksWithRoom(known, slot.end, urgency[n]!);
      return { ...word, slots: [{ ...slot, blocks }], urgency: urgency[n]! };
    });
  }
}

const orders: { readonly [W in UnlikeWay]: WordOrder | 'strict' } = {
  ...{ turn: 'strict', chain: 'chain', wide: 'chain', shares: 'chain', branches: 'branches' },
};

const wordOn = ({ code, launch }: Code, slots: readonly NativeSlot[]): NativeWord => ({
  code,
  threads: launch.threads,
  sharedBytes: launch.sharedBytes,
  slots,
});
