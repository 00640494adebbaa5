/**
 * @file Seeded random tensors: inputs of a run that has none, and what stands in for weights that a text leaves out.
 */
import { makeTensor, type Tensor, writer } from './tensor.ts';
import { dtypes, elementCount, type TensorType } from './types.ts';

/** Uniform numbers in [0, 1), the same for the same seed (xorshift32). */
export function generator(seed: number): () => number {
  let state = (seed * 0x9e3779b1 + 0x7f4a7c15) | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Floats in [-1, 1), integers from 0 up to `integers`, truth values; the same for the same seed. */
export function randomInput(type: TensorType, seed: number, integers = 10): Tensor {
  const tensor = makeTensor(type.dtype, type.shape);
  const write = writer(tensor);
  const next = generator(seed);
  const { kind } = dtypes[type.dtype];
  for (let i = 0; i < elementCount(type.shape); i++) {
    write(i, kind === 'float' ? next() * 2 - 1 : Math.floor(next() * (kind === 'bool' ? 2 : integers)));
  }
  return tensor;
}
