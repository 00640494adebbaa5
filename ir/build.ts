/**
 * @file Builds expressions and kernels. Types are checked here, when a node is made, so a mistake shows where it
 * is written and not in a later pass.
 */
import { type Affine, type AffineLike, affine, type Index, index } from './affine.ts';
import type { Buffer, Coordinate, Expr, Kernel, Reduce, Store } from './kernel.ts';
import { type Combiner, opInfo, type ScalarOp, takes } from './ops.ts';
import { castValue, roundTo } from './tensor.ts';
import { type DType, formatType, isHalf } from './types.ts';

export const buffer = (name: string, dtype: DType, shape: readonly number[]): Buffer => ({
  name,
  dtype,
  shape,
});

/** A literal, rounded to its type. */
export const constant = (dtype: DType, value: number): Expr => ({
  kind: 'const',
  dtype,
  value: roundTo(dtype, value),
});

/** Index arithmetic as an i32 value. */
export const indexValue = (e: AffineLike): Expr => ({ kind: 'index', dtype: 'i32', value: affine(e) });

/** Loads `buffer[at]`; an `Expr` among the coordinates is a gather and needs `pad`. */
export function load(from: Buffer, at: readonly (AffineLike | Expr)[], pad?: number): Expr {
  if (at.length !== from.shape.length) {
    throw new TypeError(`%${from.name} is ${formatType(from)}: ${at.length} coordinates given`);
  }
  const coordinates = at.map((c): Coordinate => (isExpr(c) ? { gather: c } : { affine: affine(c) }));
  if (pad === undefined && coordinates.some((c) => 'gather' in c)) {
    throw new TypeError(`a gather from %${from.name} needs a pad value`);
  }
  const base = { kind: 'load', dtype: from.dtype, buffer: from, at: coordinates } as const;
  return pad === undefined ? base : { ...base, pad: roundTo(from.dtype, pad) };
}

const isExpr = (c: AffineLike | Expr): c is Expr => typeof c === 'object' && 'kind' in c && 'dtype' in c;

export function op(name: ScalarOp, ...args: Expr[]): Expr {
  const info = opInfo(name);
  if (args.length !== info.arity)
    throw new TypeError(`${name} takes ${info.arity} operands, got ${args.length}`);
  const operands = name === 'select' ? args.slice(1) : args;
  const dtype = operands[0]!.dtype;
  if (name === 'select' && args[0]!.dtype !== 'i1')
    throw new TypeError(`select's condition is ${args[0]!.dtype}`);
  if (operands.some((a) => a.dtype !== dtype)) {
    throw new TypeError(`${name} of unlike types: ${operands.map((a) => a.dtype).join(', ')}`);
  }
  if (!takes(name, dtype)) throw new TypeError(`${name} does not take ${dtype}`);
  return { kind: 'op', op: name, dtype: info.gives === 'same' ? dtype : info.gives, args };
}

/** Converts to another type; nothing if it is that type already. */
export function cast(dtype: DType, arg: Expr): Expr {
  if (arg.dtype === dtype) return arg;
  if (arg.kind === 'const') return constant(dtype, castValue(arg.value, arg.dtype, dtype));
  return { kind: 'cast', dtype, arg };
}

/** The type arithmetic is done in: half floats widen to f32, all else stays. */
export const computeType = (dtype: DType): DType => (isHalf(dtype) ? 'f32' : dtype);

/** The value in the type that arithmetic on it is done in. */
export const widen = (arg: Expr): Expr => cast(computeType(arg.dtype), arg);

export function reduce(combine: Combiner, over: readonly Index[], body: Expr): Expr {
  if (over.length === 0) return body;
  return { kind: 'reduce', dtype: body.dtype, combine, over, body } satisfies Reduce;
}

export function store(
  to: Buffer,
  at: readonly AffineLike[],
  value: Expr,
  over: readonly Index[] = [],
): Store {
  if (at.length !== to.shape.length) {
    throw new TypeError(`%${to.name} is ${formatType(to)}: ${at.length} coordinates given`);
  }
  if (value.dtype !== to.dtype)
    throw new TypeError(`%${to.name} holds ${to.dtype}, the value is ${value.dtype}`);
  return { buffer: to, at: at.map((a): Affine => affine(a)), over, value };
}

/** One index per dimension of a shape. Names are `prefix0`, `prefix1`, … or the given ones. */
export const indicesFor = (shape: readonly number[], names: string | readonly string[] = 'i'): Index[] =>
  shape.map((extent, d) => index(typeof names === 'string' ? `${names}${d}` : names[d]!, extent));

/** A kernel without a schedule; passes choose one. */
export const kernel = (
  name: string,
  inputs: readonly Buffer[],
  outputs: readonly Buffer[],
  domain: readonly Index[],
  stores: readonly Store[],
  loc: readonly string[] = [],
): Kernel => ({ name, inputs, outputs, domain, stores, loc });
