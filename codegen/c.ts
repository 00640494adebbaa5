/**
 * @file C spellings of types, literals and scalar operations, for CUDA C and for the host's C++ alike.
 */
import type { ScalarOp } from '../ir/ops.ts';
import { type DType, dtypes, isHalf } from '../ir/types.ts';

/** Type of a buffer's elements in memory. */
export const storageType = {
  f32: 'float',
  f16: 'half_t',
  bf16: 'bf16_t',
  i8: 'signed char',
  u8: 'unsigned char',
  i32: 'int',
  i64: 'long long',
  i1: 'unsigned char',
} as const satisfies { [T in DType]: string };

/** Type of a scalar in a register. */
export const scalarType: { readonly [T in DType]: string } = { ...storageType, i1: 'bool' };

/** A literal of the type. */
export function literal(dtype: DType, value: number): string {
  switch (dtype) {
    case 'f32':
      return floatLiteral(value);
    case 'f16':
      return `to_half(${floatLiteral(value)})`;
    case 'bf16':
      return `to_bf16(${floatLiteral(value)})`;
    case 'i1':
      return value !== 0 ? 'true' : 'false';
    case 'i64':
      if (value <= dtypes.i64.min) return '(-9223372036854775807ll - 1)';
      if (value >= dtypes.i64.max) return '9223372036854775807ll';
      return `${BigInt(value)}ll`;
    case 'i32':
      return value === dtypes.i32.min ? '(-2147483647 - 1)' : String(value);
    case 'i8':
    case 'u8':
      return `(${storageType[dtype]})${value}`;
    default:
      return dtype satisfies never;
  }
}

function floatLiteral(value: number): string {
  if (Number.isNaN(value)) return 'nan_f32()';
  if (!Number.isFinite(value)) return value > 0 ? 'inf_f32()' : '-inf_f32()';
  if (Object.is(value, -0)) return '-0.0f';
  // Nine digits tell every float apart; short ones stay short.
  const short = String(value);
  const digits = short.length <= 10 ? short : value.toPrecision(9);
  return `${/[.e]/.test(digits) ? digits : `${digits}.0`}f`;
}

/** Conversion of a scalar expression. */
export function castTo(to: DType, from: DType, value: string): string {
  if (to === from) return value;
  if (isHalf(from)) return castTo(to, 'f32', `to_float(${value})`);
  if (to === 'i1') return `(${value} != 0)`;
  if (to === 'f16') return `to_half(${castTo('f32', from, value)})`;
  if (to === 'bf16') return `to_bf16(${castTo('f32', from, value)})`;
  if (from === 'f32' && dtypes[to].kind === 'int') {
    const { min, max } = dtypes[to];
    // The first float above the greatest value: max itself rounds up to it for 32 and 64 bits.
    const high = to === 'i64' ? max : max + 1;
    return `to_int<${scalarType[to]}>(${value}, ${floatLiteral(min)}, ${floatLiteral(high)}, ${literal(to, min)}, ${literal(to, max)})`;
  }
  return `(${scalarType[to]})${value}`;
}

/** A scalar read from memory, and one on its way there. */
export const fromStorage = (dtype: DType, value: string): string =>
  dtype === 'i1' ? `(${value} != 0)` : value;
export const toStorage = (dtype: DType, value: string): string =>
  dtype === 'i1' ? `(unsigned char)${value}` : value;

type Spell = (dtype: DType, a: string, b: string, c: string) => string;

/** A C library function on floats. */
const call =
  (name: string): Spell =>
  (_, ...args) =>
    `${name}(${args.filter(Boolean).join(', ')})`;
/** An infix operator on floats that must wrap on integers. */
const wrapping =
  (symbol: string, name: string): Spell =>
  (dtype, a, b) =>
    dtype === 'f32' ? `${a} ${symbol} ${b}` : `${name}<${scalarType[dtype]}>(${a}, ${b})`;
