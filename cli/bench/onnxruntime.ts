/**
 * @file onnxruntime as the reference that outputs are held against, where it is installed. It is no dependency of Wideword's.
 */
import { makeTensor, type Tensor, type TypedArray } from '../../ir/tensor.ts';
import type { DType } from '../../ir/types.ts';

type OnnxRuntime = typeof import('onnxruntime-node');

const typeNames: { readonly [T in DType]?: string } = {
  f32: 'float32',
  f16: 'float16',
  i8: 'int8',
  u8: 'uint8',
  i32: 'int32',
  i64: 'int64',
  i1: 'bool',
};

/** The package; undefined if it is not installed. */
export async function findOnnxRuntime(): Promise<OnnxRuntime | undefined> {
  try {
    return await import('onnxruntime-node');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND') return undefined;
    throw error;
  }
}

/** A model in onnxruntime. */
export interface Session {
  /** Outputs by name. */
  run(inputs: ReadonlyMap<string, Tensor>): Promise<Map<string, Tensor>>;
  close(): Promise<void>;
}

/** Opens a model in onnxruntime. Throws if it is not installed. */
export async function openSession(model: Uint8Array, threads = 1): Promise<Session> {
  const ort = await findOnnxRuntime();
  if (!ort) throw new Error('onnxruntime-node is not installed');
  const session = await ort.InferenceSession.create(model, {
    logSeverityLevel: 4,
    intraOpNumThreads: threads,
  });
  return {
    async run(inputs) {
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
    },
    close: () => session.release(),
  };
}

/** Runs a model in onnxruntime once. */
export async function runPeer(
  model: Uint8Array,
  inputs: ReadonlyMap<string, Tensor>,
): Promise<Map<string, Tensor>> {
  const session = await openSession(model);
  try {
    return await session.run(inputs);
  } finally {
    await session.close();
  }
}
