/**
 * @file Kernels that see some of their buffers with the dimensions in another order: how a change of layout reaches them.
 */
import { buffer as makeBuffer } from '../ir/build.ts';
import type { Buffer, Kernel } from '../ir/kernel.ts';
import { rewriter } from '../ir/walk.ts';

/** A list in the order of the given places: the old place of each new one. */
export const permute = <T>(list: readonly T[], order: readonly number[]): T[] => order.map((d) => list[d]!);

/** The kernel with the dimensions of each named buffer, and the coordinates of all accesses to it, in the given order. */
export function permuteBuffers(kernel: Kernel, orders: ReadonlyMap<Buffer, readonly number[]>): Kernel {
  const permuted = new Map(
    [...orders].map(([b, order]) => [b, makeBuffer(b.name, b.dtype, permute(b.shape, order))]),
  );
  const buffer = (b: Buffer): Buffer => permuted.get(b) ?? b;
  const at = <T>(b: Buffer, coordinates: readonly T[]): readonly T[] => {
    const order = orders.get(b);
    return order ? permute(coordinates, order) : coordinates;
  };
  const go = rewriter({
    node: (e) =>
      e.kind === 'load' && orders.has(e.buffer)
        ? { ...e, buffer: buffer(e.buffer), at: at(e.buffer, e.at) }
        : e,
  });
  return {
    ...kernel,
    inputs: kernel.inputs.map(buffer),
    outputs: kernel.outputs.map(buffer),
    stores: kernel.stores.map((s) => ({
      ...s,
      buffer: buffer(s.buffer),
      at: at(s.buffer, s.at),
      value: go(s.value),
    })),
  };
}
