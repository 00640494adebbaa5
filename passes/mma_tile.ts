/**
 * @file Picks the tile of a contraction on tensor cores: estimates every candidate's time on a GPU by counting what a block issues and how
 * many blocks run at once, and takes the least. The estimate looks at the kernel alone, as a tenant's bits depend on the choice.
 */
import { type Contraction, hasWholeSteps, multiplies16Bit, type Operand, volume } from '../ir/contraction.ts';
import type { MmaSchedule } from '../ir/kernel.ts';
import { maxSharedBytes, mmaSharedBytes } from '../ir/mma.ts';
import type { Target } from '../ir/target.ts';

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
];

/** How many copies of the kernel run side by side in the estimate: a tenant alone, and a word that is worth its name. */
const widths = [1, 8];

/** Clocks and rates of one multiprocessor, about those of an H100 (measured or, where small, guessed). */
const machine = {
  multiprocessors: 132,
  /** Multiplications a clock that mma.sync reaches. */
  multiply: 1200,
  /** Thread instructions a clock. */
  issue: 128,
  sharedBytes: 227 * 1024,
  threads: 2048,
  registers: 65536,
  /** From a load's issue to its value in shared memory. */
  latency: 900,
  /** A step's barrier and first fragments; a block's start and end. */
  step: 120,
  block: 2500,
};

/** True if a contraction runs on the target's tensor cores. */
export function usesMma(c: Contraction, target: Target): boolean {
  if (!target.mma || !multiplies16Bit(c)) return false;
  const [m, n, k] = [volume(c.m), volume(c.n), volume(c.k)];
  if (Math.min(m, n) >= 8) return k >= 8;
  // One row by a matrix fills no tile, but its copies are wide and run ahead.
  return Math.max(m, n) >= 64 && k >= 128 && c.a.vector === 8 && c.b.vector === 8;
}

/** The schedule that is estimated to be fastest. */
export function mmaSchedule(c: Contraction): MmaSchedule {
  let best: MmaSchedule | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const s of mmaCandidates(c)) {
    const time = widths.reduce((sum, width) => sum + estimateMma(c, s, width), 0);
    if (time < least) [best, least] = [s, time];
  }
  return best!;
}

/** Every schedule that is worth measuring. */
export function* mmaCandidates(c: Contraction): Generator<MmaSchedule> {
  const k = volume(c.k);
  for (const { tile, warps } of shapes) {
    for (const segments of [1, 2, 4, 8]) {
      const threads = 32 * warps.m * warps.n * segments;
      // A segment of less than four steps is not worth its epilogue.
      if (threads > 256 || (segments > 1 && k < 4 * tile.k * segments)) continue;
      // What passes through registers is on its way for one step, however deep the stages.
      const copied = c.a.vector > 1 && c.b.vector > 1;
      for (const stages of copied ? [4, 3, 2] : [2]) {
        const s = { skeleton: 'mma', threads, tile, warps, stages, segments } as const;
        if (mmaSharedBytes(s) > maxSharedBytes) continue;
        yield s;
        break;
      }
    }
  }
}

/** Clocks that `width` copies take. */
export function estimateMma(c: Contraction, s: MmaSchedule, width: number): number {
  const { tile, stages, segments, threads } = s;
  const tiles = (size: number, side: number): number => Math.ceil(size / side);
  const blocks = width * volume(c.batch) * tiles(volume(c.m), tile.m) * tiles(volume(c.n), tile.n);
  const steps = Math.ceil(volume(c.k) / (tile.k * segments));

  // What a step takes of the multiprocessor, for all segments.
  const multiply = (tile.m * tile.n * tile.k * segments) / machine.multiply;
  const staging = (o: Operand, width: number): number =>
    (width *
      tile.k *
      segments *
      (o.vector > 1 ? 16 / o.vector : hasWholeSteps(o, tile.k) ? 3 : 6 + 3 * o.guards.length)) /
    machine.issue;
  const staged = staging(c.a, tile.m) + staging(c.b, tile.n);
  const fragments = (threads / 32) * ((tile.m / s.warps.m + tile.n / s.warps.n) / 16) * (tile.k / 16) * 4;
  const epilogue = (tile.m * tile.n * (16 + 2 * segments)) / machine.issue;
  const busy = steps * (Math.max(multiply, staged, fragments) + 0.4 * Math.min(multiply, staged)) + epilogue;

  // What a block takes by itself, however little the multiprocessor has to do.
  const alone = steps * (machine.latency / (stages - 1) + machine.step) + epilogue * 4 + machine.block;
  const registers = threads * ((tile.m * tile.n * segments) / threads + 90);
  const fit = Math.max(
    1,
    Math.min(
      Math.floor(machine.sharedBytes / (mmaSharedBytes(s) + 1024)),
      Math.floor(machine.threads / threads),
      Math.floor(machine.registers / registers),
    ),
  );
  const each = Math.ceil(blocks / machine.multiprocessors);
  return Math.max(each * busy, Math.ceil(each / fit) * Math.max(alone, busy));
}
