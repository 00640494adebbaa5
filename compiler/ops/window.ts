/**
 * @file Sliding windows (convolution, pooling): ONNX's strides, dilations, pads and auto_pad, worked out once.
 */
import type { NodeView } from '../node_view.ts';

/** One spatial dimension of a window. */
export interface WindowDim {
  readonly kernel: number;
  readonly stride: number;
  readonly dilation: number;
  readonly padBegin: number;
  readonly padEnd: number;
  /** How many positions the window takes. */
  readonly out: number;
}

export type Window = readonly WindowDim[];

/** Reads a node's window over the spatial extents `spatial`. */
export function windowOf(node: NodeView, spatial: readonly number[], kernel: readonly number[]): Window {
  node.require(kernel.length === spatial.length, `kernel [${kernel}] over ${spatial.length} dimensions`);
  const strides = node.ints('strides') ?? spatial.map(() => 1);
  const dilations = node.ints('dilations') ?? spatial.map(() => 1);
  const pads = node.ints('pads') ?? spatial.flatMap(() => [0, 0]);
  node.require(
    strides.length === spatial.length &&
      dilations.length === spatial.length &&
      pads.length === 2 * spatial.length,
    'strides, dilations or pads of another rank',
  );
  node.require(
    [...strides, ...dilations, ...kernel].every((v) => v > 0),
    'a size below 1',
  );
  const autoPad = node.string('auto_pad', 'NOTSET');
  const ceil = node.int('ceil_mode', 0) !== 0;
  return spatial.map((extent, d) => {
    const stride = strides[d]!;
    const dilation = dilations[d]!;
    const reach = (kernel[d]! - 1) * dilation + 1;
    const common = { kernel: kernel[d]!, stride, dilation };
    if (autoPad === 'SAME_UPPER' || autoPad === 'SAME_LOWER') {
      const out = Math.ceil(extent / stride);
      const total = Math.max(0, (out - 1) * stride + reach - extent);
      const less = Math.floor(total / 2);
      const padBegin = autoPad === 'SAME_UPPER' ? less : total - less;
      return { ...common, padBegin, padEnd: total - padBegin, out };
    }
    const padBegin = autoPad === 'VALID' ? 0 : pads[d]!;
    const padEnd = autoPad === 'VALID' ? 0 : pads[d + spatial.length]!;
    node.require(padBegin >= 0 && padEnd >= 0, 'negative pads');
    const steps = (extent + padBegin + padEnd - reach) / stride;
    let out = (ceil ? Math.ceil(steps) : Math.floor(steps)) + 1;
    // A last window that would start inside the end padding does not count (ONNX since opset 19, and everyone else).
    if (ceil && (out - 1) * stride >= extent + padBegin) out--;
    node.require(out > 0, `the window does not fit into ${extent}`);
    return { ...common, padBegin, padEnd, out };
  });
}
