/**
 * @file Shapes of the tensor-core skeletons that follow from a kernel and its schedule: what the schedule pass, the verifier and codegen agree
 * on.
 */
import type { Attention } from './attention.ts';
import { type Contraction, hasWholeSteps, type Operand } from './contraction.ts';
import type { AttentionSchedule, MmaSchedule } from './kernel.ts';
import { blocksPerUnit } from './occupancy.ts';
import type { Target } from './target.ts';

/**
 * The deepest step of k. Parts of k are whole ones of these, so that they begin and end in the same places whatever the depth of a
 * schedule's own steps.
 */
export const deepestStep = 64;

/**
 * How many parts k is cut into, each summed by itself; part number `segment * splits + split`. Sums of parts are added pairwise, neighbours
 * first (a balanced tree), so that their number is all that the bits depend on: not who sums which, nor the tile.
 */
export const partsOf = ({ segments, splits }: MmaSchedule): number => segments * splits;

/** Elements of k in a part; the last ones may have fewer, or none. */
export const partDepth = (k: number, parts: number): number =>
  Math.ceil(k / (parts * deepestStep)) * deepestStep;

/** How a group of threads brings one step of an operand to shared memory. */
export interface Staging {
  /** True if a row of the tile is one k with its positions; false if it is one position with a step of k. */
  readonly kMajor: boolean;
  /** True if vectors are copied past the registers; false if pairs of elements pass through them. */
  readonly copies: boolean;
  /** True if no step crosses from one value of the outer indices of k to another. */
  readonly wholeSteps: boolean;
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

/** How an operand's tile of `width` positions by `depth` values of k is staged. */
function stagingOf(o: Operand, width: number, depth: number, threads: number): Staging {
  const kMajor = o.positionFast;
  const [length, rows] = kMajor ? [width, depth] : [depth, width];
  const unit = Math.max(2, o.vector);
  const across = length / unit;
  const down = threads / across;
  // Rows of k-major tiles are padded, so that 16 bytes of each of eight rows lie in different banks; the others are swizzled.
  const pitch = kMajor ? rowPitch(length) : length;
  const wholeSteps = hasWholeSteps(o, depth);
  const count = Math.ceil(rows / down);
  return { kMajor, copies: o.vector > 1, wholeSteps, unit, rows, pitch, across, down, count };
}

/** How each segment's threads stage the operands of a contraction. */
export function contractionStaging({ a, b }: Contraction, { tile, warps }: MmaSchedule) {
  const threads = 32 * warps.m * warps.n;
  return { a: stagingOf(a, tile.m, tile.k, threads), b: stagingOf(b, tile.n, tile.k, threads) };
}

/** How a block's threads stage the operands of attention. */
export function attentionStaging({ q, k, v }: Attention, { threads, tile, room }: AttentionSchedule) {
  return {
    query: stagingOf(q, room.features, tile.queries, threads),
    key: stagingOf(k, room.features, tile.keys, threads),
    value: stagingOf(v, room.values, tile.keys, threads),
  };
}

/** True if threads share out the rows of all tiles evenly. */
export const sharesRows = (stagings: { readonly [name: string]: Staging }): boolean =>
  Object.values(stagings).every(
    ({ across, down }) => Number.isInteger(across) && Number.isInteger(down) && down >= 1,
  );

const rowPitch = (elements: number): number => (elements % 16 === 0 ? elements + 8 : elements);

/** Floats from one row of sums to the next: padded, so that a warp's fragments lie in different banks. */
export const sumPitch = (m: number, instruction: MmaSchedule['instruction'] = 'mma'): number =>
  m + (instruction === 'mma' ? 8 : 4);

/** Rows of sums that each warp, or four together, put down at once in the epilogue. */
export const sumRows = ({ instruction }: MmaSchedule): number => (instruction === 'mma' ? 16 : 8);

/** Bytes of a tile. */
const tileBytes = ({ rows, pitch }: Staging): number => 2 * rows * pitch;

/** Bytes of all stages of both operands. */
function stagedBytes(c: Contraction, s: MmaSchedule): number {
  const { a, b } = contractionStaging(c, s);
  return s.segments * s.stages * (tileBytes(a) + tileBytes(b));
}

/** Bytes of the sums when each warp puts down the least rows of its own. */
const sumBytes = (s: MmaSchedule): number =>
  4 * s.segments * sumRows(s) * s.warps.n * sumPitch(s.tile.m, s.instruction);

/**
 * How often so many rows each warp puts down at once in the epilogue, where the stages were: all of them, or in as few rounds as their memory
 * allows.
 */
export function sumParts(c: Contraction, s: MmaSchedule): number {
  const all = s.tile.n / s.warps.n / sumRows(s);
  const room = Math.max(1, Math.floor(stagedBytes(c, s) / sumBytes(s)));
  return Math.ceil(all / Math.ceil(all / room));
}

/** Bytes of a block's shared memory: the stages, or (after the last) the sums. */
export const mmaSharedBytes = (c: Contraction, s: MmaSchedule): number =>
  Math.max(stagedBytes(c, s), sumBytes(s) * sumParts(c, s));

/** As many sums a thread leave registers for the rest where two blocks of 256 threads share a multiprocessor's 65,536. */
const mostSumsOfTwo = 64;

/**
 * How many blocks of a schedule a multiprocessor should hold, where code is held to registers for so many: 2 for blocks of 256 threads
 * two of which fit otherwise. Without it some take a few registers more than their half. 1 where nothing is asked for.
 */
export function mmaBlocksHeld(c: Contraction, s: MmaSchedule, target: Target): 1 | 2 {
  const { threads, tile, segments, splits } = s;
  // Blocks that share a tile have more to keep, and few of them are on a multiprocessor anyway.
  if (threads !== 256 || splits > 1 || (tile.m * tile.n * segments) / threads > mostSumsOfTwo) return 1;
  const registers = target.unit.registers / (2 * threads);
  return blocksPerUnit({ threads, registers, sharedBytes: mmaSharedBytes(c, s) }, target) >= 2 ? 2 : 1;
}

/** Bytes of a block's shared memory: two stages of keys and values, and the queries; after the last the results. */
export function attentionSharedBytes(a: Attention, s: AttentionSchedule): number {
  const { query, key, value } = attentionStaging(a, s);
  const results = 4 * s.tile.queries * (sumPitch(s.room.values) + 1);
  return Math.max(2 * (tileBytes(key) + tileBytes(value)) + tileBytes(query), results);
}
