/**
 * @file Reads an ONNX file into a graph, and checks that it is one: names resolve, each value is made once and before
 * it is used, tensors hold what their dimensions say. Whatever the bytes are, the outcome is a graph or an
 * InputError.
 */
import type { Tensor } from '../../ir/tensor.ts';
import { InputError, quoted, type Refusal, Unsupported } from '../errors.ts';
import type { Attribute, Graph, GraphInput, Node } from '../graph.ts';
import {
  type AttributeProto,
  decodeModel,
  decodeTensor,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from './schema.ts';
import { dtypeOf, elemTypeName, TensorProblem, tensorFrom } from './tensors.ts';

/** How deep branches may nest; deeper is hostile. */
const maxDepth = 16;

/**
 * Reads a model.
 * @param name what to call it in messages, and the graph's name; a file name, usually.
 * @throws InputError if the bytes are not an ONNX model, Unsupported if its values are of kinds we do not have.
 */
export function readModel(bytes: Uint8Array, name: string): Graph {
  const fault = (what: string) =>
    new InputError(`${quoted(name).slice(1, -1)} is not an ONNX model: ${what}`);
  const model = attempt(() => decodeModel(bytes), fault);
  if (!model.graph) throw fault('it has no graph');
  const version = model.irVersion.toNumber();
  if (version < 1 || version > 1000) throw fault(`its IR version is ${version}`);
  const reader = new GraphReader(opsetOf(model, fault), fault);
  const graph = reader.graph(model.graph, name, new Set(), 0);
  if (graph.outputs.length === 0) throw fault('its graph has no outputs');
  if (reader.refusals.length > 0) throw new Unsupported(reader.refusals);
  return graph;
}

/** Reads a lone tensor, as the data files of ONNX tests hold it. */
export function readTensor(bytes: Uint8Array): Tensor & { readonly name: string } {
  const fault = (what: string) => new InputError(`not an ONNX tensor: ${what}`);
  const proto = attempt(() => decodeTensor(bytes), fault);
  try {
    return { ...tensorFrom(proto), name: proto.name };
  } catch (e) {
    if (!(e instanceof TensorProblem)) throw e;
    throw e.kind === 'unsupported'
      ? new Unsupported([{ value: proto.name, reason: e.message }])
      : fault(e.message);
  }
}

/** Runs the decoder; what it throws (range, type and syntax errors of its own) means that the bytes are wrong. */
function attempt<T>(decode: () => T, fault: (what: string) => InputError): T {
  try {
    return decode();
  } catch (e) {
    const [line] = (e instanceof Error ? e.message : String(e)).split('\n');
    throw fault(line!.slice(0, 100));
  }
}

function opsetOf(model: ModelProto, fault: (what: string) => InputError): number {
  const version = model.opsetImport.find((o) => isDefaultDomain(o.domain))?.version.toNumber();
  if (version === undefined) throw fault('it does not say which opset it uses');
  if (version < 1 || version > 10_000) throw fault(`its opset is ${version}`);
  return version;
}

const isDefaultDomain = (domain: string): boolean => domain === '' || domain === 'ai.onnx';

class GraphReader {
  readonly refusals: Refusal[] = [];

  constructor(
    private readonly opset: number,
    private readonly fault: (what: string) => InputError,
  ) {}

  /** @param outer names that the graph may use from around it, if it is a branch. */
  graph(proto: GraphProto, name: string, outer: ReadonlySet<string>, depth: number): Graph {
    if (depth > maxDepth) throw this.fault(`its branches nest more than ${maxDepth} deep`);
    if (proto.sparseInitializer.length > 0) {
      const value = proto.sparseInitializer[0]!.values?.name ?? '';
      this.refusals.push({ value, reason: 'a sparse tensor' });
    }
    const made = new Set<string>();
    const define = (value: string): void => {
      if (made.has(value) || outer.has(value)) throw this.fault(`value ${quoted(value)} is made twice`);
      made.add(value);
    };
    const constants = new Map<string, Tensor>();
    for (const tensor of proto.initializer) {
      if (tensor.name === '') throw this.fault('a weight has no name');
      define(tensor.name);
      const value = this.tensor(tensor, tensor.name);
      if (value) constants.set(tensor.name, value);
    }
    const inputs: GraphInput[] = [];
    // Before IR version 4 weights had to be inputs as well, as defaults; we take them as constants.
    for (const info of proto.input.filter((i) => !made.has(i.name))) {
      define(info.name);
      const input = this.input(info, depth > 0);
      if (input) inputs.push(input);
    }
    const nodes = this.nodes(proto, made, outer, depth);
    const outputs = proto.output.map((o) => o.name);
    for (const output of outputs) {
      if (!made.has(output) && !outer.has(output))
        throw this.fault(`output ${quoted(output)} is not made by any node`);
    }
    if (new Set(outputs).size !== outputs.length) throw this.fault('an output is listed twice');
    return { name, opset: this.opset, inputs, outputs, nodes, constants };
  }

  /** Reads nodes in order, adding what they make to `made`. */
  private nodes(proto: GraphProto, made: Set<string>, outer: ReadonlySet<string>, depth: number): Node[] {
    const later = new Set(proto.node.flatMap((n) => n.output));
    return proto.node.map((n, at) => {
      const name = n.name || `${n.opType}_${at}`;
      for (const input of n.input) {
        if (input === '' || made.has(input) || outer.has(input)) continue;
        const why = later.has(input) ? 'before it is made' : 'which nothing makes';
        throw this.fault(`node ${quoted(name)} uses ${quoted(input)} ${why}`);
      }
      const node = this.node(
        n,
        name,
        new Set([...(n.attribute.some((a) => a.g) ? [...outer, ...made] : [])]),
        depth,
      );
      for (const output of n.output.filter((o) => o !== '')) {
        if (made.has(output) || outer.has(output)) throw this.fault(`value ${quoted(output)} is made twice`);
        made.add(output);
      }
      return node;
    });
  }

  private node(proto: NodeProto, name: string, visible: ReadonlySet<string>, depth: number): Node {
    if (proto.opType === '') throw this.fault(`node ${quoted(name)} has no operator`);
    const attributes = new Map<string, Attribute>();
    const node: Node = {
      name,
      op: proto.opType,
      domain: isDefaultDomain(proto.domain) ? '' : proto.domain,
      inputs: proto.input,
      outputs: proto.output,
      attributes,
    };
    const refuse = (reason: string): void => void this.refusals.push({ node, opset: this.opset, reason });
    for (const a of proto.attribute) {
      if (attributes.has(a.name))
        throw this.fault(`node ${quoted(name)} has attribute ${quoted(a.name)} twice`);
      const value = this.attribute(a, `${name}.${a.name}`, visible, depth, refuse);
      if (value !== undefined) attributes.set(a.name, value);
    }
    return node;
  }

  private attribute(
    proto: AttributeProto,
    path: string,
    visible: ReadonlySet<string>,
    depth: number,
    refuse: (reason: string) => void,
  ): Attribute | undefined {
    if (proto.refAttrName !== '') throw this.fault(`${quoted(path)} refers to a function's attribute`);
    switch (proto.type || guessType(proto)) {
      case 1:
        return proto.f;
      case 2:
        return proto.i.toNumber();
      case 3:
        return text(proto.s);
      case 4:
        if (!proto.t) throw this.fault(`${quoted(path)} has no tensor`);
        return this.tensor(proto.t, path, refuse);
      case 5:
        if (!proto.g) throw this.fault(`${quoted(path)} has no graph`);
        return this.graph(proto.g, path, visible, depth + 1);
      case 6:
        return [...proto.floats];
      case 7:
        return proto.ints.map((i) => i.toNumber());
      case 8:
        return proto.strings.map(text);
      default:
        refuse(`attribute ${quoted(proto.name)} is of a kind (${proto.type}) that is not supported`);
        return undefined;
    }
  }

  /** A tensor, or undefined (and a refusal) if its element type is not supported. */
  private tensor(proto: TensorProto, value: string, refuse?: (reason: string) => void): Tensor | undefined {
    try {
      return tensorFrom(proto);
    } catch (e) {
      if (!(e instanceof TensorProblem)) throw e;
      if (e.kind === 'fault') throw this.fault(`tensor ${quoted(value)}: ${e.message}`);
      if (refuse) refuse(`a tensor: ${e.message}`);
      else this.refusals.push({ value, reason: e.message });
      return undefined;
    }
  }

  /** @param loose for branches, whose inputs need not say their type; nothing that we take has such inputs. */
  private input({ name, type }: ValueInfoProto, loose: boolean): GraphInput | undefined {
    if (name === '') throw this.fault('an input has no name');
    if (!type && loose) return { name, dtype: 'f32', shape: [], unranked: true };
    if (!type?.tensorType) {
      const kind = type?.sequenceType
        ? 'sequence'
        : type?.mapType
          ? 'map'
          : type?.optionalType
            ? 'optional'
            : undefined;
      if (!kind && !type?.sparseTensorType) throw this.fault(`input ${quoted(name)} has no type`);
      this.refusals.push({
        value: name,
        reason: `of type ${kind ?? 'sparse tensor'}; only tensors are supported`,
      });
      return undefined;
    }
    const { elemType, shape } = type.tensorType;
    const dtype = dtypeOf(elemType);
    if (!dtype) {
      this.refusals.push({ value: name, reason: `element type ${elemTypeName(elemType)}` });
      return undefined;
    }
    if (!shape) return { name, dtype, shape: [], unranked: true };
    const dims = shape.dim.map((d): number | string => {
      const value = d.dimValue.toNumber();
      return d.value === 'dimValue' && value >= 0 ? value : d.dimParam || '?';
    });
    return { name, dtype, shape: dims };
  }
}

/** Files from before the attribute's type was stored say it by which field is there. */
function guessType(a: AttributeProto): number {
  const own = (field: keyof AttributeProto): boolean => Object.hasOwn(a, field);
  if (a.t) return 4;
  if (a.g) return 5;
  if (a.floats.length > 0) return 6;
  if (a.ints.length > 0) return 7;
  if (a.strings.length > 0) return 8;
  return own('f') ? 1 : own('i') ? 2 : own('s') ? 3 : 0;
}

/** A string attribute; one that is not there at all decodes to an empty list. */
const text = (bytes: Uint8Array | readonly []): string => new TextDecoder().decode(Uint8Array.from(bytes));
