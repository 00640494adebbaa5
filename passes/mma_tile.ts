/**
 * @file Picks the tile of a contraction on tensor cores: estimates every candidate's time on a GPU (passes/mma_time.ts) and takes the least, for
 * words of each width. The estimate looks at the kernel alone, as a tenant's bits depend on the choice.
 */
import { type Contraction, multiplies16Bit, type Operand, volume } from '../ir/contraction.ts';
import type { MmaSchedule, Schedule, Schedules } from '../ir/kernel.ts';
import { contractionStaging, mmaSharedBytes, partsOf, sharesRows } from '../ir/mma.ts';
import { scratchOperands } from '../ir/scratch.ts';
import type { Target } from '../ir/target.ts';
import { maxOperands } from '../ir/verify.ts';
import { loadsIn } from '../ir/walk.ts';
import { estimateMma, type Machine } from './mma_time.ts';
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

/** Tiles of warpgroups: m in steps of 64, n in whatever steps of 8 the pictures ask for. */
const warpgroupShapes: readonly (readonly [m: number, n: number, warpsM: number, warpsN: number])[] = [
  ...[8, 16, 32, 48, 56, 64, 104, 112, 128, 208, 224, 256].map((n) => [64, n, 4, 1] as const),
  ...[32, 48, 56, 64, 104, 112, 128].map((n) => [128, n, 4, 1] as const),
  ...[56, 64, 112, 128, 208, 224, 256].map((n) => [128, n, 8, 1] as const),
  ...[56, 64, 112, 128].map((n) => [192, n, 12, 1] as const),
  ...[48, 56, 64, 112, 128].map((n) => [256, n, 8, 1] as const),
  [64, 208, 4, 2],
  [64, 224, 4, 2],
  [128, 224, 4, 2],
];

/** How many copies of the kernel run side by side in the estimate: a tenant alone, and a word that is worth its name. */
export const widths = [1, 8];

/** True if a contraction runs on the target's tensor cores. */
export function usesMma(c: Contraction, target: Target): boolean {
  if (!target.mma || !multiplies16Bit(c)) return false;
  const [m, n, k] = [volume(c.m), volume(c.n), volume(c.k)];
  if (Math.min(m, n) >= 8) return k >= 8;
  // One row by a matrix fills no tile, but its copies are wide and run ahead.
  return Math.max(m, n) >= 64 && k >= 128 && c.a.vector === 8 && c.b.vector === 8;
}

/** Widths from which a word may have a schedule of its own. */
const widthSteps = [1, 4, 8, 16, 32];

/** Those that decide on the number of parts of k, which is the same for all. */
const decisive = [1, 8, 32];

/** What a wider word's schedule must promise to be a class of its own: the estimate is off by more, and each class is compiled. */
const leastGain = 0.07;

/**
 * The schedules that are estimated to take the least time: one number of parts of k, as the bits depend on it, and for each width the best
 * schedule of so many parts. Of numbers of parts the one with the least time at the decisive widths together; times count, not ratios, so a wide
 * word counts more.
 */
export function mmaSchedules(
  c: Contraction,
  target: Target,
  candidates: Iterable<MmaSchedule> = mmaCandidates(c, target),
  constants?: Machine,
): Schedules {
  const time = (s: MmaSchedule, width: number): number => estimateMma(c, s, width, target, constants);
  const byParts = new Map<number, Map<number, Timed<MmaSchedule>>>();
  for (const schedule of candidates) {
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
    decisive.reduce((sum, width) => sum + best.get(width)!.time, 0);
  const least = [...byParts.values()].reduce((a, b) => (together(b) < together(a) ? b : a));
  return schedulesByWidth(
    widthSteps.map((width) => ({ width, best: least.get(width)!.schedule })),
    time,
    leastGain,
  );
}

interface Timed<S extends Schedule> {
  readonly schedule: S;
  readonly time: number;
}

/** More elements than this cost a thread too many registers, and its loads come one after another. */
const mostCarried = 48;

/** The shapes of both instructions, as far as the target and the operands allow. */
function* shapesFor(
  c: Contraction,
  target: Target,
): Generator<Pick<MmaSchedule, 'instruction' | 'tile' | 'warps'>> {
  for (const s of shapes) yield { instruction: 'mma', ...s };
  const byRows = (o: Operand): boolean => !o.positionFast && o.vector > 1;
  if (!target.wgmma || !byRows(c.a) || !byRows(c.b)) return;
  for (const [m, n, warpsM, warpsN] of warpgroupShapes)
    yield { instruction: 'wgmma', tile: { m, n, k: 64 }, warps: { m: warpsM, n: warpsN } };
}

/** Every schedule that is worth measuring. */
export function* mmaCandidates(c: Contraction, target: Target): Generator<MmaSchedule> {
  const k = volume(c.k);
  for (const { instruction, tile, warps } of shapesFor(c, target)) {
    const group = 32 * warps.m * warps.n;
    const carried = (o: Operand, side: number): number => (o.vector > 1 ? 0 : (side * tile.k) / group);
    // What a thread carries in registers from one step to the next.
    if (carried(c.a, tile.m) + carried(c.b, tile.n) > mostCarried) continue;
    for (const segments of [1, 2, 4, 8]) {
      const threads = group * segments;
      // A segment of less than four steps is not worth its epilogue.
      if (threads > (instruction === 'mma' ? 256 : 512) || (segments > 1 && k < 4 * tile.k * segments))
        continue;
      // What passes through registers is on its way for one step, however deep the stages.
      const copied = c.a.vector > 1 && c.b.vector > 1;
      for (const splits of splitsOf(c, tile, segments, target))
        for (const stages of !copied ? [2] : instruction === 'mma' ? [4, 3, 2] : [5, 4, 3]) {
          const s = { skeleton: 'mma', instruction, threads, tile, warps, stages, segments, splits } as const;
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
