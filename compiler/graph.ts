/**
 * @file The graph: a model as typed tensor operations, close to ONNX but with its names resolved.
 */
import type { Tensor } from '../ir/tensor.ts';
import type { TensorType } from '../ir/types.ts';

/** Attribute values as ONNX has them; integers are plain numbers. */
export type Attribute = number | string | Tensor | Graph | readonly number[] | readonly string[];

/** One operation. An absent optional input or output is the empty string. */
export interface Node {
  readonly name: string;
  readonly op: string;
  /** Empty for the ONNX operators proper. */
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, Attribute>;
  /** The opset that the node is written in, if not the graph's: so it is for nodes that we made ourselves. */
  readonly opset?: number;
}

/** A graph's input, with the dimensions that the model leaves open as their names. */
export interface GraphInput {
  readonly name: string;
  readonly dtype: TensorType['dtype'];
  readonly shape: readonly (number | string)[];
  /** The model does not even say how many dimensions there are. */
  readonly unranked?: true;
}

/** Nodes in topological order; each value has one name and is made once. */
export interface Graph {
  readonly name: string;
  readonly opset: number;
  readonly inputs: readonly GraphInput[];
  readonly outputs: readonly string[];
  readonly nodes: readonly Node[];
  /** Values known at compile time: weights, and what folding finds. */
  readonly constants: ReadonlyMap<string, Tensor>;
}

/** A graph whose every value has a type: what lowering takes. */
export interface TypedGraph extends Graph {
  readonly types: ReadonlyMap<string, TensorType>;
}
