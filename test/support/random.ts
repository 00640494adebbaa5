/**
 * @file Seeded random tensors, and comparison of tensors.
 */
import { makeTensor, reader, type Tensor, writer } from '../../ir/tensor.ts';
import { type DType, dtypes } from '../../ir/types.ts';

/** A small, fast generator of uniform numbers in [0, 1) (mulberry32). */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Floats in [-1, 1), small integers, or truth values. */
export function randomTensor(dtype: DType, shape: readonly number[], seed: number): Tensor {
  const next = generator(seed);
  const tensor = makeTensor(dtype, shape);
  const write = writer(tensor);
  const { kind } = dtypes[dtype];
  for (let i = 0; i < tensor.data.length; i++) {
    if (kind === 'float') write(i, next() * 2 - 1);
    else if (kind === 'bool') write(i, next() < 0.5 ? 0 : 1);
    else write(i, Math.floor(next() * 20) - (dtype === 'u8' ? 0 : 10));
  }
  return tensor;
}

/** ||a - b|| / ||b||, or the largest difference where b is all zeros; NaN counts as infinitely wrong unless both are NaN. */
export function relativeError(a: Tensor, b: Tensor): number {
  const [x, y] = [reader(a), reader(b)];
  let difference = 0;
  let size = 0;
  for (let i = 0; i < b.data.length; i++) {
    const [p, q] = [x(i), y(i)];
    if (Object.is(p, q) || p === q) {
      if (Number.isFinite(q)) size += q * q;
      continue;
    }
    const d = p - q;
    if (!Number.isFinite(d)) return Number.POSITIVE_INFINITY;
    difference += d * d;
    size += q * q;
  }
  return size === 0 ? Math.sqrt(difference) : Math.sqrt(difference / size);
}
