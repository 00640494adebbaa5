/**
 * @file Every scalar operation of the kernel IR, declared once: operands, result type, meaning. The verifier,
 * the interpreter and (through an exhaustive table of its own) codegen all read this list.
 */
import { type DType, dtypes } from './types.ts';

/** Which element types an operation takes. */
type Domain = 'float' | 'int' | 'number' | 'bool' | 'any';

interface OpInfo {
  readonly arity: 1 | 2 | 3;
  /** Types of the operands; they all have one type (a `select`'s condition, an i1, aside). */
  readonly takes: Domain;
  /** `same`: the operands' type. */
  readonly gives: 'same' | 'i1';
  /** The meaning on numbers, before rounding to the result type. `dtype` is the operands' type. */
  readonly evaluate: (dtype: DType, a: number, b: number, c: number) => number;
  /** Devices round it to within a few units in the last place, each in its own way; all else is exactly rounded everywhere. */
  readonly approximate?: true;
  readonly doc: string;
}

const float = (doc: string, f: (a: number) => number): OpInfo => ({
  arity: 1,
  takes: 'float',
  gives: 'same',
  evaluate: (_, a) => f(a),
  doc,
});

const approximate = (doc: string, f: (a: number) => number): OpInfo => ({
  ...float(doc, f),
  approximate: true,
});

const binary = (
  takes: Domain,
  doc: string,
  evaluate: (dtype: DType, a: number, b: number) => number,
): OpInfo => ({
  arity: 2,
  takes,
  gives: 'same',
  evaluate,
  doc,
});

const compare = (doc: string, f: (a: number, b: number) => boolean): OpInfo => ({
  arity: 2,
  takes: 'any',
  gives: 'i1',
  evaluate: (_, a, b) => (f(a, b) ? 1 : 0),
  doc,
});

const bitwise = (
  doc: string,
  small: (a: number, b: number) => number,
  wide: (a: bigint, b: bigint) => bigint,
) =>
  binary('int', doc, (dtype, a, b) =>
    dtype === 'i64' ? Number(BigInt.asIntN(64, wide(BigInt(a), BigInt(b)))) : small(a, b),
  );

