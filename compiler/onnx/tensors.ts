/**
 * @file Tensors in ONNX files: element types, and the several places where a TensorProto may keep its data.
 */
import { bytesOf, makeArray, type Tensor, type TypedArray } from '../../ir/tensor.ts';
import { type DType, dtypes } from '../../ir/types.ts';
import type { TensorProto } from './schema.ts';

/** The element types we compute with, by ONNX's number. */
const known: ReadonlyMap<number, DType> = new Map([
  [1, 'f32'],
  [2, 'u8'],
  [3, 'i8'],
  [6, 'i32'],
  [7, 'i64'],
  [9, 'i1'],
  [10, 'f16'],
  [16, 'bf16'],
]);

/** ONNX's names of its element types, for messages. */
const names = [
  'undefined',
  'float',
  'uint8',
  'int8',
  'uint16',
  'int16',
  'int32',
  'int64',
  'string',
  'bool',
  'float16',
  'double',
  'uint32',
  'uint64',
  'complex64',
  'complex128',
  'bfloat16',
  'float8e4m3fn',
  'float8e4m3fnuz',
  'float8e5m2',
  'float8e5m2fnuz',
  'uint4',
  'int4',
  'float4e2m1',
  'float8e8m0',
  'uint2',
  'int2',
];

/** The element type of an ONNX number; undefined if it is not one that we compute with. */
export const dtypeOf = (elemType: number): DType | undefined => known.get(elemType);

/** ONNX's number of an element type. */
export const elemTypeOf = (dtype: DType): number => [...known].find(([, d]) => d === dtype)![0];

/** ONNX's name of an element type's number. */
export const elemTypeName = (elemType: number): string => names[elemType] ?? `number ${elemType}`;

/** What is wrong with a tensor: the file is broken (`fault`), or it uses what we do not support. */
export class TensorProblem extends Error {
  constructor(
    readonly kind: 'fault' | 'unsupported',
    message: string,
  ) {
    super(message);
  }
}

/** Reads a tensor's data; the size that its dimensions claim is checked against the data before memory is taken. */
export function tensorFrom(proto: TensorProto): Tensor {
  const { dataType, rawData } = proto;
  if (proto.dataLocation === 1 || proto.externalData.length > 0) {
    throw new TensorProblem(
      'unsupported',
      'its data is in another file (external data); save the model as one file',
    );
  }
  const dtype = dtypeOf(dataType);
  if (!dtype) throw new TensorProblem('unsupported', `element type ${elemTypeName(dataType)}`);
  const shape = proto.dims.map((d) => d.toNumber());
  if (shape.some((d) => d < 0 || d > 2 ** 40)) throw new TensorProblem('fault', `dimensions [${shape}]`);
  const count = shape.reduce((n, d) => n * d, 1);
  const { bytes } = dtypes[dtype];
  if (rawData.length > 0) {
    if (rawData.length !== count * bytes) {
      throw new TensorProblem(
        'fault',
        `[${shape}] needs ${count * bytes} bytes of data, it has ${rawData.length}`,
      );
    }
    const data = makeArray(dtype, count);
    bytesOf({ dtype, shape, data }).set(rawData);
    if (dtype === 'i1') for (let i = 0; i < count; i++) data[i] = data[i] ? 1 : 0;
    return { dtype, shape, data };
  }
  const given = dtype === 'f32' ? proto.floatData : dtype === 'i64' ? proto.int64Data : proto.int32Data;
  if (given.length !== count) {
    throw new TensorProblem('fault', `[${shape}] needs ${count} elements of data, it has ${given.length}`);
  }
  return { dtype, shape, data: listed(dtype, proto) };
}

/** Data given as a list of numbers; f16 and bf16 are their bits, as integers. */
function listed(dtype: DType, proto: TensorProto): TypedArray {
  if (dtype === 'f32') return Float32Array.from(proto.floatData);
  if (dtype === 'i64') {
    return BigInt64Array.from(proto.int64Data, (v) => (BigInt(v.high) << 32n) | BigInt(v.low >>> 0));
  }
  const data = makeArray(dtype, proto.int32Data.length);
  proto.int32Data.forEach((v, i) => void (data[i] = dtype === 'i1' ? Number(v !== 0) : v));
  return data;
}
