/**
 * @file Seeded random tensors: inputs of a run that has none, and what stands in for weights that a text leaves out.
 */
import { makeTensor, type Tensor, writer } from './tensor.ts';
import { dtypes, elementCount, type TensorType } from './types.ts';

/** Floats in [-1, 1), integers 0 to 9, truth values; the same for the same seed (xorshift32). */
export function randomInput(type: TensorType, seed: number): Tensor {
  const tensor = makeTensor(type.dtype, type.shape);
  const write = writer(tensor);
  let state = (seed * 0x9e3779b1 + 0x7f4a7c15) | 1;
  const { kind } = dtypes[type.dtype];
  for (let i = 0; i < elementCount(type.shape); i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const unit = (state >>> 0) / 2 ** 32;
    write(i, kind === 'float' ? unit * 2 - 1 : Math.floor(unit * (kind === 'bool' ? 2 : 10)));
  }
  return tensor;
}
