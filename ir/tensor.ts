/**
 * @file Tensors in JavaScript memory: constants of a model, inputs and outputs of a run, the interpreter's
 * buffers. f16 and bf16 are kept as their bits in a Uint16Array, since JavaScript has no such arrays.
 */
import { type DType, dtypes, elementCount, formatType, type TensorType } from './types.ts';

export type TypedArray = Float32Array | Uint16Array | Int8Array | Uint8Array | Int32Array | BigInt64Array;

/** A dense row-major tensor. `data.length` is the number of elements of `shape`. */
export interface Tensor extends TensorType {
  readonly data: TypedArray;
}

const arrayTypes = {
  f32: Float32Array,
  f16: Uint16Array,
  bf16: Uint16Array,
  i8: Int8Array,
  u8: Uint8Array,
  i32: Int32Array,
  i64: BigInt64Array,
  i1: Uint8Array,
} as const satisfies { [T in DType]: unknown };

/** A typed array of the element type's storage, over `buffer` or newly zeroed. */
export function makeArray(
  dtype: DType,
  length: number,
  buffer?: ArrayBufferLike,
  byteOffset = 0,
): TypedArray {
  const ArrayType = arrayTypes[dtype];
  return buffer === undefined
    ? new ArrayType(length)
    : new ArrayType(buffer as ArrayBuffer, byteOffset, length);
}

/** Makes a tensor; throws RangeError if data and shape disagree. Without `data` it is zero. */
export function makeTensor(dtype: DType, shape: readonly number[], data?: TypedArray): Tensor {
  const length = elementCount(shape);
  const array = data ?? makeArray(dtype, length);
  if (array.length !== length || !(array instanceof arrayTypes[dtype])) {
    throw new RangeError(`${formatType({ dtype, shape })} needs ${length} elements, got ${array.length}`);
  }
  return { dtype, shape: [...shape], data: array };
}

/** Makes a tensor from plain numbers, rounded to the element type. */
export function tensorOf(dtype: DType, shape: readonly number[], values: Iterable<number>): Tensor {
  const tensor = makeTensor(dtype, shape);
  const write = writer(tensor);
  let i = 0;
  for (const v of values) write(i++, v);
  if (i !== tensor.data.length) throw new RangeError(`expected ${tensor.data.length} values, got ${i}`);
  return tensor;
}

const float32 = new Float32Array(1);
const bits32 = new Uint32Array(float32.buffer);

/** Rounds to the nearest f16 (ties to even) and gives its 16 bits. */
export function toF16Bits(value: number): number {
  float32[0] = value;
  return f16OfF32(bits32[0]! | 0);
}

/** The same for the bits of an f32, as a signed integer. */
function f16OfF32(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  // Most are normal as halves, too, or round up to infinity: the exponent is moved, and 13 bits are rounded off.
  if (magnitude >= 0x38800000 && magnitude < 0x47800000)
    return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  if (magnitude >= 0x47800000) return sign | 0x7c00 | (magnitude > 0x7f800000 ? 0x200 : 0);
  // Subnormal halves shift the mantissa (with its hidden one) further right; anything below rounds to zero.
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return sign;
  const full = (magnitude & 0x7fffff) | 0x800000;
  const kept = full >>> shift;
  const rest = full & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  const roundUp = rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0;
  return sign | (kept + roundUp);
}

/** The value of 16 bits read as f16. */
export function fromF16Bits(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

/** Rounds to the nearest bf16 (ties to even) and gives its 16 bits. */
export function toBf16Bits(value: number): number {
  float32[0] = value;
  const bits = bits32[0]!;
  if (Number.isNaN(value)) return 0x7fc0;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The value of 16 bits read as bf16. */
export function fromBf16Bits(bits: number): number {
  bits32[0] = bits << 16;
  return float32[0]!;
}

/** Rounds a number to what a scalar of the type holds; integers wrap (i64 saturates at the double range). */
export function roundTo(dtype: DType, value: number): number {
  switch (dtype) {
    case 'f32':
      return Math.fround(value);
    case 'f16':
      return fromF16Bits(toF16Bits(value));
    case 'bf16':
      return fromBf16Bits(toBf16Bits(value));
    case 'i8':
      return (value << 24) >> 24;
    case 'u8':
      return value & 0xff;
    case 'i32':
      return value | 0;
    case 'i64':
      return Math.trunc(value);
    case 'i1':
      return value !== 0 ? 1 : 0;
    default:
      return dtype satisfies never;
  }
}

/** What a cast gives. From float to integer it rounds towards zero and saturates, and NaN gives 0, as the devices do it. */
export function castValue(value: number, from: DType, to: DType): number {
  if (dtypes[to].kind !== 'int' || dtypes[from].kind !== 'float') return roundTo(to, value);
  if (Number.isNaN(value)) return 0;
  return roundTo(to, Math.trunc(Math.min(Math.max(value, dtypes[to].min), dtypes[to].max)));
}

/** A function that reads element `i` of the tensor as a number. */
export function reader(tensor: Tensor): (i: number) => number {
  const { data } = tensor;
  if (tensor.dtype === 'f16') return (i) => fromF16Bits(data[i] as number);
  if (tensor.dtype === 'bf16') return (i) => fromBf16Bits(data[i] as number);
  if (data instanceof BigInt64Array) return (i) => Number(data[i]);
  return (i) => data[i] as number;
}

/** A function that rounds a number to the element type and writes it to element `i`. */
export function writer(tensor: Tensor): (i: number, value: number) => void {
  const { data, dtype } = tensor;
  if (dtype === 'f16') return (i, v) => void (data[i] = toF16Bits(v));
  if (dtype === 'bf16') return (i, v) => void (data[i] = toBf16Bits(v));
  if (dtype === 'i1') return (i, v) => void (data[i] = v !== 0 ? 1 : 0);
  if (data instanceof BigInt64Array) {
    return (i, v) => {
      const clamped = Math.min(Math.max(Number.isNaN(v) ? 0 : Math.trunc(v), dtypes.i64.min), dtypes.i64.max);
      data[i] = clamped >= 2 ** 63 ? 2n ** 63n - 1n : BigInt(clamped);
    };
  }
  return (i, v) => void (data[i] = v);
}

/** The elements as plain numbers. */
export function toNumbers(tensor: Tensor): number[] {
  const read = reader(tensor);
  return Array.from({ length: tensor.data.length }, (_, i) => read(i));
}

/** The same elements under another shape of as many elements. */
export const reshaped = (tensor: Tensor, shape: readonly number[]): Tensor =>
  makeTensor(tensor.dtype, shape, tensor.data);

/** The elements rounded to another type. */
export function converted(tensor: Tensor, dtype: DType): Tensor {
  if (tensor.dtype === dtype) return tensor;
  const out = makeTensor(dtype, tensor.shape);
  if (tensor.dtype === 'f32' && dtype === 'f16') {
    // The weights of a model, which are many: without a call or a float for each.
    const { buffer, byteOffset, length } = tensor.data;
    const bits = new Int32Array(buffer, byteOffset, length);
    const halves = out.data as Uint16Array;
    for (let i = 0; i < length; i++) halves[i] = f16OfF32(bits[i]!);
    return out;
  }
  const read = reader(tensor);
  const write = writer(out);
  for (let i = 0; i < out.data.length; i++) write(i, read(i));
  return out;
}

/** The bytes of a tensor's data, without a copy. */
export const bytesOf = (tensor: Tensor): Uint8Array =>
  new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
