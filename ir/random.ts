/**
 * @file Seeded random tensors: inputs of a run that has none, and what stands in for weights that a text leaves out.
 */
import { makeTensor, type Tensor, writer } from './tensor.ts';
import { dtypes, type TensorType } from './types.ts';

/** Uniform numbers in [0, 1), the same for the same seed (xorshift32). */
export function generator(seed: number): () => number {
  // In an array, as a variable of that many bits would be a new object at each draw.
  const state = Int32Array.of((seed * 0x9e3779b1 + 0x7f4a7c15) | 1);
  return () => {
    let x = state[0]!;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    state[0] = x;
    return (x >>> 0) / 2 ** 32;
  };
}

/** Floats in [-1, 1), integers from 0 up to `integers`, truth values; the same for the same seed. */
export function randomInput(type: TensorType, seed: number, integers = 10): Tensor {
  const tensor = makeTensor(type.dtype, type.shape);
  const write = writer(tensor);
  const next = generator(seed);
  const { kind } = dtypes[type.dtype];
  const { length } = tensor.data;
  for (let i = 0; i < length; i++) {
    write(i, kind === 'float' ? next() * 2 - 1 : Math.floor(next() * (kind === 'bool' ? 2 : integers)));
  }
  return tensor;
}
