/**
 * @file How one ONNX operator is understood: its output types, its kernels, and, for the few that are about shapes only,
 * its value at compile time. Every operator is declared once, in its family's file under ops/.
 */
import type { Index } from '../ir/affine.ts';
import { buffer, kernel } from '../ir/build.ts';
import type { Buffer, Call, Store } from '../ir/kernel.ts';
import type { Tensor } from '../ir/tensor.ts';
import type { TensorType } from '../ir/types.ts';
import type { NodeView } from './node_view.ts';

export interface OpRule {
  /** Types of the outputs; throws Unsupported if this node cannot be compiled. */
  infer(node: NodeView): TensorType[];
  /** Emits kernels (or views) that make every output that is used. */
  lower(node: NodeView, out: Lowering): void;
  /** The outputs' values if they follow from types or constants alone; undefined if they do not. */
  fold?(node: NodeView): Tensor[] | undefined;
}

/** A family's operators by ONNX name. */
export type OpFamily = { readonly [op: string]: OpRule };

/** A kernel's inside: its parallel domain and what it stores. */
export interface KernelBody {
  readonly domain: readonly Index[];
  readonly stores: readonly Store[];
}

/** Collects the kernels of a graph while its nodes are lowered. */
export class Lowering {
  readonly calls: Call[] = [];
  /** Types of temporaries that lowering made up. */
  readonly types = new Map<string, TensorType>();
  /** Constants that lowering made up. */
  readonly constants = new Map<string, Tensor>();
  /** Values that are another value under another shape. */
  readonly views = new Map<string, string>();
  #made = 0;

  constructor(private readonly typeOf: (value: string) => TensorType) {}

  type(value: string): TensorType {
    return this.types.get(value) ?? this.typeOf(value);
  }

  /** A name for a value between two kernels of one node. */
  temporary(hint: string, type: TensorType): string {
    const name = `${hint}.${++this.#made}`;
    this.types.set(name, type);
    return name;
  }

  /** A constant made by lowering (a table of positions, say). */
  constant(hint: string, tensor: Tensor): string {
    const name = this.temporary(hint, tensor);
    this.constants.set(name, tensor);
    return name;
  }

  /** Makes `to` the same elements as `from` under its own shape; costs nothing at run time. */
  view(to: string, from: string): void {
    this.views.set(to, from);
  }

  /**
   * Emits a call of a new kernel.
   * @param shapes for some inputs or outputs (by value name) the shape the kernel sees, if not the value's own.
   */
  emit(
    node: NodeView,
    name: string,
    inputs: readonly string[],
    outputs: readonly string[],
    body: (inputs: Buffer[], outputs: Buffer[]) => KernelBody,
    shapes: { readonly [value: string]: readonly number[] } = {},
  ): void {
    // A value given twice is one parameter, so that the class does not depend on such accidents.
    const distinct = [...new Set(inputs)];
    const parameter = (prefix: string) => (value: string, i: number) => {
      const { dtype, shape } = this.type(value);
      return buffer(`${prefix}${i}`, dtype, shapes[value] ?? shape);
    };
    const params = distinct.map(parameter('x'));
    const results = outputs.map(parameter('y'));
    const { domain, stores } = body(
      inputs.map((value) => params[distinct.indexOf(value)]!),
      results,
    );
    this.calls.push({
      kernel: kernel(name, params, results, domain, stores, [node.node.name]),
      inputs: distinct,
      outputs: [...outputs],
    });
  }
}
