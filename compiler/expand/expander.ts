/**
 * @file Composite operators are not lowered but expanded: replaced by a graph of simpler operators while the model is
 * typed. An expansion is written against this builder, always in one opset, whatever the model's.
 */
import { type Tensor, tensorOf } from '../../ir/tensor.ts';
import type { DType, TensorType } from '../../ir/types.ts';
import type { Attribute, Node } from '../graph.ts';
import type { NodeView } from '../node_view.ts';
import { elemTypeOf } from '../onnx/tensors.ts';

/** The opset that expansions are written in. */
const opset = 18;

/** Builds the nodes that stand for `node`; gives the names of its outputs, as many as it can make. */
export type Expansion = (node: NodeView, make: Expander) => readonly string[];

/** Composite operators by ONNX name. */
export type ExpansionFamily = { readonly [op: string]: Expansion };

type Attributes = { readonly [name: string]: Attribute };

/** What an expander needs of the walk that types the graph. */
export interface Site {
  /** Types and appends a node; throws if it is refused. */
  append(node: Node): void;
  define(name: string, tensor: Tensor): void;
  type(value: string): TensorType;
}

export class Expander {
  #made = 0;

  constructor(
    private readonly origin: Node,
    private readonly prefix: string,
    private readonly site: Site,
  ) {}

  shape(value: string): readonly number[] {
    return this.site.type(value).shape;
  }

  dtype(value: string): DType {
    return this.site.type(value).dtype;
  }

  /** Appends a node with one output; gives the output's name. */
  op(op: string, inputs: readonly string[], attributes: Attributes = {}): string {
    const output = `${this.prefix}${op}.${++this.#made}`;
    this.site.append({
      name: this.origin.name,
      op,
      domain: '',
      opset,
      inputs,
      outputs: [output],
      attributes: new Map(Object.entries(attributes)),
    });
    return output;
  }

  constant(tensor: Tensor): string {
    const name = `${this.prefix}constant.${++this.#made}`;
    this.site.define(name, tensor);
    return name;
  }

  ints(...values: readonly number[]): string {
    return this.constant(tensorOf('i64', [values.length], values));
  }

  /** A number of the same type as `other`. */
  like(other: string, value: number): string {
    return this.constant(tensorOf(this.dtype(other), [], [value]));
  }

  cast(x: string, dtype: DType): string {
    return this.dtype(x) === dtype ? x : this.op('Cast', [x], { to: elemTypeOf(dtype) });
  }

  reshape(x: string, shape: readonly number[]): string {
    return this.op('Reshape', [x, this.ints(...shape)]);
  }

  transpose(x: string, perm: readonly number[]): string {
    return this.op('Transpose', [x], { perm });
  }

  /** Elements start .. end-1 along one axis. */
  slice(x: string, axis: number, start: number, end: number): string {
    return this.op('Slice', [x, this.ints(start), this.ints(end), this.ints(axis)]);
  }

  concat(parts: readonly string[], axis: number): string {
    return parts.length === 1 ? parts[0]! : this.op('Concat', parts, { axis });
  }

  unsqueeze(x: string, ...axes: readonly number[]): string {
    return this.op('Unsqueeze', [x, this.ints(...axes)]);
  }

  squeeze(x: string, ...axes: readonly number[]): string {
    return this.op('Squeeze', [x, this.ints(...axes)]);
  }

  /** The sum along axes, which stay as ones if `keep`. */
  sum(x: string, axes: readonly number[], keep: boolean): string {
    return this.op('ReduceSum', [x, this.ints(...axes)], { keepdims: keep ? 1 : 0 });
  }

  add = (a: string, b: string): string => this.op('Add', [a, b]);
  sub = (a: string, b: string): string => this.op('Sub', [a, b]);
  mul = (a: string, b: string): string => this.op('Mul', [a, b]);
  div = (a: string, b: string): string => this.op('Div', [a, b]);
  matmul = (a: string, b: string): string => this.op('MatMul', [a, b]);
  where = (condition: string, a: string, b: string): string => this.op('Where', [condition, a, b]);
}
