/**
 * @file Writes ONNX models: graphs given as plain data to the bytes of a file. What generated models and tests are made with.
 */

import { bytesOf, type Tensor } from '../../ir/tensor.ts';
import type { DType } from '../../ir/types.ts';
import { encodeModelOf, encodeTensor as encodeTensorProto } from './schema.ts';
import { elemTypeOf } from './tensors.ts';

export type AttributeValue = number | string | Tensor | GraphSpec | readonly number[] | { float: number };

export interface NodeSpec {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly name?: string;
  readonly domain?: string;
  readonly attributes?: { readonly [name: string]: AttributeValue };
}

export interface InputSpec {
  readonly name: string;
  readonly dtype?: DType;
  /** Strings are open dimensions; no shape at all is one of unknown rank. */
  readonly shape?: readonly (number | string)[];
}

export interface GraphSpec {
  readonly inputs?: readonly InputSpec[];
  readonly outputs: readonly string[];
  readonly nodes: readonly NodeSpec[];
  readonly constants?: { readonly [name: string]: Tensor };
}

/** The bytes of a model. Whole numbers become integer attributes; write `{ float: 2 }` for a float. */
export function buildModel({ constants = {}, ...graph }: GraphSpec, opset = 18): Uint8Array {
  const model = { irVersion: 8, opsetImport: [{ domain: '', version: opset }] };
  return encodeModelOf(model, graphProto(graph), Object.entries(constants).map(named));
}

const named = ([name, tensor]: [string, Tensor]) => ({ name, ...tensorProto(tensor) });

const graphProto = ({ inputs = [], outputs, nodes, constants = {} }: GraphSpec): object => ({
  name: 'graph',
  node: nodes.map(({ op, inputs: input, outputs: output, name = '', domain = '', attributes = {} }) => ({
    opType: op,
    input,
    output,
    name,
    domain,
    attribute: Object.entries(attributes).map(([key, value]) => ({ name: key, ...attributeProto(value) })),
  })),
  initializer: Object.entries(constants).map(named),
  input: inputs.map(({ name, dtype = 'f32', shape }) => ({
    name,
    type: {
      tensorType: {
        elemType: elemTypeOf(dtype),
        ...(shape && {
          shape: { dim: shape.map((d) => (typeof d === 'number' ? { dimValue: d } : { dimParam: d })) },
        }),
      },
    },
  })),
  // Types of outputs are left to inference.
  output: outputs.map((name) => ({ name })),
});

/** The bytes of a tensor with its name, as test data files hold it. */
export const encodeTensor = (tensor: Tensor, name: string): Uint8Array =>
  encodeTensorProto(named([name, tensor]));

const tensorProto = (tensor: Tensor) => ({
  dims: tensor.shape,
  dataType: elemTypeOf(tensor.dtype),
  rawData: bytesOf(tensor),
});

function attributeProto(value: AttributeValue): object {
  if (typeof value === 'number')
    return Number.isInteger(value) ? { type: 2, i: value } : { type: 1, f: value };
  if (typeof value === 'string') return { type: 3, s: new TextEncoder().encode(value) };
  if (Array.isArray(value)) {
    const whole = value.every(Number.isInteger);
    return whole ? { type: 7, ints: value } : { type: 6, floats: value };
  }
  if ('float' in value) return { type: 1, f: value.float };
  if ('nodes' in value) return { type: 5, g: graphProto(value) };
  return { type: 4, t: tensorProto(value as Tensor) };
}
