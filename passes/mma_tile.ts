/**
 * @file Picks the tile of a contraction on tensor cores: estimates every candidate's time on a GPU by counting what a block issues and how
 * many blocks run at once, and takes the least, for words of each width. The estimate looks at the kernel alone, as a tenant's bits depend
 * on the choice.
 */
import { indicesOf } from '../ir/affine.ts';
import { type Contraction, hasWholeSteps, multiplies16Bit, type Operand, volume } from '../ir/contraction.ts';
import type { MmaSchedule, Schedule, Schedules } from '../ir/kernel.ts';
import { contractionStaging, mmaSharedBytes, partDepth, partsOf, sharesRows } from '../ir/mma.ts';
import { scratchOperands } from '../ir/scratch.ts';
import type { Target } from '../ir/target.ts';
import { maxOperands } from '../ir/verify.ts';
import { loadsIn } from '../ir/walk.ts';
import { schedulesByWidth } from './schedules_by_width.ts';

/** Tiles, and how a group's warps share them out. */
const shapes: readonly Pick<MmaSchedule, 'tile' | 'warps'>[] = [
  { tile: { m: 128, n: 128, k: 32 }, warps: { m: 4, n: 2 } },
  { tile: { m: 64, n: 128, k: 32 }, warps: { m: 2, n: 2 } },
  { tile: { m: 64, n: 128, k: 32 }, warps: { m: 2, n: 4 } },
  { tile: { m: 32, n: 256, k: 32 }, warps: { m: 1, n: 8 } },
  { tile: { m: 128, n: 64, k: 32 }, warps: { m: 4, n: 2 } },
  { tile: { m: 128, n: 32, k: 64 }, warps: { m: 4, n: 1 } },
  { tile: { m: 128, n: 64, k: 32 }, warps: { m: 2, n: 2 } },
  { tile: { m: 64, n: 64, k: 32 }, warps: { m: 2, n: 2 } },
  { tile: { m: 64, n: 64, k: 64 }, warps: { m: 2, n: 2 } },
  { tile: { m: 32, n: 128, k: 64 }, warps: { m: 1, n: 4 } },
  { tile: { m: 32, n: 64, k: 64 }, warps: { m: 1, n: 2 } },
  { tile: { m: 32, n: 32, k: 64 }, warps: { m: 1, n: 1 } },
  { tile: { m: 32, n: 128, k: 32 }, warps: { m: 1, n: 4 } },
  { tile: { m: 32, n: 64, k: 32 }, warps: { m: 1, n: 2 } },
  { tile: { m: 64, n: 32, k: 32 }, warps: { m: 2, n: 1 } },
  { tile: { m: 32, n: 32, k: 32 }, warps: { m: 1, n: 1 } },
  { tile: { m: 16, n: 32, k: 32 }, warps: { m: 1, n: 1 } },
  { tile: { m: 32, n: 16, k: 32 }, warps: { m: 1, n: 1 } },
  { tile: { m: 16, n: 16, k: 32 }, warps: { m: 1, n: 1 } },
  // With channels last n is pixels: 49, 196, 784 and 3,136 of them fill tiles of 48, 112, 208 and 224 better than powers of two.
  { tile: { m: 128, n: 224, k: 64 }, warps: { m: 4, n: 2 } },
  { tile: { m: 128, n: 224, k: 32 }, warps: { m: 4, n: 2 } },
  { tile: { m: 64, n: 224, k: 64 }, warps: { m: 4, n: 2 } },
  { tile: { m: 64, n: 224, k: 64 }, warps: { m: 2, n: 2 } },
  { tile: { m: 64, n: 208, k: 64 }, warps: { m: 4, n: 1 } },
  { tile: { m: 128, n: 112, k: 64 }, warps: { m: 4, n: 1 } },
  { tile: { m: 128, n: 112, k: 64 }, warps: { m: 8, n: 1 } },
  { tile: { m: 128, n: 112, k: 32 }, warps: { m: 4, n: 1 } },
  { tile: { m: 64, n: 112, k: 64 }, warps: { m: 4, n: 1 } },
  { tile: { m: 32, n: 112, k: 64 }, warps: { m: 2, n: 1 } },
  { tile: { m: 128, n: 64, k: 64 }, warps: { m: 4, n: 1 } },
  { tile: { m: 128, n: 48, k: 64 }, warps: { m: 4, n: 1 } },
  { tile: { m: 64, n: 48, k: 64 }, warps: { m: 4, n: 1 } },
  { tile: { m: 64, n: 48, k: 64 }, warps: { m: 2, n: 1 } },
  { tile: { m: 64, n: 32, k: 64 }, warps: { m: 2, n: 1 } },
  { tile: { m: 32, n: 48, k: 64 }, warps: { m: 2, n: 1 } },
  { tile: { m: 128, n: 128, k: 64 }, warps: { m: 4, n: 2 } },
];

