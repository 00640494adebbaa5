/**
 * @file Shapes of the contraction skeleton without tensor cores that follow from a kernel and its schedule: what the verifier, the schedule
 * pass and codegen agree on.
 */
import type { Contraction, Operand } from './contraction.ts';
import type { ContractionSchedule } from './kernel.ts';

/**
 * How a block's threads bring one step of an operand to shared memory, where a row of the tile is one k with its positions. A thread has a
 * place along the axis that is fast in memory and one along the other; from there it goes on by steps, so that all threads are done together.
 */
export interface TileStaging {
  /** True if neighbours in memory are neighbouring positions; false if they are neighbours in k, and are taken apart on their way. */
  readonly positionFast: boolean;
  /** True if elements are copied past the registers; false if they are loaded a step ahead and stored when it has been multiplied. */
  readonly copies: boolean;
  /** Neighbours in memory that a thread moves at once. */
  readonly unit: number;
  /** Elements of shared memory from one k to the next. */
  readonly pitch: number;
  /** Threads along the fast axis, and along the other one; those beyond have nothing to do. */
  readonly across: number;
  readonly down: number;
  readonly idle: boolean;
  /** What a thread looks after: how many positions (or units of them) and values of k (or units), so far from one another. */
  readonly positions: { readonly count: number; readonly step: number };
  readonly ks: { readonly count: number; readonly step: number };
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/** Bytes that a warp asks of each row of k-fast memory: what the caches move at once. */
const sectorBytes = 32;

function stagingOf(o: Operand, width: number, depth: number, threads: number): TileStaging {
  const { positionFast } = o;
  const [fast, slow] = positionFast ? [width, depth] : [depth, width];
  // Floats of 16 bytes at most.
  const unit = [4, 2, 1].find((u) => o.vector % u === 0 && fast % u === 0)!;
  const units = fast / unit;
  let across = gcd(units, positionFast ? threads : sectorBytes / 4 / unit);
  // Threads that would have no position left go on along k.
  while (
    !positionFast &&
    threads / across > slow &&
    units % (2 * across) === 0 &&
    threads % (2 * across) === 0
  )
    across *= 2;
  const down = gcd(threads / across, slow);
  const alongFast = { count: units / across, step: across * unit };
  const alongSlow = { count: slow / down, step: down };
  return {
    positionFast,
    // A copy moves neighbours to neighbours, so what is taken apart is copied one by one.
    copies: o.load.dtype === 'f32' && (positionFast || unit === 1),
    unit,
    // Rows that are written down their columns are padded: a warp's stores, k by positions, then lie in different banks.
    pitch: positionFast ? width : width + 4,
    across,
    down,
    idle: across * down < threads,
    positions: positionFast ? alongFast : alongSlow,
    ks: positionFast ? alongSlow : alongFast,
  };
}

/** How both operands are staged. */
export const tileStaging = ({ a, b }: Contraction, { threads, tile }: ContractionSchedule) => ({
  a: stagingOf(a, tile.m, tile.k, threads),
  b: stagingOf(b, tile.n, tile.k, threads),
});

/** Bytes of a block's shared memory: every stage has a tile of either operand, in f32. */
export function tileSharedBytes(c: Contraction, s: ContractionSchedule): number {
  const { a, b } = tileStaging(c, s);
  const bytes = ({ pitch }: TileStaging): number => Math.ceil((4 * s.tile.k * pitch) / 16) * 16;
  return s.stages * (bytes(a) + bytes(b));
}

/** Multiplications of a thread that stand in a line: more code than this leaves the cache of instructions. */
export const mostUnrolled = 1024;

/** How many neighbours a thread's outputs lie in, of `perThread` along one side: it reads as many at once from shared memory. */
export const neighbours = (perThread: number): number => [4, 2, 1].find((v) => perThread % v === 0)!;
