/**
 * @file onnxruntime as the peer of the front end's tests.
 */
import * as ort from 'onnxruntime-node';
import { makeTensor, type Tensor, type TypedArray } from '../../ir/tensor.ts';
import type { DType } from '../../ir/types.ts';

const typeNames: { readonly [T in DType]?: string } = {
  f32: 'float32',
  f16: 'float16',
  i8: 'int8',
  u8: 'uint8',
  i32: 'int32',
  i64: 'int64',
  i1: 'bool',
};

/** Runs a model in onnxruntime; outputs by name. */
export async function runPeer(
  model: Uint8Array,
  inputs: ReadonlyMap<string, Tensor>,
): Promise<Map<string, Tensor>> {
  const session = await ort.InferenceSession.create(model, { logSeverityLevel: 4, intraOpNumThreads: 1 });
  try {
    const feeds = Object.fromEntries(
      [...inputs].map(([name, { dtype, data, shape }]) => [
        name,
        new ort.Tensor(typeNames[dtype] as 'float32', data as Float32Array, [...shape]),
      ]),
    );
    const results = await session.run(feeds);
    return new Map(
      Object.entries(results).map(([name, { type, dims, data }]) => {
        const dtype = (Object.keys(typeNames) as DType[]).find((d) => typeNames[d] === type)!;
        return [name, makeTensor(dtype, dims, data as unknown as TypedArray)];
      }),
    );
  } finally {
    await session.release();
  }
}
