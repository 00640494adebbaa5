/**
 * @file Folds what follows a Conv, ConvTranspose, Gemm or MatMul channel by channel (BatchNormalization; Mul, Div, Add or
 * Sub with a constant) into its weights and bias: scale * (w x + b) + shift is (scale w) x + (scale b + shift).
 */
import { makeTensor, reader, type Tensor, tensorOf, writer } from '../ir/tensor.ts';
import { type DType, elementCount, isFloat, sameShape } from '../ir/types.ts';
import { usersOf } from './dead.ts';
import type { Attribute, Node, TypedGraph } from './graph.ts';
import { NodeView } from './node_view.ts';
import { batchNormFactors } from './ops/normalization.ts';

/** y = scale * x + shift, a number for each channel or one for all; absent where it changes nothing. */
interface ChannelMap {
  readonly input: string;
  readonly scale?: readonly number[];
  readonly shift?: readonly number[];
}

/** The graph with every such chain folded. */
export function foldIntoWeights(graph: TypedGraph): TypedGraph {
  const types = new Map(graph.types);
  const constants = new Map(graph.constants);
  const users = usersOf(graph);
  const outputs = new Set(graph.outputs);
  const nodes: Node[] = [];
  /** Where in `nodes` a value is made. */
  const madeAt = new Map<string, number>();
  const add = (name: string, tensor: Tensor): string => {
    types.set(name, { dtype: tensor.dtype, shape: tensor.shape });
    constants.set(name, tensor);
    return name;
  };
  for (const node of graph.nodes) {
    const folded = tryFold(node);
    const at = folded ? madeAt.get(folded.from)! : nodes.length;
    nodes[at] = folded?.node ?? node;
    for (const output of node.outputs) madeAt.set(output, at);
  }
  return { ...graph, nodes, types, constants };

  /** The producer of the node's input, doing the node's work as well. */
  function tryFold(node: Node): { node: Node; from: string } | undefined {
    const output = node.outputs[0]!;
    for (const from of new Set(node.inputs)) {
      const at = madeAt.get(from);
      const producer = at === undefined ? undefined : nodes[at];
      if (!producer || users.get(from)?.length !== 1 || outputs.has(from) || producer.outputs[0] !== from)
        continue;
      const target = targets[producer.op];
      if (!target || producer.domain !== '') continue;
      const [made, wanted] = [types.get(from)!, types.get(output)!];
      if (!isFloat(made.dtype) || made.dtype !== wanted.dtype || !sameShape(made.shape, wanted.shape))
        continue;
      const axis = target.channelAxis(made.shape.length);
      const map = channelMap(node, from, axis);
      const parts =
        map && target.fold(new NodeView(producer, graph.opset, types, constants), map, made.shape[axis]!);
      if (!parts) continue;
      const inputs = [producer.inputs[0]!, add(`${output}.w`, parts.weights)];
      if (parts.bias) inputs.push(add(`${output}.b`, parts.bias));
      const { op = producer.op, attributes = producer.attributes } = parts;
      return {
        from,
        node: {
          ...producer,
          op,
          attributes,
          inputs,
          outputs: [output],
          name: `${producer.name}+${node.name}`,
        },
      };
    }
    return undefined;
  }

  /** The node as a map of channels of `from`, if it is one. */
  function channelMap(node: Node, from: string, axis: number): ChannelMap | undefined {
    if (node.domain !== '') return undefined;
    const view = new NodeView(node, graph.opset, types, constants);
    if (node.op === 'BatchNormalization') {
      if (node.inputs[0] !== from || axis !== 1 || node.inputs.slice(1).includes(from)) return undefined;
      const factors = batchNormFactors(view);
      return factors && finite({ input: from, scale: factors.scale, shift: factors.bias });
    }
    const place = node.inputs.indexOf(from);
    if (node.inputs.length !== 2 || (view.opset < 7 && node.attributes.size > 0)) return undefined;
    const other = view.constant(1 - place);
    const values = other && perChannel(other, view.shape(place), axis);
    if (!values) return undefined;
    switch (node.op) {
      case 'Mul':
        return finite({ input: from, scale: values });
      case 'Add':
        return finite({ input: from, shift: values });
      case 'Div':
        return place === 0 ? finite({ input: from, scale: values.map((v) => 1 / v) }) : undefined;
      case 'Sub':
        return place === 0 ? finite({ input: from, shift: values.map((v) => -v) }) : undefined;
      default:
        return undefined;
    }
  }
}

/** Infinities would turn zero weights into NaNs that the model does not have. */
const finite = (map: ChannelMap): ChannelMap | undefined =>
  [...(map.scale ?? []), ...(map.shift ?? [])].every(Number.isFinite) ? map : undefined;

