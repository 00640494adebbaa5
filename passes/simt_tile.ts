/**
 * @file Picks the tile of a contraction without tensor cores on a GPU: estimates every candidate's time by counting what a block issues, reads and
 * waits for, and takes the least, for words of each width: tiles do not change the bits of such a contraction. The estimate looks at the
 * kernel alone.
 */
import { type Contraction, type Operand, volume } from '../ir/contraction.ts';
import type { ContractionSchedule, Schedules } from '../ir/kernel.ts';
import { mostUnrolled, neighbours, type TileStaging, tileSharedBytes, tileStaging } from '../ir/simt.ts';
import type { Target } from '../ir/target.ts';
import { schedulesByWidth } from './schedules_by_width.ts';

/** Widths from which a word may have a schedule of its own: a tenant alone, a word that is worth its name, and one that fills the GPU. */
const widthSteps = [1, 8, 32] as const;
/** As wide as words come to be. */
const widest = 64;

/** Clocks and rates of one multiprocessor, counted or known from data sheets; none was fitted yet. */
const machine = {
  threads: 2048,
  blocks: 32,
  registers: 65536,
  sharedBytes: 227 * 1024,
  /** Thread instructions a clock, and of a single warp. */
  issue: 128,
  /** Clocks that a warp's read of shared memory takes, by the neighbours that each thread reads. */
  read: { 1: 1, 2: 1, 4: 1.5 },
  /** Bytes of shared memory written a clock, with conflicts. */
  write: 64,
  /** Bytes a clock from the L2 cache where all multiprocessors ask for them, and where few do. */
  bytes: 20,
  bytesAlone: 40,
  /** Instructions of a copy, and of a load with what it takes to store it; of each guard, and to find a row of k. */
  copy: 4,
  load: 5,
  guard: 3,
  row: 4,
  carriedRow: 10,
  /** Instructions of a step: counters, barrier. */
  step: 30,
  /** Clocks from a request to device memory to its arrival; of a barrier; of a row of k at the least; of a block's start and end. */
  latency: 700,
  barrier: 50,
  rowLatency: 9,
  block: 2500,
} as const;

/** The schedules that are estimated to take the least time, each from its width on. */
export function simtSchedules(c: Contraction, target: Target): Schedules {
  const all = [...simtCandidates(c, target)];
  const time = (s: ContractionSchedule, width: number): number =>
    estimateSimt(c, s, width === widthSteps.at(-1) ? widest : width, target);
  const best = widthSteps.map((width) => ({
    width,
    best: all.reduce((a, b) => (time(b, width) < time(a, width) ? b : a)),
  }));
  return schedulesByWidth(best, time);
}

/** Outputs of a thread, m by n: at least as many along m, along which outputs are stored. */
const shapes = [
  [8, 8],
  [8, 4],
  [4, 8],
  [4, 4],
  [4, 2],
  [2, 4],
  [2, 2],
  [2, 1],
  [1, 1],
] as const;

/** Every schedule that is worth a thought: blocks of 64 to 256 threads in warps of 8 by 4, and sides no wider than what holds all of them. */
export function* simtCandidates(c: Contraction, target: Target): Generator<ContractionSchedule> {
  const sides = (size: number): number[] => [16, 32, 64, 128].filter((s) => s < 2 * size || s === 16);
  for (const m of sides(volume(c.m)))
    for (const n of sides(volume(c.n)))
      for (const [perM, perN] of shapes) {
        const [columns, rows] = [m / perM, n / perN];
        const threads = columns * rows;
        if (threads < 64 || threads > 256 || columns % 8 !== 0 || rows % 4 !== 0) continue;
        for (const k of [16, 32, 8])
          for (const stages of [3, 2, 4]) {
            if (k * perM * perN > mostUnrolled) continue;
            const s: ContractionSchedule = {
              skeleton: 'contraction',
              threads,
              tile: { m, n, k },
              perThread: { m: perM, n: perN },
              stages,
            };
            if (tileSharedBytes(c, s) <= target.mostSharedBytes) yield s;
          }
      }
}

/**
 * The few candidates to measure for words of some widths, from a list by `rank`, best first: of each tile and share of a thread the best depth
 * only, and what is best for words that fill the GPU in any case.
 */
