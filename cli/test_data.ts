/**
 * @file Test data in the ONNX backend layout (input_N.pb, output_N.pb), and comparison with it.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { InputError } from '../compiler/errors.ts';
import { readTensor } from '../compiler/onnx/reader.ts';
import { type Model, readModelFile } from '../driver/model.ts';
import { reader, type Tensor } from '../ir/tensor.ts';
import { formatType, isFloat, sameShape } from '../ir/types.ts';
import type { Tensors } from '../runtime/program.ts';

interface NamedTensor {
  readonly name: string;
  readonly tensor: Tensor;
}

export interface TestData {
  readonly folder: string;
  readonly inputs: readonly NamedTensor[];
  readonly outputs: readonly NamedTensor[];
  /** Shapes of the inputs, by name. */
  readonly shapes: { readonly [input: string]: readonly number[] };
}

/** Reads a `test_data_set_*` folder, or the first one in its parent. */
export async function readTestData(folder: string): Promise<TestData> {
  const set =
    existsSync(join(folder, 'input_0.pb')) || existsSync(join(folder, 'output_0.pb'))
      ? folder
      : firstSet(folder);
  const read = async (prefix: string): Promise<NamedTensor[]> => {
    const tensors: NamedTensor[] = [];
    for (let n = 0; existsSync(join(set, `${prefix}_${n}.pb`)); n++) {
      const { name, ...tensor } = readTensor(await readModelFile(join(set, `${prefix}_${n}.pb`)));
      tensors.push({ name, tensor });
    }
    return tensors;
  };
  const inputs = await read('input');
  const shapes = Object.fromEntries(inputs.map(({ name, tensor }) => [name, tensor.shape]));
  return { folder: set, inputs, outputs: await read('output'), shapes };
}

function firstSet(folder: string): string {
  if (!existsSync(folder)) throw new InputError(`${folder}: no such folder`);
  const [first] = readdirSync(folder)
    .filter((name) => name.startsWith('test_data_set_'))
    .sort();
  if (!first) throw new InputError(`${folder}: neither input_0.pb nor a test_data_set_* folder is in it`);
  return join(folder, first);
}

/** The inputs for a model: by name, or by place where names differ. */
export function inputsFor(model: Model, data: TestData): Tensors {
  return matched(model.inputs, data.inputs, 'input', data.folder);
}

/** The expected outputs of a model. */
export function outputsFor(model: Model, data: TestData): Tensors {
  return matched(model.outputs, data.outputs, 'output', data.folder);
}

function matched(
  ports: Model['inputs'],
  tensors: readonly NamedTensor[],
  what: string,
  folder: string,
): Tensors {
  return Object.fromEntries(
    ports.map((port, n) => {
      const found = tensors.find((t) => t.name === port.name) ?? tensors[n];
      if (!found) throw new InputError(`${folder} has no ${what} '${port.name}'`);
      const { tensor } = found;
      const fits = tensor.dtype === port.dtype && sameShape(tensor.shape, port.shape);
      if (!fits)
        throw new InputError(
          `${folder}: ${what} '${port.name}' is ${formatType(tensor)}, the model has ${formatType(port)}`,
        );
      return [port.name, tensor];
    }),
  );
}

export interface Comparison {
  /** Largest |got - expected| over the largest |expected|; infinite where one is NaN and the other is not. */
  readonly largest: number;
  readonly tolerance: number;
  readonly ok: boolean;
}

/** Largest error allowed: for floats kept in 32 and in 16 bits; integers must be exact. */
export const tolerances = { wide: 1e-4, half: 1e-2 } as const;

/** The one that a model is held to: half floats anywhere in it make it the wider. */
export function toleranceOf({ precision, inputs, outputs }: Model): number {
  const isHalf = [...inputs, ...outputs].some((p) => p.dtype === 'f16' || p.dtype === 'bf16');
  return tolerances[isHalf || precision === 'fp16' ? 'half' : 'wide'];
}

/** Compares an output with what is expected: exactly for integers, else within the tolerance, relative to the tensor's scale. */
export function compare(got: Tensor, expected: Tensor, tolerance: number): Comparison {
  const [g, e] = [reader(got), reader(expected)];
  let difference = 0;
  let scale = 0;
  for (let i = 0; i < expected.data.length; i++) {
    const [a, b] = [g(i), e(i)];
    if (Number.isFinite(b)) scale = Math.max(scale, Math.abs(b));
    if (Object.is(a, b) || a === b) continue;
    const error = Math.abs(a - b);
    difference = Math.max(difference, Number.isNaN(error) ? Number.POSITIVE_INFINITY : error);
  }
  const largest = scale > 0 ? difference / scale : difference;
  const allowed = isFloat(expected.dtype) ? tolerance : 0;
  return { largest, tolerance: allowed, ok: largest <= allowed };
}