/** How many copies of the kernel run side by side in the estimate: a tenant alone, and a word that is worth its name. */
export const widths = [1, 8];

/**
 * Clocks and rates of one multiprocessor. Fitted to the time of 500 schedules of ResNet-50's layers on an H200, alone and eight at once
 * (docs/performance.md), which they give within 13 % on average.
 */
const machine = {
  sharedBytes: 227 * 1024,
  threads: 2048,
  registers: 65536,
  /** Registers of a thread besides its sums. */
  overhead: 90,
  /** Thread instructions a clock. */
  issue: 128,
  /** Multiplications a clock that mma.sync reaches. */
  multiply: 1100,
  /** Bytes a clock from the L2 cache where all multiprocessors ask for them, and where few do. */
  bytes: 18,
  bytesAlone: 30,
  /** Instructions of an asynchronous copy; of an element that passes through registers; for each guard of it; of one in whole steps. */
  copy: 7,
  element: 13,
  guard: 5,
  wholeStep: 5,
  /** Clocks of an ldmatrix with its conflicts and addresses, and of an instruction of a thread that waits for the one before. */
  fragment: 3,
  serial: 1.4,
  /** Instructions of the epilogue: for an output, and for an access. */
  output: 6,
  access: 30,
  /** Clocks from a copy's issue to its arrival; of a step's barrier; of a block's start and end. */
  latency: 300,
  step: 70,
  block: 3700,
  /** Of blocks that share a tile: clocks until the last knows that it is, and bytes a clock at which it then takes the sums of all. */
  join: 2500,
  takes: 24,
} as const;

/** True if a contraction runs on the target's tensor cores. */
export function usesMma(c: Contraction, target: Target): boolean {
  if (!target.mma || !multiplies16Bit(c)) return false;
  const [m, n, k] = [volume(c.m), volume(c.n), volume(c.k)];
  if (Math.min(m, n) >= 8) return k >= 8;
  // One row by a matrix fills no tile, but its copies are wide and run ahead.
  return Math.max(m, n) >= 64 && k >= 128 && c.a.vector === 8 && c.b.vector === 8;
}

/**
 * What the estimate of a schedule whose blocks share tiles is taken times, as the exchange of sums in it was never measured: it must promise
 * more than this before it becomes a default. The tuner goes by what it measures.
 */
const doubt = 1.15;

/** Widths from which a word may have a schedule of its own. */
const widthSteps = [1, 4, 8, 32];

/**
 * The schedules that are estimated to take the least time: one number of parts of k, as the bits depend on it, and for each width the best
 * schedule of so many parts. Of numbers of parts the one with the least time at all `widths` together; times count, not ratios, so a wide
 * word counts more.
 */
export function mmaSchedules(c: Contraction, target: Target): Schedules {
  const time = (s: MmaSchedule, width: number): number =>
    estimateMma(c, s, width, target) * (s.splits > 1 ? doubt : 1);
  const byParts = new Map<number, Map<number, Timed<MmaSchedule>>>();
  for (const schedule of mmaCandidates(c, target)) {
    const parts = partsOf(schedule);
    let best = byParts.get(parts);
    if (!best) byParts.set(parts, (best = new Map()));
    for (const width of widthSteps) {
      const estimated = time(schedule, width);
      if (estimated < (best.get(width)?.time ?? Number.POSITIVE_INFINITY))
        best.set(width, { schedule, time: estimated });
    }
  }
  const together = (best: ReadonlyMap<number, Timed<MmaSchedule>>): number =>
    widths.reduce((sum, width) => sum + best.get(width)!.time, 0);
  const least = [...byParts.values()].reduce((a, b) => (together(b) < together(a) ? b : a));
  return schedulesByWidth(
    widthSteps.map((width) => ({ width, best: least.get(width)!.schedule })),
    time,
  );
}

interface Timed<S extends Schedule> {
  readonly schedule: S;
  readonly time: number;
}

/** More elements than this cost a thread too many registers, and its loads come one after another. */
const mostCarried = 48;

/** Every schedule that is worth measuring. */
export function* mmaCandidates(c: Contraction, target: Target): Generator<MmaSchedule> {
  const k = volume(c.k);
  for (const { tile, warps } of shapes) {
    const group = 32 * warps.m * warps.n;
    const carried = (o: Operand, side: number): number => (o.vector > 1 ? 0 : (side * tile.k) / group);
    // What a thread carries in registers from one step to the next.
    if (carried(c.a, tile.m) + carried(c.b, tile.n) > mostCarried) continue;
    for (const segments of [1, 2, 4, 8]) {
      const threads = group * segments;
      // A segment of less than four steps is not worth its epilogue.
      if (threads > 256 || (segments > 1 && k < 4 * tile.k * segments)) continue;
      // What passes through registers is on its way for one step, however deep the stages.
      const copied = c.a.vector > 1 && c.b.vector > 1;
      for (const splits of splitsOf(c, tile, segments, target))
        for (const stages of copied ? [4, 3, 2] : [2]) {
          const s = { skeleton: 'mma', threads, tile, warps, stages, segments, splits } as const;
          if (sharesRows(contractionStaging(c, s)) && mmaSharedBytes(c, s) <= target.mostSharedBytes) yield s;
        }
    }
  }
}

