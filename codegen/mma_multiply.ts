/**
 * @file The two ways of multiplying a staged step on tensor cores. `mma`: warps load fragments from shared memory and multiply them at once.
 * `wgmma`: four warps start products that the tensor cores carry out by themselves, straight from shared memory, while the warps
 * start copies for later steps.
 */
import type { MmaSchedule } from '../ir/kernel.ts';
import { storageType } from './c.ts';
import type { StagedOperand } from './mma_staging.ts';
import type { KernelWriter } from './writer.ts';

/** Vectors of sums that others left which a thread has on their way together. */
export const loadsAtOnce = 16;

export interface Multiplication {
  /** Dimensions of a thread's sums. */
  readonly sums: readonly [number, number];
  /** What a stage's memory must be aligned to, in bytes. */
  readonly alignment: number;
  /** Steps that are on their way while one is multiplied. */
  readonly ahead: number;
  /** Declares where the warp's sums are in the tile, and what else there is before the loop. */
  open(): void;
  /** Multiplies a step, or starts to. */
  multiply(stage: string): void;
  /** After the copies of a later step have been started. */
  wait(): void;
  /** After the last step. */
  close(): void;
  /** Puts rows of the warp's sums down in shared memory, those of `part` from `row` on. */
  put(part: string, row: string): string;
  /** The same of what the blocks of a tile have left. */
  putLeft(part: string, row: string): string;
  /** Vectors that this reads of each block before it waits for the first. */
  readonly leftAtOnce: number;
}

export const multiplicationOf = (
  w: KernelWriter,
  s: MmaSchedule,
  operands: readonly [StagedOperand, StagedOperand],
): Multiplication => (s.instruction === 'mma' ? byWarps(w, s, operands) : byWarpgroups(w, s, operands[0]));

function byWarps(
  w: KernelWriter,
  { tile, warps, stages, threads }: MmaSchedule,
  operands: readonly StagedOperand[],
): Multiplication {
  const [warpM, warpN] = [tile.m / warps.m, tile.n / warps.n];
  const [columns, rows] = [warpM / 8, warpN / 16];
  return {
    sums: [rows, columns],
    alignment: 16,
    ahead: stages - 1,
    open() {
      w.line(`const int warp_m = warp % ${warps.m} * ${warpM}, warp_n = warp / ${warps.m} * ${warpN};`);
    },
    multiply(stage) {
      const kMajor = operands.map((o) => o.kMajor).join(', ');
      const tiles = operands.map((o) => `${stage}.${o.side}`).join(', ');
      w.line(`multiply_step<TK, ${kMajor}, ${columns}, ${rows}>(acc, ${tiles}, warp_m, warp_n, lane);`);
    },
    wait() {},
    close() {},
    put: (part, row) =>
      `put_fragments<${columns}>(shared.sums[segment], acc[${part}], ${row}, warp_m, lane);`,
    // It asks for as many as there may be by itself.
    leftAtOnce: loadsAtOnce,
    putLeft: (part, row) =>
      `put_left_sums<SPLITS, ${threads}, ${rows}, ${columns}>(shared.sums[segment], left, ${part}, ${row}, warp_m, lane);`,
  };
}

function byWarpgroups(
  w: KernelWriter,
  { tile, warps, stages, threads }: MmaSchedule,
  a: StagedOperand,
): Multiplication {
  const type = storageType[a.buffer.dtype];
  const groupM = (4 * tile.m) / warps.m;
  const n = tile.n / warps.n;
  const [blocks, parts] = [groupM / 64, n / 8];
  w.definitions.add(productOf(n, type));
  return {
    sums: [blocks, parts],
    alignment: 1024,
    // The step before may still be multiplied when the copies of a later one start.
    ahead: stages - 2,
    open() {
      w.line(
        `const int group_m = warp % ${warps.m} / 4 * ${groupM}, warp_m = group_m + warp % 4 * 16, warp_n = warp / ${warps.m} * ${n};`,
      );
    },
    multiply(stage) {
      w.line(`start_step<TK, ${n}>(acc, ${stage}.a, ${stage}.b, group_m, warp_n);`);
    },
    wait() {
      w.line(
        'multiplied<1>();  // the step before: its stage is free once all have come to the next barrier',
      );
    },
    close() {
      w.line('multiplied<0>();');
      w.line('#pragma unroll');
      w.line(`for (int f = 0; f < ${blocks}; f++) hold_sums(acc[f]);`);
    },
    put: (part, row) => `put_columns(shared.sums[segment], acc, ${part}, ${row}, warp_m, lane);`,
    leftAtOnce: blocks,
    putLeft: (part, row) =>
      `put_left_columns<SPLITS, ${threads}, ${blocks}, ${parts}>(shared.sums[segment], left, ${part}, ${row}, warp_m, lane);`,
  };
}

/** The instruction for 64 by `n` by 16: it names each of its registers. */
function productOf(n: number, type: string): string {
  const types = type === 'half_t' ? 'f16.f16' : 'bf16.bf16';
  const registers = Array.from({ length: n / 2 }, (_, r) => `%${r}`).join(', ');
  const columns = Array.from({ length: n / 8 }, (_, i) => `EIGHT_COLUMNS(${i})`).join(', ');
  return `WARPGROUP_PRODUCT(${n}, ${type}, "${types}", "${registers}", "%${n / 2}", "%${n / 2 + 1}", ${columns});\n`;
}