export const scalarOps = {
  neg: { arity: 1, takes: 'number', gives: 'same', evaluate: (_, a) => -a, doc: 'negation' },
  abs: { arity: 1, takes: 'number', gives: 'same', evaluate: (_, a) => Math.abs(a), doc: 'absolute value' },
  sign: { arity: 1, takes: 'number', gives: 'same', evaluate: (_, a) => Math.sign(a), doc: '-1, 0 or 1' },
  sqrt: float('square root', Math.sqrt),
  exp: approximate('e to the power a', Math.exp),
  log: approximate('natural logarithm', Math.log),
  sin: approximate('sine', Math.sin),
  cos: approximate('cosine', Math.cos),
  tan: approximate('tangent', Math.tan),
  asin: approximate('inverse sine', Math.asin),
  acos: approximate('inverse cosine', Math.acos),
  atan: approximate('inverse tangent', Math.atan),
  sinh: approximate('hyperbolic sine', Math.sinh),
  cosh: approximate('hyperbolic cosine', Math.cosh),
  tanh: approximate('hyperbolic tangent', Math.tanh),
  asinh: approximate('inverse hyperbolic sine', Math.asinh),
  acosh: approximate('inverse hyperbolic cosine', Math.acosh),
  atanh: approximate('inverse hyperbolic tangent', Math.atanh),
  erf: approximate('the error function', erf),
  floor: float('round towards minus infinity', Math.floor),
  ceil: float('round towards plus infinity', Math.ceil),
  round: float('round to nearest, ties to even', roundHalfEven),
  isnan: {
    arity: 1,
    takes: 'float',
    gives: 'i1',
    evaluate: (_, a) => Number(Number.isNaN(a)),
    doc: 'is a NaN',
  },
  not: { arity: 1, takes: 'bool', gives: 'same', evaluate: (_, a) => 1 - a, doc: 'logical not' },
  bitnot: { arity: 1, takes: 'int', gives: 'same', evaluate: (_, a) => -a - 1, doc: 'bitwise not' },

  add: binary('number', 'sum', (_, a, b) => a + b),
  sub: binary('number', 'difference', (_, a, b) => a - b),
  mul: binary('number', 'product', (dtype, a, b) => (dtype === 'i32' ? Math.imul(a, b) : a * b)),
  div: binary('number', 'quotient; integers truncate, and give 0 when divided by 0', (dtype, a, b) =>
    dtypes[dtype].kind === 'float' ? a / b : b === 0 ? 0 : Math.trunc(a / b),
  ),
  rem: binary(
    'number',
    "remainder with the dividend's sign (C's % and fmod); 0 when divided by an integer 0",
    (dtype, a, b) => (b === 0 && dtypes[dtype].kind === 'int' ? 0 : a % b),
  ),
  pow: { ...binary('float', 'a to the power b', (_, a, b) => a ** b), approximate: true },
  max: binary('any', 'the greater; NaN if either is', (_, a, b) => Math.max(a, b)),
  min: binary('any', 'the lesser; NaN if either is', (_, a, b) => Math.min(a, b)),
  bitand: bitwise(
    'bitwise and',
    (a, b) => a & b,
    (a, b) => a & b,
  ),
  bitor: bitwise(
    'bitwise or',
    (a, b) => a | b,
    (a, b) => a | b,
  ),
  bitxor: bitwise(
    'bitwise exclusive or',
    (a, b) => a ^ b,
    (a, b) => a ^ b,
  ),
  and: binary('bool', 'logical and', (_, a, b) => a & b),
  or: binary('bool', 'logical or', (_, a, b) => a | b),
  xor: binary('bool', 'logical exclusive or', (_, a, b) => a ^ b),
  eq: compare('a = b', (a, b) => a === b),
  lt: compare('a < b', (a, b) => a < b),
  le: compare('a <= b', (a, b) => a <= b),

  select: {
    arity: 3,
    takes: 'any',
    gives: 'same',
    evaluate: (_, a, b, c) => (a !== 0 ? b : c),
    doc: 'a ? b : c',
  },
} as const satisfies Record<string, OpInfo>;

export type ScalarOp = keyof typeof scalarOps;

/** The table's entry, widened to its interface. */
export const opInfo = (op: ScalarOp): OpInfo => scalarOps[op];

/** How a reduction combines its values, declared once: what it starts from and how two partial results join. */
export const combiners = {
  sum: { op: 'add', start: () => 0 },
  prod: { op: 'mul', start: () => 1 },
  max: { op: 'max', start: (dtype) => (dtypes[dtype].kind === 'float' ? -Infinity : dtypes[dtype].min) },
  min: { op: 'min', start: (dtype) => (dtypes[dtype].kind === 'float' ? Infinity : dtypes[dtype].max) },
} as const satisfies Record<string, { op: ScalarOp; start: (dtype: DType) => number }>;

export type Combiner = keyof typeof combiners;

/** True if the operation takes operands of the element type. */
export function takes(op: ScalarOp, dtype: DType): boolean {
  const domain: Domain = opInfo(op).takes;
  const { kind } = dtypes[dtype];
  return domain === 'any' || domain === kind || (domain === 'number' && kind !== 'bool');
}

function roundHalfEven(a: number): number {
  const r = Math.round(a);
  return Math.abs(a % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

/**
 * The error function in double precision: its Maclaurin series where that converges fast, else the continued
 * fraction of erfc (Abramowitz and Stegun 7.1.5 and 7.1.14).
 */
function erf(x: number): number {
  if (Number.isNaN(x)) return x;
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = a;
    let sum = a;
    for (let n = 1; Math.abs(term) > 1e-17 * sum; n++) {
      term *= (-a * a) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * (a + fraction)));
}
