/**
 * @file Changes the precision that a model runs in. Kernels widen halves to f32 when they load, so sums, exponentials and
 * the like are computed in f32 whatever values are stored in.
 */
import { converted, type Tensor } from '../ir/tensor.ts';
import type { TensorType } from '../ir/types.ts';
import { type Refusal, Unsupported } from './errors.ts';
import type { Attribute, Node, TypedGraph } from './graph.ts';
import { NodeView } from './node_view.ts';
import { elemTypeOf } from './onnx/tensors.ts';
import { ruleFor } from './ops/index.ts';

/** `fp32`: as the model was made. `fp16`: weights and intermediate values in half precision. */
export type Precision = 'fp32' | 'fp16';

/** Inputs that are parameters, not data: they are read at compile time and must keep every digit. */
const parameters: { readonly [op: string]: readonly number[] } = { Resize: [1, 2], Upsample: [1] };

/**
 * The graph with f32 weights and intermediate values in f16. Inputs and outputs keep their types; casts stand between.
 */
export function convertPrecision(graph: TypedGraph, precision: Precision): TypedGraph {
  if (precision === 'fp32') return graph;
  return new Converter(graph).run();
}

class Converter {
  readonly #types = new Map<string, TensorType>();
  readonly #constants = new Map<string, Tensor>();
  readonly #nodes: Node[] = [];
  readonly #refusals: Refusal[] = [];
  /** What a value is called now. */
  readonly #names = new Map<string, string>();

  constructor(private readonly graph: TypedGraph) {}

  run(): TypedGraph {
    const { graph } = this;
    for (const [name, tensor] of graph.constants) this.#define(name, tensor);
    for (const { name } of graph.inputs) {
      this.#types.set(name, graph.types.get(name)!);
      if (graph.types.get(name)!.dtype !== 'f32') continue;
      this.#names.set(name, `${name}.f16`);
      this.#add(this.#castNode(name, `${name}.f16`, 'f16'));
    }
    const made = new Set(graph.nodes.flatMap((n) => n.outputs));
    const outputs = graph.outputs.filter((o) => made.has(o) && graph.types.get(o)!.dtype === 'f32');
    for (const output of outputs) this.#names.set(output, `${output}.f16`);
    for (const node of graph.nodes) this.#add(this.#rewritten(node));
    for (const output of outputs) this.#add(this.#castNode(`${output}.f16`, output, 'f32'));
    if (this.#refusals.length > 0) throw new Unsupported(this.#refusals);
    return { ...graph, nodes: this.#nodes, types: this.#types, constants: this.#constants };
  }

  #define(name: string, tensor: Tensor): void {
    this.#constants.set(name, tensor);
    this.#types.set(name, { dtype: tensor.dtype, shape: tensor.shape });
  }

  #castNode(from: string, to: string, dtype: 'f16' | 'f32'): Node {
    const attributes = new Map<string, Attribute>([['to', elemTypeOf(dtype)]]);
    return { name: `${to}.cast`, op: 'Cast', domain: '', inputs: [from], outputs: [to], attributes };
  }

  #rewritten(node: Node): Node {
    const inputs = node.inputs.map((name, i) => {
      const constant = this.#constants.get(name);
      if (constant?.dtype !== 'f32' || parameters[node.op]?.includes(i)) return this.#names.get(name) ?? name;
      const half = `${name}.f16`;
      if (!this.#constants.has(half)) this.#define(half, halved(constant));
      return half;
    });
    const attributes = new Map(node.attributes);
    if (node.op === 'Cast' && attributes.get('to') === elemTypeOf('f32'))
      attributes.set('to', elemTypeOf('f16'));
    return {
      ...node,
      attributes,
      inputs,
      outputs: node.outputs.map((name) => this.#names.get(name) ?? name),
    };
  }

  /** Appends a node and types what it makes. */
  #add(node: Node): void {
    const view = new NodeView(node, this.graph.opset, this.#types, this.#constants);
    try {
      const types = ruleFor(node.domain, node.op)!.infer(view);
      node.outputs.forEach((name, i) => void (name !== '' && this.#types.set(name, types[i]!)));
      this.#nodes.push(node);
    } catch (e) {
      if (!(e instanceof Unsupported)) throw e;
      this.#refusals.push(...e.refusals);
    }
  }
}

/** Rounds to f16; what is finite stays finite, so that the large numbers that masks are made of stay masks. */
function halved(tensor: Tensor): Tensor {
  const out = converted(tensor, 'f16');
  const halves = out.data as Uint16Array;
  const floats = tensor.data as Float32Array;
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i]!;
    if ((half & 0x7fff) === infinity && Number.isFinite(floats[i]!))
      halves[i] = (half & 0x8000) | (infinity - 1);
  }
  return out;
}

/** The bits of f16's infinity; those of its greatest finite number are one less. */
const infinity = 0x7c00;
