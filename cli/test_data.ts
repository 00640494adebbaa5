/**
 * @file Test data in the ONNX backend layout (input_N.pb, output_N.pb), and comparison with it.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { InputError } from '../compiler/errors.ts';
import { readTensor } from '../compiler/onnx/reader.ts';
import { type Model, readModelFile } from '../driver/model.ts';
import { tolerances } from '../ir/compare.ts';
import type { Tensor } from '../ir/tensor.ts';
import { formatType, sameShape } from '../ir/types.ts';
import type { Tensors } from '../runtime/tenants.ts';

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

/** The one that a model is held to: half floats anywhere in it make it the wider. */
export function toleranceOf({ precision, inputs, outputs }: Model): number {
  const isHalf = [...inputs, ...outputs].some((p) => p.dtype === 'f16' || p.dtype === 'bf16');
  return tolerances[isHalf || precision === 'fp16' ? 'half' : 'wide'];
}
