/**
 * @file The tenants of a benchmark: generated models, each tenant with weights of a seed of its own, or files; their inputs, and what
 * their outputs must be.
 */
import { InputError } from '../../compiler/errors.ts';
import { isArtefact } from '../../driver/artefact.ts';
import type { TenantModel } from '../../driver/code.ts';
import { openDevice } from '../../driver/device.ts';
import { compileModel, type Model, type Precision, readModelFile, SourceModel } from '../../driver/model.ts';
import { randomInput } from '../../ir/random.ts';
import { generate, generated, type ModelRecipe, parseRecipe } from '../../models/index.ts';
import type { Tensors } from '../../runtime/tenants.ts';
import { modelName, parseModelSpec, refuseUnused, type Shapes, shapesFor } from '../tenants.ts';
import { findOnnxRuntime, runPeer } from './onnxruntime.ts';

export interface BenchTenant extends TenantModel {
  readonly model: SourceModel;
  readonly inputs: Tensors;
  /** Other inputs, to leave other outputs behind before a check. */
  readonly others: Tensors;
  readonly shapes: Shapes;
  /** The ONNX file. */
  readonly bytes: () => Uint8Array;
}

export interface BenchTenantOptions {
  readonly precision: Precision;
  readonly shape: Shapes;
  readonly seed: number;
}

/** What is run once for each of `--tenants`. */
interface Source {
  readonly name: string;
  /** The bytes for a seed; the same for all seeds if `shared`. */
  readonly bytes: (seed: number) => Uint8Array;
  readonly shared: boolean;
  /** Of the inputs that it leaves open. */
  readonly shapes: Shapes;
  readonly integers?: number;
}

/** Each spec is a generated model's name (perhaps with sizes) or a file, perhaps `*N` times. */
async function readSources(specs: readonly string[], shapes: Shapes): Promise<Source[]> {
  const unused = new Set(Object.keys(shapes));
  const sources: Source[] = [];
  for (const spec of specs) {
    const { path, count } = parseModelSpec(spec);
    const recipe = parseRecipe(path);
    const source = recipe ? fromRecipe(recipe) : await fromFile(path, shapes);
    for (const input of Object.keys(source.shapes)) unused.delete(input);
    for (let i = 0; i < count; i++) sources.push(source);
  }
  refuseUnused(unused);
  return sources;
}

const fromRecipe = ({ name, sizes, integers }: ModelRecipe): Source => ({
  name,
  bytes: (seed) => generate(name, seed, sizes),
  shared: false,
  shapes: {},
  integers,
});

async function fromFile(path: string, shapes: Shapes): Promise<Source> {
  const bytes = await readModelFile(path).catch((error: unknown) => {
    if (error instanceof InputError && !path.includes('.'))
      throw new InputError(
        `${error.message}, and the generated models are ${Object.keys(generated).join(', ')}`,
      );
    throw error;
  });
  if (isArtefact(bytes))
    throw new InputError(`${path} is an artefact: bench counts kernels, so it needs the ONNX file`);
  return {
    name: modelName(path),
    bytes: () => bytes,
    shared: true,
    shapes: shapesFor(bytes, path, shapes),
  };
}

/** `rounds` times the list of models, in that order, so that the first n lists are the tenants of a smaller figure. */
export async function benchTenants(
  specs: readonly string[],
  rounds: number,
  { precision, shape, seed }: BenchTenantOptions,
): Promise<BenchTenant[]> {
  const sources = await readSources(specs, shape);
  const shared = new Map<Source, SourceModel>();
  const tenants: BenchTenant[] = [];
  for (let n = 0; n < rounds * sources.length; n++) {
    const source = sources[n % sources.length]!;
    const { name } = source;
    const mine = seed + n;
    const compile = async (): Promise<SourceModel> => {
      const model = await compileModel(source.bytes(mine), { name, shapes: source.shapes, precision });
      if (!(model instanceof SourceModel)) throw new Error(`${name} has no kernels to count`);
      return model;
    };
    const model = shared.get(source) ?? (await compile());
    if (source.shared) shared.set(source, model);
    tenants.push({
      name: `${name}#${n + 1}`,
      model,
      inputs: inputsOf(model, mine, source.integers),
      others: inputsOf(model, mine + 7919, source.integers),
      shapes: source.shapes,
      bytes: () => source.bytes(mine),
    });
  }
  return tenants;
}

const inputsOf = (model: Model, seed: number, integers?: number): Tensors =>
  Object.fromEntries(model.inputs.map((p, i) => [p.name, randomInput(p, seed * 31 + i, integers)]));

/** What outputs are held against, by tenant, and who says so. */
export interface Reference {
  readonly by: string;
  readonly outputs: ReadonlyMap<string, Tensors>;
}

/** Every tenant's outputs from onnxruntime if it is installed (or `peer`), else from the tenant alone on the CPU in fp32. */
export async function referenceOf(
  tenants: readonly BenchTenant[],
  onTenant: (done: number) => void = () => {},
  peer?: boolean,
): Promise<Reference> {
  const isPeer = peer ?? (await findOnnxRuntime()) !== undefined;
  const outputs = new Map<string, Tensors>();
  for (const [n, t] of tenants.entries()) {
    onTenant(n);
    const result = isPeer
      ? Object.fromEntries(await runPeer(t.bytes(), new Map(Object.entries(t.inputs))))
      : await onHost(t);
    outputs.set(t.name, result);
  }
  return { by: isPeer ? 'onnxruntime' : 'each tenant alone on the CPU in fp32', outputs };
}

async function onHost({ bytes, shapes, inputs }: BenchTenant): Promise<Tensors> {
  const device = await openDevice('host');
  try {
    const model = await compileModel(bytes(), { shapes });
    const program = await device.load([{ name: 'only', model }]);
    const { outputs } = await program.run({ only: inputs });
    return outputs.only!;
  } finally {
    device.close();
  }
}