/** How many blocks may share a tile: more than one where a tenant's own tiles leave multiprocessors idle, and k is long for all of them. */
function splitsOf(c: Contraction, tile: MmaSchedule['tile'], segments: number, target: Target): number[] {
  const tiles = volume(c.batch) * Math.ceil(volume(c.m) / tile.m) * Math.ceil(volume(c.n) / tile.n);
  const buffers = new Set(loadsIn([c.store.value]).map((load) => load.buffer)).size + 1;
  const hasRoom = buffers + scratchOperands <= maxOperands;
  return [1, 2, 4, 8].filter(
    (splits) =>
      splits === 1 ||
      (hasRoom && tiles * splits <= target.units && volume(c.k) >= 4 * tile.k * segments * splits),
  );
}

/** Clocks that `width` copies of the kernel take side by side. */
export function estimateMma(c: Contraction, s: MmaSchedule, width: number, target: Target): number {
  const { tile, warps, stages, segments, splits, threads } = s;
  const { units } = target;
  const k = volume(c.k);
  const tiles = Math.ceil(volume(c.m) / tile.m) * Math.ceil(volume(c.n) / tile.n);
  const steps = Math.ceil(Math.min(k, partDepth(k, partsOf(s))) / tile.k);

  // What one step, of all segments, takes of the multiprocessor.
  const staging = (o: Operand, side: number): number => {
    const element = hasWholeSteps(o, tile.k)
      ? machine.wholeStep
      : machine.element + machine.guard * o.guards.length;
    return side * tile.k * segments * (o.vector > 1 ? machine.copy / o.vector : element);
  };
  const staged = staging(c.a, tile.m) + staging(c.b, tile.n);
  const products = tile.m * tile.n * tile.k * segments;
  const loads = (threads / 32) * ((tile.m / warps.m + tile.n / warps.n) / 16) * (tile.k / 16);
  const parts = [staged / machine.issue, products / machine.multiply, loads * machine.fragment];
  const most = Math.max(...parts);
  const sum = parts.reduce((a, b) => a + b, 0);
  const perOutput = machine.output + 0.7 * segments + machine.access / c.epilogueVector;
  const epilogue = (tile.m * tile.n * perOutput) / machine.issue;
  // Bytes of sums that a block leaves; one in `splits` takes those of all, and only that one has an epilogue.
  const left = splits > 1 ? 4 * tile.m * tile.n * segments : 0;
  const bytes = (2 * ((tile.m + tile.n) * k + tile.m * tile.n * accesses(c))) / splits + 2 * left;
  const blocks = width * volume(c.batch) * tiles * splits;
  // The cache's bytes are shared by those who ask.
  const share = units / Math.min(blocks, units);
  const rate = Math.min(machine.bytesAlone, machine.bytes * share);
  // The parts of a step overlap badly: the lesser ones count, too.
  const busy = Math.max(steps * (most + 1.5 * (sum - most)) + epilogue / splits, bytes / rate);

  // What a block takes by itself, however little the multiprocessor has to do.
  const alone =
    steps *
      (machine.latency / (stages - 1) +
        machine.step +
        (machine.serial * staged) / threads +
        (3 * products) / (64 * threads)) +
    2 * epilogue +
    (splits > 1 ? machine.join + (splits * left) / machine.takes : 0) +
    machine.block;
  const registers = tile.m * tile.n * segments + threads * machine.overhead;
  const fit = Math.max(
    1,
    Math.min(
      Math.floor(machine.sharedBytes / (mmaSharedBytes(c, s) + 1024)),
      Math.floor(machine.threads / threads),
      Math.floor(machine.registers / registers),
    ),
  );
  const each = Math.ceil(blocks / units);
  return Math.max(each * busy, Math.ceil(each / fit) * Math.max(alone, 1.25 * busy));
}

/** How many buffers the epilogue reads or writes an element of for each output; what is the same for all of n stays near. */
const accesses = (c: Contraction): number =>
  Math.max(
    1,
    [...c.contiguous].filter(({ at }) => {
      const indices = at.flatMap((x) => ('terms' in x ? [x] : 'affine' in x ? [x.affine] : []));
      return volume(c.n) === 1 || indices.some((a) => [...indicesOf(a)].some((i) => c.n.includes(i)));
    }).length,
  );