export function simtToTry(
  c: Contraction,
  target: Target,
  tried: readonly number[],
  rank: (all: readonly ContractionSchedule[], widths: readonly number[]) => ContractionSchedule[],
): ContractionSchedule[] {
  const all = [...simtCandidates(c, target)];
  const best = (at: readonly number[], count: number): ContractionSchedule[] => {
    const seen = new Set<string>();
    const distinct = rank(all, at).filter(({ tile, perThread }) => {
      const key = [tile.m, tile.n, perThread.m, perThread.n].join('x');
      return !seen.has(key) && seen.add(key);
    });
    return distinct.slice(0, count);
  };
  return [...new Set([...best(tried, 5), ...best([widest], 3)])];
}

/** Clocks that `width` copies of the kernel take side by side. */
export function estimateSimt(c: Contraction, s: ContractionSchedule, width: number, target: Target): number {
  const { tile, threads, perThread, stages } = s;
  const warps = threads / target.warp;
  const plans = tileStaging(c, s);
  const steps = Math.ceil(volume(c.k) / tile.k);
  const [widthM, widthN] = [neighbours(perThread.m), neighbours(perThread.n)] as (1 | 2 | 4)[];
  const [readsM, readsN] = [perThread.m / widthM!, perThread.n / widthN!];

  // What one step takes of a thread, and of the shared memory.
  const staging = instructionsOf(c.a, plans.a, c.k.length) + instructionsOf(c.b, plans.b, c.k.length);
  const products = tile.k * (perThread.m * perThread.n + readsM + readsN);
  const issued = (threads * (products + staging + machine.step)) / machine.issue;
  const reading = warps * tile.k * (readsM * machine.read[widthM!] + readsN * machine.read[widthN!]);
  const shared = reading + (4 * (tile.m + tile.n) * tile.k) / machine.write;
  // They overlap badly: the lesser one counts, too.
  const busyStep = Math.max(issued, shared) + 0.15 * Math.min(issued, shared);

  const blocks = width * volume(c.batch) * Math.ceil(volume(c.m) / tile.m) * Math.ceil(volume(c.n) / tile.n);
  const bytes = (o: Operand, side: number): number => side * volume(c.k) * (o.load.dtype === 'f32' ? 4 : 2);
  const share = target.units / Math.min(blocks, target.units);
  const rate = Math.min(machine.bytesAlone, machine.bytes * share);
  const epilogue = (tile.m * tile.n * (4 + 12 / Math.min(widthM!, c.epilogueVector))) / machine.issue;
  const busy = Math.max(
    steps * busyStep + epilogue,
    (bytes(c.a, tile.m) + bytes(c.b, tile.n) + 4 * tile.m * tile.n) / rate,
  );

  // What a block takes by itself, however little the multiprocessor has to do: each scheduler has so many of its warps.
  const perScheduler = Math.ceil(warps / 4);
  const row = Math.max(perScheduler * (perThread.m * perThread.n + readsM + readsN), machine.rowLatency);
  const aloneStep = Math.max(
    tile.k * row + perScheduler * (staging + machine.step) + machine.barrier,
    machine.latency / (stages - 1),
    busyStep + machine.barrier,
  );
  const alone = steps * aloneStep + 2 * epilogue + machine.block;
  const registers = perThread.m * perThread.n + 3 * (perThread.m + perThread.n) + 40;
  const fit = Math.max(
    1,
    Math.floor(
      Math.min(
        machine.blocks,
        machine.threads / threads,
        machine.registers / (threads * registers),
        machine.sharedBytes / (tileSharedBytes(c, s) + 1024),
      ),
    ),
  );
  const each = Math.ceil(blocks / target.units);
  return Math.max(each * busy, Math.ceil(each / fit) * alone);
}

/** Instructions with which a thread stages its part of one step of an operand. */
function instructionsOf(
  { guards, kContiguous }: Operand,
  { copies, unit, positions, ks }: TileStaging,
  indicesOfK: number,
): number {
  const each = (copies ? machine.copy : machine.load + unit) + machine.guard * guards.length;
  const row = kContiguous ? 0 : indicesOfK > 1 ? machine.carriedRow : machine.row;
  return ks.count * (positions.count * each + row);
}
