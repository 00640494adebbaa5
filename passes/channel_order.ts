/**
 * @file The channel order pass, for GPUs with tensor cores: lays constant weights out in the order in which neighbours read them.
 *
 * Contractions on tensor cores sum over the taps of a window outside and over channels inside. A step of k then keeps to one tap, so where
 * it reads, and whether that is inside the picture, is worked out once a step and not once an element. In maps (depthwise
 * convolutions) neighbouring points read neighbouring weights.
 */
import { type Affine, asIndex, type Index, indicesOf } from '../ir/affine.ts';
import { linearOffset } from '../ir/bounds.ts';
import { contractionOf } from '../ir/contraction.ts';
import type { Buffer, Call } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import type { Target } from '../ir/target.ts';
import { makeArray, type Tensor } from '../ir/tensor.ts';
import { elementCount, rowMajorStrides, type TensorType } from '../ir/types.ts';
import { vectorIndex } from '../ir/vector.ts';
import { loadsIn, rewriter } from '../ir/walk.ts';
import { convolutionOf } from './convolution.ts';
import { permute, permuteBuffers } from './permute.ts';
import { scheduleKernel } from './schedule.ts';

/** Fewer channels than this do not fill a copy of 16 bytes. */
const leastChannels = 8;

export function orderChannels(module: Module, target: Target): Module {
  const constants = new Map(module.constants);
  const types = new Map<string, TensorType>(module.types);
  const apply = (call: Call, order: Order): Call => {
    const { value, weights, dims } = order;
    const name = `${value}.${dims.join('')}`;
    if (!constants.has(name)) {
      const tensor = transposed(module.constants.get(value)!, weights.shape, dims);
      constants.set(name, tensor);
      types.set(name, { dtype: tensor.dtype, shape: tensor.shape });
    }
    return reordered(call, order, name);
  };
  const calls = module.calls.map((call) => planOrders(call, module, target).reduce(apply, call));
  const used = new Set(calls.flatMap((c) => c.inputs));
  for (const name of module.constants.keys())
    if (!used.has(name) && module.calls.some((c) => c.inputs.includes(name))) constants.delete(name);
  return { ...module, constants, types, calls };
}

interface Order {
  /** The constant, and the buffer that is a view of it. */
  readonly value: string;
  readonly weights: Buffer;
  /** The order of its dimensions. */
  readonly dims: readonly number[];
  /** The order of a contraction's sum: taps first, then channels. */
  readonly over?: readonly Index[];
}

/** What to change in a call; nothing if nothing is to be gained. */
function planOrders(call: Call, module: Module, target: Target): readonly Order[] {
  const convolution = convolutionOf(call, module, target);
  if (!convolution) return mapOrders(call, module, target);
  const { contraction, weights, weightsValue: value, taps, channels } = convolution;
  const over = [...taps, ...channels];
  if (channels.reduce((n, i) => n * i.extent, 1) < leastChannels) return [];
  if (taps.every((i) => i.extent === 1) || over.every((i, n) => i === contraction.k[n])) return [];
  if (module.outputs.some((o) => o.value === value)) return [];
  // Each dimension of the weights must be one index; those of k go last, in their new order.
  const indices = weights.at.map((a) => (a.terms.length === 0 ? undefined : asIndex(a)));
  if (weights.at.some((a, d) => a.terms.length > 0 && indices[d] === undefined)) return [];
  const place = (d: number): number => (indices[d] ? over.indexOf(indices[d]) : -1);
  const dims = indices.map((_, d) => d).sort((p, q) => place(p) - place(q) || p - q);
  return [{ value, weights: weights.load.buffer, dims, over }];
}

/** Constants of a map that neighbouring points, in the order of its outputs, read apart from each other. */
function mapOrders(call: Call, module: Module, target: Target): Order[] {
  const { kernel, inputs } = call;
  const along = vectorIndex(kernel);
  if (!target.mma || !along || scheduleKernel(kernel, target).schedule?.skeleton !== 'map') return [];
  const step = (buffer: Buffer, at: readonly Affine[]): number =>
    linearOffset(buffer, at)?.coefficients.get(along) ?? 0;
  if (kernel.stores.some((s) => step(s.buffer, s.at) !== 1)) return [];
  const loads = loadsIn(kernel.stores.map((s) => s.value));
  return kernel.inputs.flatMap((weights, n): Order[] => {
    const value = inputs[n]!;
    if (!module.constants.has(value) || inputs.filter((v) => v === value).length !== 1) return [];
    if (module.outputs.some((o) => o.value === value)) return [];
    // One dimension must be the index itself in every load, and no other have it.
    const reads = loads.filter((l) => l.buffer === weights).map((l) => l.at);
    const last = weights.shape.findIndex((_, d) =>
      reads.every((at) =>
        at.every((c, other) => {
          if (!('affine' in c)) return false;
          return other === d ? asIndex(c.affine) === along : !indicesOf(c.affine).has(along);
        }),
      ),
    );
    if (reads.length === 0 || last < 0 || elementCount(weights.shape.slice(last + 1)) === 1) return [];
    return [{ value, weights, dims: [...weights.shape.keys()].filter((d) => d !== last).concat(last) }];
  });
}

function reordered(call: Call, { value, weights, dims, over }: Order, name: string): Call {
  const inputs = call.inputs.map((v) => (v === value ? name : v));
  const kernel = permuteBuffers(call.kernel, new Map([[weights, dims]]));
  if (!over) return { ...call, inputs, kernel };
  const { sum } = contractionOf(kernel)!;
  const go = rewriter({
    node: (e, original) => (original === sum && e.kind === 'reduce' ? { ...e, over } : e),
  });
  return {
    ...call,
    inputs,
    kernel: { ...kernel, stores: kernel.stores.map((s) => ({ ...s, value: go(s.value) })) },
  };
}

/** The tensor, seen under `shape`, with its dimensions in another order. */
function transposed(tensor: Tensor, shape: readonly number[], dims: readonly number[]): Tensor {
  const data = makeArray(tensor.dtype, tensor.data.length);
  const strides = rowMajorStrides(shape);
  const extents = permute(shape, dims);
  const steps = permute(strides, dims);
  let to = 0;
  const walk = (d: number, from: number): void => {
    if (d === extents.length) {
      data[to++] = tensor.data[from]!;
      return;
    }
    for (let i = 0; i < extents[d]!; i++) walk(d + 1, from + i * steps[d]!);
  };
  walk(0, 0);
  return { dtype: tensor.dtype, shape: extents, data };
}
