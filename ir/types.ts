/**
 * @file Element types, tensor types and tensors: what every stage of the compiler agrees on.
 */

/** Element types of buffers and scalars. `i1` is stored as one byte, 0 or 1. */
export type DType = 'f32' | 'f16' | 'bf16' | 'i8' | 'u8' | 'i32' | 'i64' | 'i1';

/** Facts about an element type. `min`/`max` are the least and greatest finite value. */
export interface DTypeInfo {
  readonly bytes: number;
  readonly kind: 'float' | 'int' | 'bool';
  readonly min: number;
  readonly max: number;
}

export const dtypes: { readonly [T in DType]: DTypeInfo } = {
  f32: { bytes: 4, kind: 'float', min: -3.4028234663852886e38, max: 3.4028234663852886e38 },
  f16: { bytes: 2, kind: 'float', min: -65504, max: 65504 },
  bf16: { bytes: 2, kind: 'float', min: -3.3895313892515355e38, max: 3.3895313892515355e38 },
  i8: { bytes: 1, kind: 'int', min: -128, max: 127 },
  u8: { bytes: 1, kind: 'int', min: 0, max: 255 },
  i32: { bytes: 4, kind: 'int', min: -(2 ** 31), max: 2 ** 31 - 1 },
  // Numbers stand for i64 at compile time, so the limits are the doubles nearest to the true ones.
  i64: { bytes: 8, kind: 'int', min: -(2 ** 63), max: 2 ** 63 },
  i1: { bytes: 1, kind: 'bool', min: 0, max: 1 },
};

export const isFloat = (dtype: DType): boolean => dtypes[dtype].kind === 'float';

/** A dense, row-major tensor's type. A scalar has the empty shape. */
export interface TensorType {
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** Number of elements of a shape; 1 for a scalar. */
export const elementCount = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1);

/** Most elements of a buffer: offsets are 32-bit. */
export const maxElements = 2 ** 31 - 1;

/** Size of a tensor in bytes. */
export const byteSize = (type: TensorType): number => elementCount(type.shape) * dtypes[type.dtype].bytes;

/** Row-major strides in elements. */
export function rowMajorStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    strides[d] = step;
    step *= shape[d]!;
  }
  return strides;
}

export const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((d, i) => d === b[i]);

/** Prints as the IR writes it: `f32[1,3,224,224]`. */
export const formatType = (type: TensorType): string => `${type.dtype}[${type.shape.join(',')}]`;

/** True of the floats of 16 bits, on which arithmetic is done in f32. */
export const isHalf = (dtype: DType): boolean => dtype === 'f16' || dtype === 'bf16';
