/**
 * @file Scalar functions that several operators share, written in the kernel IR's operations.
 */
import { constant, op } from '../../ir/build.ts';
import type { Expr } from '../../ir/kernel.ts';
import { dtypes } from '../../ir/types.ts';

/** A literal of x's type. */
export const like = (x: Expr, value: number): Expr => constant(x.dtype, value);

export const addTo = (x: Expr, value: number): Expr => op('add', x, like(x, value));
export const times = (x: Expr, value: number): Expr => (value === 1 ? x : op('mul', x, like(x, value)));

/** 1 / (1 + e^-x) */
export const sigmoid = (x: Expr): Expr => op('div', like(x, 1), addTo(op('exp', op('neg', x)), 1));

export const clamp = (x: Expr, low: number, high: number): Expr =>
  op('min', op('max', x, like(x, low)), like(x, high));

export const hardSigmoid = (x: Expr, alpha: number, beta: number): Expr =>
  clamp(addTo(times(x, alpha), beta), 0, 1);

/** log(1 + e^x), without overflow for large x. */
export const softplus = (x: Expr): Expr =>
  op('add', op('max', x, like(x, 0)), op('log', addTo(op('exp', op('neg', op('abs', x))), 1)));

export const square = (x: Expr): Expr => op('mul', x, x);
export const isNegative = (x: Expr): Expr => op('lt', x, like(x, 0));

/** x / 2 * (1 + erf(x / sqrt 2)) */
export const gelu = (x: Expr): Expr => op('mul', times(x, 0.5), addTo(op('erf', times(x, Math.SQRT1_2)), 1));

/** The usual approximation of gelu by tanh. */
export const geluTanh = (x: Expr): Expr => {
  const inner = times(op('add', x, times(op('mul', square(x), x), 0.044715)), Math.sqrt(2 / Math.PI));
  return op('mul', times(x, 0.5), addTo(op('tanh', inner), 1));
};

/** x to the power of a known number, by multiplication where that is exact; undefined if it takes `pow`. */
export function powerOf(x: Expr, exponent: number): Expr | undefined {
  const float = dtypes[x.dtype].kind === 'float';
  switch (exponent) {
    case 0:
      return like(x, 1);
    case 1:
      return x;
    case 2:
      return square(x);
    case 3:
      return op('mul', square(x), x);
    case 0.5:
      return float ? op('sqrt', x) : undefined;
    case -1:
      return float ? op('div', like(x, 1), x) : undefined;
    default:
      return undefined;
  }
}

/** Integer base to an integer power (0 .. 63; more overflows for all bases that matter), by repeated squaring. */
export function integerPower(base: Expr, exponent: Expr): Expr {
  let result = like(base, 1);
  let factor = base;
  for (let bit = 0; bit < 6; bit++) {
    const masked = op('bitand', exponent, like(exponent, 1 << bit));
    result = op('select', op('eq', masked, like(exponent, 0)), result, op('mul', result, factor));
    factor = square(factor);
  }
  return result;
}
