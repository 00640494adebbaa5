/**
 * @file onnxruntime as the peer that the demo's results are compared with.
 */
import * as ort from 'onnxruntime-node';
import { makeTensor, type Tensor } from '../../ir/tensor.ts';

export type Session = ort.InferenceSession;

export const openSession = (file: string): Promise<Session> =>
  ort.InferenceSession.create(file, { logSeverityLevel: 3, intraOpNumThreads: 1 });

/** Runs a model with one f32 input and gives its first output. */
export async function runOne(session: Session, input: Tensor): Promise<Tensor> {
  if (!(input.data instanceof Float32Array)) throw new TypeError('the input is not f32');
  const feeds = { [session.inputNames[0]!]: new ort.Tensor('float32', input.data, [...input.shape]) };
  const output = (await session.run(feeds))[session.outputNames[0]!]!;
  return makeTensor('f32', output.dims, (await output.getData()) as Float32Array);
}