const infix =
  (symbol: string): Spell =>
  (dtype, a, b) =>
    dtypes[dtype].kind === 'int' ? `(${scalarType[dtype]})(${a} ${symbol} ${b})` : `${a} ${symbol} ${b}`;
const generic =
  (name: string): Spell =>
  (dtype, ...args) =>
    `${name}<${scalarType[dtype]}>(${args.filter(Boolean).join(', ')})`;

/** Every operation's C, on operands of one type that is never a half float. */
const spellings: { readonly [K in ScalarOp]: Spell } = {
  neg: (dtype, a) => (dtype === 'f32' ? `-${a}` : `sub_int<${scalarType[dtype]}>(0, ${a})`),
  abs: (dtype, a) => (dtype === 'f32' ? `fabsf(${a})` : `abs_of<${scalarType[dtype]}>(${a})`),
  sign: generic('sign_of'),
  sqrt: call('sqrtf'),
  exp: call('expf'),
  log: call('logf'),
  sin: call('sinf'),
  cos: call('cosf'),
  tan: call('tanf'),
  asin: call('asinf'),
  acos: call('acosf'),
  atan: call('atanf'),
  sinh: call('sinhf'),
  cosh: call('coshf'),
  tanh: call('tanhf'),
  asinh: call('asinhf'),
  acosh: call('acoshf'),
  atanh: call('atanhf'),
  erf: call('erff'),
  floor: call('floorf'),
  ceil: call('ceilf'),
  round: call('rintf'),
  isnan: (_, a) => `(${a} != ${a})`,
  not: (_, a) => `!${a}`,
  bitnot: (dtype, a) => `(${scalarType[dtype]})~${a}`,
  add: wrapping('+', 'add_int'),
  sub: wrapping('-', 'sub_int'),
  mul: wrapping('*', 'mul_int'),
  div: wrapping('/', 'div_int'),
  rem: (dtype, a, b) => (dtype === 'f32' ? `fmodf(${a}, ${b})` : `rem_int<${scalarType[dtype]}>(${a}, ${b})`),
  pow: call('powf'),
  max: generic('max_of'),
  min: generic('min_of'),
  bitand: infix('&'),
  bitor: infix('|'),
  bitxor: infix('^'),
  and: (_, a, b) => `${a} && ${b}`,
  or: (_, a, b) => `${a} || ${b}`,
  xor: (_, a, b) => `${a} != ${b}`,
  eq: (_, a, b) => `${a} == ${b}`,
  lt: (_, a, b) => `${a} < ${b}`,
  le: (_, a, b) => `${a} <= ${b}`,
  select: (_, a, b, c) => `${a} ? ${b} : ${c}`,
};

/** In kernels that store nothing but 16-bit floats: a unit or two in the last place of an f32 off, for a third of the instructions. */
const nearly: { readonly [K in ScalarOp]?: Spell } = {
  erf: call('erf_nearly'),
  div: call('div_nearly'),
};

/**
 * The C of an operation. `dtype` is the operands' type; half floats are widened and rounded back.
 * @param near whether no more than 16 bits of what is computed will be stored.
 */
export function spellOp(
  op: ScalarOp,
  dtype: DType,
  result: DType,
  args: readonly string[],
  near = false,
): string {
  if (near && dtype === 'f32' && nearly[op]) return nearly[op](dtype, args[0] ?? '', args[1] ?? '', '');
  if (!isHalf(dtype)) return spellings[op](dtype, args[0] ?? '', args[1] ?? '', args[2] ?? '');
  if (op === 'select') return spellings.select(dtype, args[0]!, args[1]!, args[2]!);
  const [a, b] = args.map((arg) => `to_float(${arg})`);
  const wide = spellings[op]('f32', a ?? '', b ?? '', '');
  return castTo(result, result === 'i1' ? 'i1' : 'f32', `(${wide})`);
}
