/**
 * @file The text of constants' data: written out, or left out with a digest. What was left out reads back as a tensor of stand-in
 * values, which prints as it was read.
 */
import { createHash } from 'node:crypto';
import { formatNumber } from './print.ts';
import { randomInput } from './random.ts';
import {
  bytesOf,
  fromBf16Bits,
  fromF16Bits,
  makeTensor,
  reader,
  roundTo,
  type Tensor,
  type TypedArray,
  writer,
} from './tensor.ts';
import { type DType, isFloat, type TensorType } from './types.ts';

/** Data of up to so many elements is written out where nothing else is said. */
export const inlineElements = 16;

/** A constant whose data the text left out. Stand-in values are made when someone asks for them, the same for the same digest. */
export class ElidedTensor implements Tensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  #data?: TypedArray;

  constructor(
    type: TensorType,
    readonly digest: string,
  ) {
    this.dtype = type.dtype;
    this.shape = type.shape;
  }

  get data(): TypedArray {
    const seed = createHash('sha256').update(this.digest).digest().readInt32LE();
    return (this.#data ??= randomInput(this, seed).data);
  }
}

/** Identifies a tensor's bytes among those of a dump. */
const digestOf = (tensor: Tensor): string =>
  createHash('sha256').update(bytesOf(tensor)).digest('hex').slice(0, 16);

/** `[1.0, 2.0]`, or `elided "…"` where there is more than `limit`. */
export function formatData(tensor: Tensor, limit: number): string {
  if (tensor instanceof ElidedTensor) return `elided "${tensor.digest}"`;
  if (tensor.data.length > limit) return `elided "${digestOf(tensor)}"`;
  return `[${Array.from({ length: tensor.data.length }, (_, i) => formatElement(tensor, i)).join(', ')}]`;
}

function formatElement(tensor: Tensor, i: number): string {
  const { data } = tensor;
  if (data instanceof BigInt64Array) return String(data[i]);
  const value = reader(tensor)(i);
  if (!Number.isNaN(value)) return formatNumber(value, tensor.dtype);
  const bits = bitsOf(tensor)[i]!;
  return bits === bitsOf(usualNan(tensor.dtype))[0] ? 'nan' : `nan:0x${bits.toString(16)}`;
}

function usualNan(dtype: DType): Tensor {
  const nan = makeTensor(dtype, []);
  writer(nan)(0, Number.NaN);
  return nan;
}

/** The elements of a float tensor as bits. */
const bitsOf = ({ data }: Tensor): Uint16Array | Uint32Array =>
  data instanceof Uint16Array ? data : new Uint32Array(data.buffer, data.byteOffset, data.length);

/** One element as the text has it. */
export interface Element {
  readonly text: string;
  readonly value: number;
  /** The bits of a NaN that is not the usual one. */
  readonly bits?: number;
}

/** True if the element is one of the type: an integer it holds, or a float that is rounded to a finite one of it. */
export function holds(dtype: DType, { text, value, bits }: Element): boolean {
  if (dtype === 'i64') return /^-?\d+$/.test(text) && BigInt.asIntN(64, BigInt(text)) === BigInt(text);
  if (bits !== undefined) {
    if (dtype === 'f16') return bits <= 0xffff && Number.isNaN(fromF16Bits(bits));
    if (dtype === 'bf16') return bits <= 0xffff && Number.isNaN(fromBf16Bits(bits));
    return dtype === 'f32' && bits <= 0xffffffff && (bits & 0x7fffffff) > 0x7f800000;
  }
  const rounded = roundTo(dtype, value);
  if (isFloat(dtype)) return Number.isFinite(rounded) || !Number.isFinite(value);
  return rounded === value;
}

/** A tensor of elements that its type holds. */
export function tensorOfElements(type: TensorType, elements: readonly Element[]): Tensor {
  const tensor = makeTensor(type.dtype, type.shape);
  const { data } = tensor;
  const write = writer(tensor);
  elements.forEach(({ text, value, bits }, i) => {
    if (data instanceof BigInt64Array) data[i] = BigInt(text);
    else if (bits !== undefined) bitsOf(tensor)[i] = bits;
    else write(i, value);
  });
  return tensor;
}
