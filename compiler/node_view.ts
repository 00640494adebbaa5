/**
 * @file What an operator's rule sees of its node: types of the inputs, constants, attributes with defaults.
 */
import { type Tensor, toNumbers } from '../ir/tensor.ts';
import { formatType, type TensorType } from '../ir/types.ts';
import { quoted, Unsupported } from './errors.ts';
import type { Attribute, Graph, Node } from './graph.ts';

export class NodeView {
  readonly #read = new Set<string>();

  /** The opset that says what the node means. */
  readonly opset: number;

  constructor(
    readonly node: Node,
    graphOpset: number,
    private readonly types: ReadonlyMap<string, TensorType>,
    private readonly constants: ReadonlyMap<string, Tensor>,
  ) {
    this.opset = node.opset ?? graphOpset;
  }

  /** True if the optional input is there. */
  has(i: number): boolean {
    return (this.node.inputs[i] ?? '') !== '';
  }

  /** Name of input `i`; throws if it is absent. */
  input(i: number): string {
    if (!this.has(i)) throw this.unsupported(`input ${i} is missing`);
    return this.node.inputs[i]!;
  }

  /** Names of the inputs that are there. */
  get inputs(): string[] {
    return this.node.inputs.filter((name) => name !== '');
  }

  /** Name of output `i`; the empty string if nobody wants it. */
  output(i: number): string {
    return this.node.outputs[i] ?? '';
  }

  /** Type of input `i`; throws if it is absent. */
  type(i: number): TensorType {
    const type = this.types.get(this.node.inputs[i] ?? '');
    if (!type) throw this.unsupported(`input ${i} is missing`);
    return type;
  }

  shape(i: number): readonly number[] {
    return this.type(i).shape;
  }

  /** The types of all inputs that are there. */
  get inputTypes(): TensorType[] {
    return this.node.inputs.flatMap((name, i) => (name === '' ? [] : [this.type(i)]));
  }

  /** Input `i` if its value is known at compile time. */
  constant(i: number): Tensor | undefined {
    return this.constants.get(this.node.inputs[i] ?? '');
  }

  /** The numbers of an input that must be known at compile time (a shape, axes, pads); undefined if absent. */
  numbers(i: number): number[] | undefined {
    if (!this.has(i)) return undefined;
    const tensor = this.constant(i);
    if (!tensor) {
      const needs = this.node.inputs[i]!;
      const reason = `input ${i} (${quoted(needs)}) must be known at compile time`;
      throw new Unsupported([{ node: this.node, opset: this.opset, reason, needs }]);
    }
    return toNumbers(tensor);
  }

  /** The numbers of an input that must be there and known at compile time. */
  knownNumbers(i: number): number[] {
    const values = this.numbers(i);
    if (!values) throw this.unsupported(`input ${i} is missing`);
    return values;
  }

  int(name: string, otherwise: number): number;
  int(name: string): number | undefined;
  int(name: string, otherwise?: number): number | undefined {
    return this.attribute(name, (v) => typeof v === 'number', 'a number') ?? otherwise;
  }

  float(name: string, otherwise: number): number {
    return this.int(name, otherwise);
  }

  ints(name: string): readonly number[] | undefined {
    return this.attribute(name, isNumbers, 'a list of numbers');
  }

  strings(name: string): readonly string[] | undefined {
    return this.attribute(name, isStrings, 'a list of strings');
  }

  string(name: string, otherwise: string): string {
    return this.attribute(name, (v) => typeof v === 'string', 'a string') ?? otherwise;
  }

  tensor(name: string): Tensor | undefined {
    return this.attribute(name, (v): v is Tensor => typeof v === 'object' && 'data' in v, 'a tensor');
  }

  graph(name: string): Graph | undefined {
    return this.attribute(name, (v): v is Graph => typeof v === 'object' && 'nodes' in v, 'a graph');
  }

  /** A dimension number that may count from the end, as 0 .. rank-1 (or rank, if `inclusive`). */
  axis(value: number, rank: number, inclusive = false): number {
    const top = inclusive ? rank + 1 : rank;
    if (!Number.isInteger(value) || value < -top || value >= top) {
      throw this.unsupported(`axis ${value} of ${rank} dimensions`);
    }
    return value < 0 ? value + top : value;
  }

  /** The refusal of this node, with the reason. */
  unsupported(reason: string): Unsupported {
    return new Unsupported([{ node: this.node, opset: this.opset, reason }]);
  }

  /** Refuses the node unless the condition holds. */
  require(condition: boolean, reason: string): void {
    if (!condition) throw this.unsupported(reason);
  }

  /** Says that attributes are known and change nothing here. */
  ignore(...names: readonly string[]): void {
    for (const name of names) this.#read.add(name);
  }

  /** Attributes that nobody looked at: the node may mean something else than was understood. */
  get unread(): string[] {
    return [...this.node.attributes.keys()].filter((name) => !this.#read.has(name));
  }

  toString(): string {
    return `${this.node.op}(${this.inputTypes.map(formatType).join(', ')})`;
  }

  private attribute<T extends Attribute>(
    name: string,
    is: (v: Attribute) => v is T,
    what: string,
  ): T | undefined {
    this.#read.add(name);
    const value = this.node.attributes.get(name);
    if (value === undefined) return undefined;
    if (!is(value)) throw this.unsupported(`attribute ${name} is not ${what}`);
    return value;
  }
}

const isNumbers = (v: Attribute): v is readonly number[] =>
  Array.isArray(v) && v.every((x) => typeof x === 'number');

const isStrings = (v: Attribute): v is readonly string[] =>
  Array.isArray(v) && v.every((x) => typeof x === 'string');
