/**
 * @file The kernel IR. A kernel says what is computed, point by point of a parallel domain; beside it a schedule
 * says how. Expressions are immutable and shared (a DAG): a value used twice is one object, computed once.
 */
import type { Affine, Index } from './affine.ts';
import type { Combiner, ScalarOp } from './ops.ts';
import type { DType, TensorType } from './types.ts';

/** A parameter of a kernel: a dense row-major tensor in device memory. Identity is by object. */
export interface Buffer extends TensorType {
  readonly name: string;
}

/** A coordinate of a load: index arithmetic, or (gather) an integer value computed from data. */
export type Coordinate = { readonly affine: Affine } | { readonly gather: Expr };

/** A scalar value. `dtype` is its type. */
export type Expr = Const | IndexValue | Load | Op | Cast | Reduce;

export interface Const {
  readonly kind: 'const';
  readonly dtype: DType;
  readonly value: number;
}

/** Index arithmetic used as a number (always i32). */
export interface IndexValue {
  readonly kind: 'index';
  readonly dtype: 'i32';
  readonly value: Affine;
}

/**
 * Reads one element. With `pad`, a coordinate outside the buffer gives that value instead (a gather always has
 * a pad, since no proof can bound data); without, the verifier must prove every coordinate inside.
 */
export interface Load {
  readonly kind: 'load';
  readonly dtype: DType;
  readonly buffer: Buffer;
  readonly at: readonly Coordinate[];
  readonly pad?: number;
}

export interface Op {
  readonly kind: 'op';
  readonly dtype: DType;
  readonly op: ScalarOp;
  readonly args: readonly Expr[];
}

export interface Cast {
  readonly kind: 'cast';
  readonly dtype: DType;
  readonly arg: Expr;
}

/** Combines `body` over a box of indices that it binds; the accumulator has the body's type. */
export interface Reduce {
  readonly kind: 'reduce';
  readonly dtype: DType;
  readonly combine: Combiner;
  readonly over: readonly Index[];
  readonly body: Expr;
}

/** buffer[at] = value, for every point of the domain and of the further indices `over`. */
export interface Store {
  readonly buffer: Buffer;
  readonly at: readonly Affine[];
  readonly over: readonly Index[];
  readonly value: Expr;
}

/**
 * A typed loop nest. Inputs are only read, outputs only written, each element of an output exactly once.
 * `loc` names the model's nodes it came from.
 */
export interface Kernel extends Partial<Schedules> {
  readonly name: string;
  readonly inputs: readonly Buffer[];
  readonly outputs: readonly Buffer[];
  readonly domain: readonly Index[];
  readonly stores: readonly Store[];
  readonly loc: readonly string[];
}

/**
 * How a kernel runs, by the width of its word: one schedule for a word of one slot that has the device to itself, and maybe others for wider
 * words and for those that run beside others. They may differ in all that the bits do not depend on (verify_schedule.ts).
 */
export interface Schedules {
  readonly schedule: Schedule;
  /** Ascending. */
  readonly wider?: readonly WiderSchedule[];
}

/** For words of `from` slots and more, up to the next one's. From 1: also for words of one slot, if others run beside them. */
export interface WiderSchedule {
  readonly from: number;
  readonly schedule: Schedule;
}

/** A kernel with one schedule, for words of `from` slots and more; two may be from 1, the second for words beside others. */
export interface KernelVariant {
  readonly from: number;
  readonly kernel: Kernel;
}

/** The kernel as words of each width run it, ascending; the first is from 1. */
export function kernelVariants(kernel: Kernel): readonly [KernelVariant, ...KernelVariant[]] {
  if (!kernel.wider) return [{ from: 1, kernel }];
  const { wider, ...first } = kernel;
  return [
    { from: 1, kernel: first },
    ...wider.map(({ from, schedule }) => ({ from, kernel: { ...first, schedule } })),
  ];
}

/** How a kernel runs. Never changes what it computes, but fixes the order of accumulation (so it is in the class). */
export type Schedule =
  | MapSchedule
  | ReductionSchedule
  | ContractionSchedule
  | MmaSchedule
  | AttentionSchedule;

/**
 * Each thread computes points of the domain by itself: `perThread` times `vector` neighbours along the innermost index that is more than
 * one (1, 2, 4 or 8; see ir/vector.ts).
 */
export interface MapSchedule {
  readonly skeleton: 'map';
  readonly threads: number;
  readonly perThread: number;
  readonly vector: number;
}

/**
 * A group of `lanes` threads shares each point: reductions and store loops are dealt out over the lanes. A step takes `unroll` times `vector`
 * neighbours a lane and reads all of them before it uses the first; what is read of a loop that is one step is kept for the loops after
 * it. Each element of a vector is combined with its like in the vectors after it, then the elements of a lane are, then the lanes are.
 */
export interface ReductionSchedule {
  readonly skeleton: 'reduction';
  readonly threads: number;
  readonly lanes: number;
  readonly vector: number;
  readonly unroll: number;
}

/**
 * A tile of m by n outputs a block, operands staged through shared memory k at a time; each thread holds
 * `perThread` m by n accumulators. The sum over k runs in order, so tiles do not change the bits. With several `stages`, tiles of later steps are
 * on their way while one is multiplied; one thread a block (the host) has one.
 */
export interface ContractionSchedule {
  readonly skeleton: 'contraction';
  readonly threads: number;
  readonly tile: { readonly m: number; readonly n: number; readonly k: number };
  readonly perThread: { readonly m: number; readonly n: number };
  readonly stages: number;
}

/**
 * A contraction of 16-bit floats on tensor cores, in tiles of m by n outputs. k is cut into `segments` ranges, each for a group of threads
 * of its own, and each of these into `splits` parts, each for a block of its own: both powers of two. A part is summed in order from zero,
 * and parts are added pairwise, so that the bits depend on the number of parts alone (ir/mma.ts). A group's warps share out the tile; its
 * operands are staged through shared memory, k at a time, `stages` deep.
 */
export interface MmaSchedule {
  readonly skeleton: 'mma';
  /**
   * `mma`: each warp multiplies fragments that it loads to registers. `wgmma`: four warps together multiply 64 positions of m by up to 256 of
   * n, read from shared memory by the tensor cores themselves (sm_90).
   */
  readonly instruction: 'mma' | 'wgmma';
  readonly threads: number;
  readonly tile: { readonly m: number; readonly n: number; readonly k: number };
  /** Warps of a group along m and n. */
  readonly warps: { readonly m: number; readonly n: number };
  readonly stages: number;
  readonly segments: number;
  readonly splits: number;
}

/**
 * Attention of 16-bit floats on tensor cores. A block takes a tile of queries, 16 a warp, over all keys, a tile of them at a time and in
 * order: scores and their weights stay in registers, and what was summed is scaled whenever a greater score turns up. The tile of keys
 * is thus what the bits depend on.
 */
export interface AttentionSchedule {
  readonly skeleton: 'attention';
  readonly threads: number;
  readonly tile: { readonly queries: number; readonly keys: number };
  /** Room for the features that queries and keys are compared by, and for those of a value: 16, 32, 64 or 128. */
  readonly room: { readonly features: number; readonly values: number };
}

/** What a kernel that is called reads and writes: a module's values for its inputs and outputs, in order. */
export interface Call {
  readonly kernel: Kernel;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}
