/**
 * @file The front end: from the bytes of an ONNX file to a module of kernels.
 */
import type { Module } from '../ir/module.ts';
import type { Tensor } from '../ir/tensor.ts';
import { lowerGraph } from './lower.ts';
import { readModel } from './onnx/reader.ts';
import { convertPrecision, type Precision } from './precision.ts';
import type { InputShapes } from './shapes.ts';
import { simplify } from './simplify.ts';
import { typeGraph } from './typing.ts';

export { InputError, type Refusal, Unsupported } from './errors.ts';
export type { Attribute, Graph, GraphInput, Node, TypedGraph } from './graph.ts';
export { lowerGraph } from './lower.ts';
export { readModel, readTensor } from './onnx/reader.ts';
export { opRules } from './ops/index.ts';
export { convertPrecision, type Precision } from './precision.ts';
export type { InputShapes } from './shapes.ts';
export { simplify } from './simplify.ts';
export { typeGraph } from './typing.ts';

export interface LowerOptions {
  /** What to call the model, in messages and in the module. */
  readonly name: string;
  /** Shapes of inputs that the model leaves open. */
  readonly shapes?: InputShapes;
  /** Inputs whose values are settled at compile time, such as a shape to reshape to; they are inputs no more. */
  readonly fixed?: ReadonlyMap<string, Tensor>;
  /** `fp16` keeps weights and intermediate values in half precision; `fp32`, as the model has them, if not said. */
  readonly precision?: Precision;
}

/**
 * Reads, types, simplifies and lowers a model.
 * @throws InputError if the file or the shapes are at fault, Unsupported if the model uses what we do not have.
 */
export function lowerOnnx(
  bytes: Uint8Array,
  { name, shapes, fixed, precision = 'fp32' }: LowerOptions,
): Module {
  const graph = simplify(typeGraph(readModel(bytes, name), shapes, fixed));
  return lowerGraph(convertPrecision(graph, precision));
}
