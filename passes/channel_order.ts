/**
 * @file The channel order pass, for contractions on tensor cores: sums over the taps of a window outside and over channels inside, and
 * lays constant weights out in that order. A step of k then keeps to one tap, so where it reads, and whether that is inside the picture,
 * is worked out once a step and not once an element.
 */
import { asIndex, type Index } from '../ir/affine.ts';
import { contractionOf, type Operand } from '../ir/contraction.ts';
import type { Call } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import type { Target } from '../ir/target.ts';
import { makeArray, type Tensor } from '../ir/tensor.ts';
import { rowMajorStrides, type TensorType } from '../ir/types.ts';
import { rewriter } from '../ir/walk.ts';
import { convolutionOf } from './convolution.ts';
import { permute, permuteBuffers } from './permute.ts';

/** Fewer channels than this do not fill a copy of 16 bytes. */
const leastChannels = 8;

export function orderChannels(module: Module, target: Target): Module {
  const constants = new Map(module.constants);
  const types = new Map<string, TensorType>(module.types);
  const calls = module.calls.map((call) => {
    const order = planOrder(call, module, target);
    if (!order) return call;
    const { value, dims } = order;
    const name = `${value}.${dims.join('')}`;
    if (!constants.has(name)) {
      const { shape } = order.weights.load.buffer;
      const tensor = transposed(module.constants.get(value)!, shape, dims);
      constants.set(name, tensor);
      types.set(name, { dtype: tensor.dtype, shape: tensor.shape });
    }
    return reordered(call, order, name);
  });
  const used = new Set(calls.flatMap((c) => c.inputs));
  for (const name of module.constants.keys())
    if (!used.has(name) && module.calls.some((c) => c.inputs.includes(name))) constants.delete(name);
  return { ...module, constants, types, calls };
}

interface Order {
  /** The constant, and the operand that reads it. */
  readonly value: string;
  readonly weights: Operand;
  /** The order of its dimensions. */
  readonly dims: readonly number[];
  /** Taps first, then channels. */
  readonly over: readonly Index[];
}

/** What to change in a call; undefined if nothing is to be gained. */
function planOrder(call: Call, module: Module, target: Target): Order | undefined {
  const convolution = convolutionOf(call, module, target);
  if (!convolution) return undefined;
  const { contraction, weights, weightsValue: value, taps, channels } = convolution;
  const over = [...taps, ...channels];
  if (channels.reduce((n, i) => n * i.extent, 1) < leastChannels) return undefined;
  if (taps.every((i) => i.extent === 1) || over.every((i, n) => i === contraction.k[n])) return undefined;
  if (module.outputs.some((o) => o.value === value)) return undefined;
  // Each dimension of the weights must be one index; those of k go last, in their new order.
  const indices = weights.at.map((a) => (a.terms.length === 0 ? undefined : asIndex(a)));
  if (weights.at.some((a, d) => a.terms.length > 0 && indices[d] === undefined)) return undefined;
  const place = (d: number): number => (indices[d] ? over.indexOf(indices[d]) : -1);
  const dims = indices.map((_, d) => d).sort((p, q) => place(p) - place(q) || p - q);
  return { value, weights, dims, over };
}

function reordered(call: Call, { value, weights, dims, over }: Order, name: string): Call {
  const { sum } = contractionOf(call.kernel)!;
  const go = rewriter({
    node: (e, original) => (original === sum && e.kind === 'reduce' ? { ...e, over } : e),
  });
  const stores = call.kernel.stores.map((s) => ({ ...s, value: go(s.value) }));
  return {
    ...call,
    inputs: call.inputs.map((v) => (v === value ? name : v)),
    kernel: permuteBuffers({ ...call.kernel, stores }, new Map([[weights.load.buffer, dims]])),
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
