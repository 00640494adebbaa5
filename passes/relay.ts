/**
 * @file Constants laid out anew for the kernels that read them: what passes that choose the layout of weights share.
 */
import type { Buffer, Call } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import { makeArray, type Tensor } from '../ir/tensor.ts';
import { rowMajorStrides, type TensorType } from '../ir/types.ts';
import { permute, permuteBuffers } from './permute.ts';

/** A constant that a call reads once, the buffer it is there, and the order that its dimensions are to have. */
export interface Relay {
  readonly value: string;
  readonly weights: Buffer;
  readonly dims: readonly number[];
}

/** Lays out constants as `plan` says for each call. Constants that are outputs stay; two calls that want one order share the result. */
export function relayWeights(module: Module, plan: (call: Call) => readonly Relay[]): Module {
  const constants = new Map(module.constants);
  const types = new Map<string, TensorType>(module.types);
  const apply = (call: Call, { value, weights, dims }: Relay): Call => {
    if (module.outputs.some((o) => o.value === value)) return call;
    const name = `${value}.${dims.join('')}`;
    if (!constants.has(name)) {
      const tensor = transposed(module.constants.get(value)!, weights.shape, dims);
      constants.set(name, tensor);
      types.set(name, { dtype: tensor.dtype, shape: tensor.shape });
    }
    return {
      ...call,
      inputs: call.inputs.map((v) => (v === value ? name : v)),
      kernel: permuteBuffers(call.kernel, new Map([[weights, dims]])),
    };
  };
  const calls = module.calls.map((call) => plan(call).reduce(apply, call));
  const used = new Set(calls.flatMap((c) => c.inputs));
  for (const name of module.constants.keys())
    if (!used.has(name) && module.calls.some((c) => c.inputs.includes(name))) constants.delete(name);
  return { ...module, constants, types, calls };
}

/** The tensor, seen under `shape`, with its dimensions in another order. */
function transposed(tensor: Tensor, shape: readonly number[], dims: readonly number[]): Tensor {
  const data = makeArray(tensor.dtype, tensor.data.length);
  const strides = rowMajorStrides(shape);
  const extents = permute(shape, dims);
  const steps = permute(strides, dims);
  const source = tensor.data;
  // A dimension of one element stands in where there is none.
  const inner = { extent: extents.at(-1) ?? 1, step: steps.at(-1) ?? 1 };
  let to = 0;
  const walk = (d: number, from: number): void => {
    if (d < extents.length - 1) {
      for (let i = 0; i < extents[d]!; i++) walk(d + 1, from + i * steps[d]!);
      return;
    }
    for (let i = 0; i < inner.extent; i++) data[to++] = source[from + i * inner.step]!;
  };
  walk(0, 0);
  return { dtype: tensor.dtype, shape: extents, data };
}