/** The numbers of a constant that varies, broadcast to `shape`, along one axis at most. */
function perChannel(constant: Tensor, shape: readonly number[], axis: number): number[] | undefined {
  const missing = shape.length - constant.shape.length;
  const fits =
    missing >= 0 && constant.shape.every((d, i) => d === 1 || (i + missing === axis && d === shape[axis]));
  return fits ? Array.from({ length: constant.data.length }, (_, i) => reader(constant)(i)) : undefined;
}

interface Folded {
  readonly weights: Tensor;
  readonly bias?: Tensor;
  readonly op?: string;
  readonly attributes?: Node['attributes'];
}

interface Target {
  /** Which dimension of the output the weights' channels are. */
  channelAxis(rank: number): number;
  fold(producer: NodeView, map: ChannelMap, channels: number): Folded | undefined;
}

const targets: { readonly [op: string]: Target } = {
  Conv: {
    channelAxis: () => 1,
    fold: (node, map, channels) => withBias(node, map, channels, (w) => stretches(w, 0)),
  },
  ConvTranspose: {
    channelAxis: () => 1,
    fold(node, map, channels) {
      const groups = node.int('group', 1);
      // Weights are [in, out of the group, …]; which group, the input channel says.
      return withBias(node, map, channels, ({ shape }) => {
        const [inputs, perGroup] = shape as [number, number];
        const channelOf = (stretch: number): number => {
          const group = Math.floor(Math.floor(stretch / perGroup) / (inputs / groups));
          return group * perGroup + (stretch % perGroup);
        };
        return { length: elementCount(shape.slice(2)), channelOf };
      });
    },
  },
  Gemm: {
    channelAxis: () => 1,
    fold(node, map, channels) {
      const transposed = node.int('transB', 0) !== 0;
      const beta = node.float('beta', 1);
      const attributes = new Map<string, Attribute>(node.node.attributes);
      attributes.delete('beta');
      const folded = withBias(node, map, channels, (w) => stretches(w, transposed ? 0 : 1), beta);
      return folded && { ...folded, attributes };
    },
  },
  MatMul: {
    channelAxis: (rank) => rank - 1,
    fold(node, map, channels) {
      const flat = node.shape(0).length === 2 && node.shape(1).length === 2;
      if (node.shape(1).length < 2 || node.shape(0).length < 2) return undefined;
      // Only a product of matrices proper can take a bias, as a Gemm.
      if (map.shift && !flat) return undefined;
      const folded = withBias(node, map, channels, (w) => stretches(w, w.shape.length - 1));
      return folded && (folded.bias ? { ...folded, op: 'Gemm' } : folded);
    },
  },
};

/** Weights as stretches of elements that belong to one channel each. */
interface Stretches {
  readonly length: number;
  channelOf(stretch: number): number;
}

/** The stretches of weights whose dimension `d` is the channels. */
const stretches = ({ shape }: Tensor, d: number): Stretches => ({
  length: elementCount(shape.slice(d + 1)),
  channelOf: (stretch) => stretch % shape[d]!,
});

/** Scales weights (input 1) and bias (input 2), and shifts the bias. */
function withBias(
  node: NodeView,
  { scale, shift }: ChannelMap,
  channels: number,
  stretchesOf: (weights: Tensor) => Stretches,
  beta = 1,
): Folded | undefined {
  const weights = node.constant(1);
  if (!weights || !isFloat(weights.dtype)) return undefined;
  const old = node.constant(2);
  const oldBias =
    old &&
    perChannel(old, node.shape(2).length > 1 ? [1, channels] : [channels], node.shape(2).length > 1 ? 1 : 0);
  if (node.has(2) && !oldBias) return undefined;
  const at = (list: readonly number[] | undefined, c: number, otherwise: number): number =>
    list === undefined ? otherwise : list.length === 1 ? list[0]! : list[c]!;
  const scaled = scale ? scaledBy(weights, stretchesOf(weights), (c) => at(scale, c, 1)) : weights;
  if (!oldBias && !shift) return { weights: scaled };
  const values = Array.from(
    { length: channels },
    (_, c) => at(oldBias, c, 0) * beta * at(scale, c, 1) + at(shift, c, 0),
  );
  return { weights: scaled, bias: tensorOf(weights.dtype satisfies DType, [channels], values) };
}

function scaledBy(
  tensor: Tensor,
  { length, channelOf }: Stretches,
  factorOf: (channel: number) => number,
): Tensor {
  const out = makeTensor(tensor.dtype, tensor.shape);
  const { data } = out;
  const read = reader(tensor);
  const write = writer(out);
  for (let start = 0; start < data.length; start += length) {
    const factor = factorOf(channelOf(start / length));
    const end = start + length;
    // Nearly all weights are f32, and there may be many millions.
    if (data instanceof Float32Array && tensor.data instanceof Float32Array) {
      for (let i = start; i < end; i++) data[i] = tensor.data[i]! * factor;
    } else {
      for (let i = start; i < end; i++) write(i, read(i) * factor);
    }
  }
  return out;
}
