/**
 * @file Wideword's public API.
 *
 *     const device = await openDevice();
 *     const model = await compileModel('model.onnx');
 *     const program = await device.load([{ name: 'a', model }, { name: 'b', model }]);
 *     const { outputs } = await program.run({ a: { x: tensor }, b: { x: other } });
 */
export { InputError, Unsupported } from './compiler/errors.ts';
export { readTensor } from './compiler/index.ts';
export {
  type Artefact,
  loadArtefact,
  type SaveOptions,
  type SaveResult,
  saveArtefact,
} from './driver/artefact.ts';
export type { CodeProgress, Progress, TenantModel } from './driver/code.ts';
export {
  Device,
  type DeviceKind,
  type DeviceOptions,
  type LoadOptions,
  openDevice,
  Program,
  type ProgramStats,
  type TimeMode,
} from './driver/device.ts';
export {
  Engine,
  type EngineStats,
  type Journal,
  type JournalRequest,
  type JournalWord,
  type ServeOptions,
} from './driver/engine.ts';
export type { JitEvent, JitOptions } from './driver/jit.ts';
export type { BlockOptions, KernelBlocks } from './driver/measure_blocks.ts';
export {
  type CompileOptions,
  compileModel,
  type Model,
  type ModelPort,
  type Precision,
} from './driver/model.ts';
export type { PlannedKind, WordKind } from './driver/plan.ts';
export type { RoundTrace, TracedProgram, TracedSlot, TracedWord } from './driver/trace.ts';
export type { BadCandidate, TunedKernel, TuneOptions, TuneResult } from './driver/tune.ts';
export type { WidthTimes } from './driver/tuning.ts';
export { makeTensor, type Tensor, type TypedArray, tensorOf, toNumbers } from './ir/tensor.ts';
export { type DType, formatType, type TensorType } from './ir/types.ts';
export type { Measurement } from './passes/block_time.ts';
export type { BlockTimes, Together } from './runtime/native.ts';
export type { RoundResult } from './runtime/program.ts';
export { RequestError, type Tensors } from './runtime/tenants.ts';
export { MissingToolchain } from './runtime/toolchain.ts';
