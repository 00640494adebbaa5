/**
 * @file How long a kernel takes on so many physical blocks: a curve of three numbers, fitted to measurements or estimated. Blocks stride
 * over the virtual ones, so time goes in rounds; a device runs a number of blocks side by side at full speed, its places, and what is
 * beyond that waits, so there are rounds of blocks as well:
 *
 *     time(b) = fixed + round * ceil(virtual / b) * ceil(b / places)
 *
 * (A constrained convolution of 128 blocks took 175, 91, 47, 24.7 and 14.4 µs on 8, 16, 32, 66 and 132 blocks of an H100: 3.5 + 10.7 a round.)
 */
import { blocksPerUnit } from '../ir/occupancy.ts';
import type { Target } from '../ir/target.ts';
import type { Work } from '../ir/work.ts';

export interface BlockCurve {
  /** Milliseconds of a word besides its blocks' work. */
  readonly fixed: number;
  /** Milliseconds of one virtual block. */
  readonly round: number;
  /** Blocks of this kernel that run side by side as fast as one does alone. */
  readonly places: number;
}

/** A word of one slot that got so many physical blocks. */
export interface Measurement {
  readonly blocks: number;
  readonly milliseconds: number;
}

/** How often a place runs a virtual block, where that is most often. */
export const rounds = (virtual: number, blocks: number, places: number): number =>
  Math.ceil(virtual / blocks) * Math.ceil(blocks / places);

export const timeOn = ({ fixed, round, places }: BlockCurve, virtual: number, blocks: number): number =>
  fixed + round * rounds(virtual, blocks, places);

/**
 * The curve with the least squared error, relative to what was measured. `like` is what was expected: its places count where several
 * explain the measurements equally well, and its fixed part where all have the same number of rounds.
 * @param units multiprocessors, or threads, of the device.
 */
export function fitCurve(
  measured: readonly Measurement[],
  virtual: number,
  units: number,
  like: BlockCurve,
): BlockCurve {
  const powers = Array.from({ length: Math.ceil(Math.log2(units)) }, (_, n) => 2 ** n);
  const multiples = [1, 2, 3, 4, 5, 6, 8, 12, 16].map((n) => n * units);
  let best: { readonly curve: BlockCurve; readonly error: number } | undefined;
  for (const places of [like.places, ...powers, ...multiples]) {
    const line = fitLine(
      measured.map((m) => ({ x: rounds(virtual, m.blocks, places), y: m.milliseconds })),
      like.fixed,
    );
    // A hair's breadth is no reason to differ from what was expected.
    if (!best || line.error < 0.98 * best.error)
      best = { curve: { fixed: line.at0, round: line.slope, places }, error: line.error };
  }
  return best!.curve;
}

interface Line {
  readonly at0: number;
  readonly slope: number;
  /** Sum of squared errors, each relative to its value. */
  readonly error: number;
}

/** The line of least relative squared error, rising from at least 0; through `at0` if all points stand at one x. */
function fitLine(points: readonly { readonly x: number; readonly y: number }[], at0: number): Line {
  const sum = (of: (p: { x: number; y: number }) => number): number =>
    points.reduce((total, p) => total + of(p), 0);
  const weight = ({ y }: { y: number }): number => 1 / (y * y);
  const [w, wx, wy] = [sum(weight), sum((p) => weight(p) * p.x), sum((p) => weight(p) * p.y)];
  const [wxx, wxy] = [sum((p) => weight(p) * p.x * p.x), sum((p) => weight(p) * p.x * p.y)];
  const spread = w * wxx - wx * wx;
  const errorOf = (a: number, slope: number): Line => ({
    at0: a,
    slope,
    error: sum((p) => weight(p) * (a + slope * p.x - p.y) ** 2),
  });
  if (points.length > 0 && !(spread > 1e-9 * w * wxx)) {
    const mean = wy / w;
    const start = Math.min(at0, mean / 2);
    return errorOf(start, (mean - start) / (wx / w));
  }
  const slope = (w * wxy - wx * wy) / spread;
  const a = (wy - slope * wx) / w;
  // Where one of the two would be negative it is 0, and the other alone makes the best of it.
  if (a < 0) return errorOf(0, wxy / wxx);
  if (slope < 0) return errorOf(wy / w, 0);
  return errorOf(a, slope);
}

/** What one multiprocessor (or thread) gets done a millisecond, roughly; and milliseconds that nothing shortens. */
interface Speed {
  readonly flops: number;
  readonly tensorFlops: number;
  readonly bytes: number;
  /** Of a virtual block besides arithmetic and traffic, and of a word. */
  readonly block: number;
  readonly word: number;
}

const speeds: { readonly [K in Target['kind']]: Speed } = {
  // An H200: a third of the peak on plain units, what the prototype's constrained layer reached on tensor cores, 4.3 TB/s in all.
  cuda: { flops: 1.5e8, tensorFlops: 1.35e9, bytes: 3.2e7, block: 2e-3, word: 2e-3 },
  // A core of a server with AVX2.
  host: { flops: 2e7, tensorFlops: 2e7, bytes: 8e6, block: 1e-3, word: 4e-3 },
};

/** The curve of a kernel that nobody has measured. */
export function estimateCurve(work: Work, virtual: number, target: Target, units: number): BlockCurve {
  const speed = speeds[target.kind];
  const flops = work.tensorCores ? speed.tensorFlops : speed.flops;
  const busy = Math.max(work.flops / flops, work.bytes / speed.bytes) / virtual;
  const round = speed.block + busy;
  // Blocks on one multiprocessor hide each other's waiting, and no more.
  const together = Math.min(blocksPerUnit(work, target), Math.floor(round / Math.max(busy, 1e-9)));
  return { fixed: speed.word, round, places: units * Math.max(1, together) };
}
