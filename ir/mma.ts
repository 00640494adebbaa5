/**
 * @file Shapes of the tensor-core skeleton that follow from a kernel and its schedule: what the schedule pass, the verifier and codegen agree
 * on.
 */
import type { Contraction, Operand } from './contraction.ts';
import type { MmaSchedule } from './kernel.ts';

/** Shared memory that a block has without asking, on every CUDA target: all that code can declare. */
const declaredBytes = 48 * 1024;

/** How a group of threads brings one step of an operand to shared memory. */
export interface Staging {
  /** True if a row of the tile is one k with its positions; false if it is one position with a step of k. */
  readonly kMajor: boolean;
  /** True if vectors are copied past the registers; false if pairs of elements pass through them. */
  readonly copies: boolean;
  /** Elements that a thread moves together. */
  readonly unit: number;
  /** Rows of the tile, and elements from one to the next. */
  readonly rows: number;
  readonly pitch: number;
  /** Threads along a row; rows from one of a thread's rows to its next; rows that each thread looks after. */
  readonly across: number;
  readonly down: number;
  readonly count: number;
}

/** How the operand is staged that has `width` positions in a tile. Threads share out its rows evenly if `down` is whole. */
export function stagingOf(o: Operand, width: number, { tile, warps }: MmaSchedule): Staging {
  const kMajor = o.positionFast;
  const [length, rows] = kMajor ? [width, tile.k] : [tile.k, width];
  const unit = Math.max(2, o.vector);
  const across = length / unit;
  const down = (32 * warps.m * warps.n) / across;
  // Rows of k-major tiles are padded, so that 16 bytes of each of eight rows lie in different banks; the others are swizzled.
  const pitch = kMajor ? rowPitch(length) : length;
  return { kMajor, copies: o.vector > 1, unit, rows, pitch, across, down, count: Math.ceil(rows / down) };
}

/** True if a group's threads share out the rows of both tiles evenly. */
export const sharesRows = (c: Contraction, s: MmaSchedule): boolean =>
  [stagingOf(c.a, s.tile.m, s), stagingOf(c.b, s.tile.n, s)].every(
    ({ across, down }) => Number.isInteger(across) && Number.isInteger(down) && down >= 1,
  );

const rowPitch = (elements: number): number => (elements % 16 === 0 ? elements + 8 : elements);

/** Floats from one row of sums to the next: padded, so that a warp's fragments lie in different banks. */
export const sumPitch = (m: number): number => m + 8;

/** Bytes of all stages of both operands. */
function stagedBytes(c: Contraction, s: MmaSchedule): number {
  const sides = [stagingOf(c.a, s.tile.m, s), stagingOf(c.b, s.tile.n, s)];
  return s.segments * s.stages * sides.reduce((sum, { rows, pitch }) => sum + 2 * rows * pitch, 0);
}

/** Bytes of the sums when each warp puts down 16 rows of its own. */
const sumBytes = ({ tile, warps, segments }: MmaSchedule): number =>
  4 * segments * 16 * warps.n * sumPitch(tile.m);

/**
 * How often 16 rows each warp puts down at once in the epilogue, where the stages were: all of them, or in as few rounds as their memory
 * allows.
 */
export function sumParts(c: Contraction, s: MmaSchedule): number {
  const all = s.tile.n / s.warps.n / 16;
  const room = Math.max(1, Math.floor(stagedBytes(c, s) / sumBytes(s)));
  return Math.ceil(all / Math.ceil(all / room));
}

/** Bytes of a block's shared memory: the stages, or (after the last) the sums. */
export const mmaSharedBytes = (c: Contraction, s: MmaSchedule): number =>
  Math.max(stagedBytes(c, s), sumBytes(s) * sumParts(c, s));

/** What of it a block must ask for when it is launched: all, if it is more than code can declare. */
export function askedSharedBytes(c: Contraction, s: MmaSchedule): number {
  const bytes = mmaSharedBytes(c, s);
  return bytes > declaredBytes ? bytes : 0;
}
