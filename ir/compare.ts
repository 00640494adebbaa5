/**
 * @file How far a result may lie from what is expected, and how far it does.
 */
import { reader, type Tensor } from './tensor.ts';
import { isFloat } from './types.ts';

export interface Comparison {
  /** Largest |got - expected| over the largest |expected|; infinite where one is NaN and the other is not. */
  readonly largest: number;
  readonly tolerance: number;
  readonly ok: boolean;
}

/** Largest error allowed: for floats kept in 32 and in 16 bits; integers must be exact. */
export const tolerances = { wide: 1e-4, half: 1e-2 } as const;

/** Compares an output with what is expected: exactly for integers, else within the tolerance, relative to the tensor's scale. */
export function compare(got: Tensor, expected: Tensor, tolerance: number): Comparison {
  const [g, e] = [reader(got), reader(expected)];
  let difference = 0;
  let scale = 0;
  for (let i = 0; i < expected.data.length; i++) {
    const [a, b] = [g(i), e(i)];
    if (Number.isFinite(b)) scale = Math.max(scale, Math.abs(b));
    if (Object.is(a, b) || a === b) continue;
    const error = Math.abs(a - b);
    difference = Math.max(difference, Number.isNaN(error) ? Number.POSITIVE_INFINITY : error);
  }
  const largest = scale > 0 ? difference / scale : difference;
  const allowed = isFloat(expected.dtype) ? tolerance : 0;
  return { largest, tolerance: allowed, ok: largest <= allowed };
}
