/**
 * @file What a kernel costs whatever runs it: arithmetic and memory traffic, counted from its text. What a time is held against.
 */
import type { Index } from './affine.ts';
import { volume } from './contraction.ts';
import type { Buffer, Expr, Kernel } from './kernel.ts';
import { byteSize, dtypes, isFloat } from './types.ts';
import { freeIndices, visitExprs } from './walk.ts';

export interface Cost {
  /** Floating-point operations; a multiplication and the addition of its product to a sum are two, any function is one. */
  readonly flops: number;
  /** Bytes that must move if every element that is read or written moves once. */
  readonly bytes: number;
}

export const noCost: Cost = { flops: 0, bytes: 0 };

export const addCosts = (a: Cost, b: Cost): Cost => ({ flops: a.flops + b.flops, bytes: a.bytes + b.bytes });

/**
 * Counts each value once for every combination of the indices that it depends on, as it is computed in the outermost loop that has
 * them. Padding counts like data, so a convolution is what it is on paper.
 */
export function costOf(kernel: Kernel): Cost {
  const free = freeIndices();
  const points = (e: Expr): number => volume([...free(e)]);
  const read = new Map<Buffer, number>();
  let flops = 0;
  visitExprs(
    kernel.stores.map((s) => s.value),
    (e) => {
      if (e.kind === 'op' && isFloat(e.dtype) && e.op !== 'select') flops += points(e);
      if (e.kind === 'reduce' && isFloat(e.dtype))
        flops += volume([...new Set<Index>([...free(e.body), ...e.over])]);
      if (e.kind === 'load')
        read.set(e.buffer, (read.get(e.buffer) ?? 0) + points(e) * dtypes[e.dtype].bytes);
    },
  );
  // A gather, or a part that is cut out, reads less than the buffer; overlapping windows read no more than all of it.
  const inputs = [...read].map(([buffer, bytes]) => Math.min(bytes, byteSize(buffer)));
  const outputs = kernel.outputs.map((b) => byteSize(b));
  return { flops, bytes: [...inputs, ...outputs].reduce((sum, n) => sum + n, 0) };
}
