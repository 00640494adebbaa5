/**
 * @file Tensors in the server's JSON: `{"shape": [1, 2], "data": [0.5, 1]}`, elements in row-major order.
 */
import { formatType, type ModelPort, type Tensor, tensorOf, toNumbers } from '../index.ts';

/** The body is at fault; the message is for the client. */
export class BadBody extends Error {}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Reads `{"inputs": {NAME: TENSOR, ...}}` as the inputs of a model; throws BadBody. */
export function inputsFromJson(text: string, ports: readonly ModelPort[]): Record<string, Tensor> {
  const body = parse(text);
  if (!isObject(body) || !isObject(body.inputs)) throw new BadBody('the body must be {"inputs": {...}}');
  const given = new Map(Object.entries(body.inputs));
  const tensors = ports.map((port) => [port.name, tensorFromJson(given.get(port.name), port)] as const);
  for (const { name } of ports) given.delete(name);
  const [extra] = given.keys();
  if (extra !== undefined) throw new BadBody(`there is no input ${JSON.stringify(extra)}`);
  return Object.fromEntries(tensors);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new BadBody('the body is not JSON');
  }
}

function tensorFromJson(value: unknown, port: ModelPort): Tensor {
  const what = `input ${JSON.stringify(port.name)}`;
  if (value === undefined) throw new BadBody(`${what} (${formatType(port)}) is missing`);
  if (!isObject(value) || !Array.isArray(value.shape) || !Array.isArray(value.data)) {
    throw new BadBody(`${what} must be {"shape": [...], "data": [...]}`);
  }
  const { shape, data } = value as { shape: unknown[]; data: unknown[] };
  if (shape.length !== port.shape.length || !port.shape.every((d, i) => d === shape[i])) {
    throw new BadBody(`${what} has the shape [${shape.slice(0, 16)}], expected [${port.shape}]`);
  }
  const count = port.shape.reduce((product, d) => product * d, 1);
  if (data.length !== count) throw new BadBody(`${what} has ${data.length} elements, expected ${count}`);
  if (!data.every((x): x is number => typeof x === 'number'))
    throw new BadBody(`${what} has elements that are no numbers`);
  return tensorOf(port.dtype, port.shape, data);
}

/** Outputs as JSON. JSON has no NaN and no infinities: they become null. */
export const outputsToJson = (outputs: Readonly<Record<string, Tensor>>): unknown => ({
  outputs: Object.fromEntries(
    Object.entries(outputs).map(([name, t]) => [name, { shape: t.shape, data: toNumbers(t) }]),
  ),
});
