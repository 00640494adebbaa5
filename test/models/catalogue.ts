/**
 * @file The real models that tests run: some lie beside a checkout (../shared) with expected outputs, the trained ones come
 * from npm packages and are compared with onnxruntime.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runPeer } from '../../cli/bench/onnxruntime.ts';
import { readTestData } from '../../cli/test_data.ts';
import { readModel } from '../../compiler/index.ts';
import { directionFile, recogniserFile, wakeModelFile } from '../../demo/models.ts';
import type { Model, Precision } from '../../driver/model.ts';
import { compileModel } from '../../index.ts';
import type { Tensors } from '../../runtime/tenants.ts';
import { testFolder } from '../conformance/suite.ts';
import { randomTensor } from '../support/random.ts';

export interface ModelCase {
  readonly name: string;
  readonly compile: (precision?: Precision) => Promise<Model>;
  /** Inputs, and the outputs they must give. */
  readonly data: (model: Model) => Promise<{ readonly inputs: Tensors; readonly outputs: Tensors }>;
}

const shared = join('..', 'shared', 'models');

/** Models in the ONNX backend layout below a folder. */
function inFolder(folder: string): ModelCase[] {
  return readdirSync(folder)
    .sort()
    .map((name) => ({
      name,
      compile: (precision = 'fp32') => compileModel(join(folder, name, 'model.onnx'), { name, precision }),
      async data(model) {
        const set = await readTestData(join(folder, name));
        const named = (ports: Model['inputs'], tensors: typeof set.inputs): Tensors =>
          Object.fromEntries(
            ports.map((p, n) => [p.name, (tensors.find((t) => t.name === p.name) ?? tensors[n]!).tensor]),
          );
        return { inputs: named(model.inputs, set.inputs), outputs: named(model.outputs, set.outputs) };
      },
    }));
}

/** The models of ../shared, the light ones of the backend tests among them; undefined if they are not there. */
export async function sharedModels(): Promise<ModelCase[] | undefined> {
  const backend = await testFolder();
  if (!existsSync(shared) || !backend) return undefined;
  const light = join(backend, 'light');
  return [...inFolder(shared), ...inFolder(light).map((c) => ({ ...c, name: `light ${c.name}` }))];
}

/** Trained models of npm packages, on random inputs, against onnxruntime. */
export function packageModels(): ModelCase[] {
  const trained = (name: string, file: string, shape: readonly number[]): ModelCase => ({
    name,
    async compile(precision = 'fp32') {
      // The only input has another name in every model, and the file itself says it.
      const bytes = new Uint8Array(readFileSync(file));
      const [input] = readModel(bytes, name).inputs;
      return compileModel(bytes, { name, precision, shapes: { [input!.name]: shape } });
    },
    async data(model) {
      const [port] = model.inputs;
      const input = randomTensor(port!.dtype, port!.shape, 7);
      const outputs = await runPeer(new Uint8Array(readFileSync(file)), new Map([[port!.name, input]]));
      return { inputs: { [port!.name]: input }, outputs: Object.fromEntries(outputs) };
    },
  });
  return [
    trained('text recogniser', recogniserFile(), [1, 3, 48, 320]),
    trained('text direction', directionFile(), [1, 3, 48, 192]),
    ...['alexa', 'hey_jarvis', 'hey_mycroft', 'hey_rhasspy'].map((word) =>
      trained(`wake word ${word}`, wakeModelFile(`${word}_v0.1`), [1, 16, 96]),
    ),
    trained('wake word timer', wakeModelFile('timer_v0.1'), [1, 34, 96]),
    trained('wake word weather', wakeModelFile('weather_v0.1'), [1, 22, 96]),
  ];
}
