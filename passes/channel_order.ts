/**
 * @file The channel order pass, for contractions on tensor cores: sums over the taps of a window outside and over channels inside, and
 * lays constant weights out in that order. A step of k then keeps to one tap, so where it reads, and whether that is inside the picture,
 * is worked out once a step and not once an element.
 */
import { asIndex, type Index, indicesOf } from '../ir/affine.ts';
import { buffer as makeBuffer } from '../ir/build.ts';
import { contractionOf, type Operand } from '../ir/contraction.ts';
import type { Call } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import type { Target } from '../ir/target.ts';
import { makeArray, type Tensor } from '../ir/tensor.ts';
import { rowMajorStrides, type TensorType } from '../ir/types.ts';
import { rewriter } from '../ir/walk.ts';
import { usesMma } from './mma_tile.ts';

/** Fewer channels than this do not fill a step. */
const leastChannels = 16;

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
function planOrder({ kernel, inputs }: Call, module: Module, target: Target): Order | undefined {
  const c = contractionOf(kernel);
  if (!c || !usesMma(c, target)) return undefined;
  for (const [picture, weights] of [
    [c.a, c.b],
    [c.b, c.a],
  ] as const) {
    const value = inputs[kernel.inputs.indexOf(weights.load.buffer)]!;
    const isOnlyUse = inputs.filter((v) => v === value).length === 1;
    if (!isOnlyUse || !module.constants.has(value) || module.outputs.some((o) => o.value === value)) continue;
    const moving = new Set(
      picture.at
        .map((a) => [...indicesOf(a)])
        .filter((indices) => indices.some((i) => picture.positions.includes(i)))
        .flat(),
    );
    const taps = c.k.filter((i) => moving.has(i));
    const channels = c.k.filter((i) => !moving.has(i));
    const over = [...taps, ...channels];
    if (channels.reduce((n, i) => n * i.extent, 1) < leastChannels) continue;
    if (taps.every((i) => i.extent === 1) || over.every((i, n) => i === c.k[n])) continue;
    // Each dimension of the weights must be one index; those of k go last, in their new order.
    const indices = weights.at.map((a) => (a.terms.length === 0 ? undefined : asIndex(a)));
    if (weights.at.some((a, d) => a.terms.length > 0 && indices[d] === undefined)) continue;
    const place = (d: number): number => (indices[d] ? over.indexOf(indices[d]) : -1);
    const dims = indices.map((_, d) => d).sort((p, q) => place(p) - place(q) || p - q);
    return { value, weights, dims, over };
  }
  return undefined;
}

function reordered(call: Call, { value, weights, dims, over }: Order, name: string): Call {
  const { kernel } = call;
  const { sum } = contractionOf(kernel)!;
  const old = weights.load.buffer;
  const laidOut = makeBuffer(
    old.name,
    old.dtype,
    dims.map((d) => old.shape[d]!),
  );
  const go = rewriter({
    node: (e, original) => {
      if (original === sum && e.kind === 'reduce') return { ...e, over };
      if (e.kind === 'load' && e.buffer === old)
        return { ...e, buffer: laidOut, at: dims.map((d) => e.at[d]!) };
      return e;
    },
  });
  return {
    ...call,
    inputs: call.inputs.map((v) => (v === value ? name : v)),
    kernel: {
      ...kernel,
      inputs: kernel.inputs.map((b) => (b === old ? laidOut : b)),
      stores: kernel.stores.map((s) => ({ ...s, value: go(s.value) })),
    },
  };
}

/** The tensor, seen under `shape`, with its dimensions in another order. */
function transposed(tensor: Tensor, shape: readonly number[], dims: readonly number[]): Tensor {
  const data = makeArray(tensor.dtype, tensor.data.length);
  const strides = rowMajorStrides(shape);
  const extents = dims.map((d) => shape[d]!);
  const steps = dims.map((d) => strides[d]!);
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
