/**
 * @file The tenants of a benchmark: generated models, each tenant with weights of a seed of its own, or files; their inputs, and what
 * their outputs must be.
 */
import { InputError } from '../../compiler/errors.ts';
import { isArtefact } from '../../driver/artefact.ts';
import type { TenantModel } from '../../driver/code.ts';
import { type Precision, readModelFile, SourceModel } from '../../driver/model.ts';
import { generated, parseRecipe } from '../../models/index.ts';
import type { Tensors } from '../../runtime/tenants.ts';
import { modelName, parseModelSpec, refuseUnused, type Shapes, shapesFor } from '../tenants.ts';
import { findOnnxRuntime } from './onnxruntime.ts';
import { type Job, prepareAll, type Referee, sourceBytes } from './prepare.ts';

export interface BenchTenant extends TenantModel {
  readonly model: SourceModel;
  readonly inputs: Tensors;
  /** Other inputs, to leave other outputs behind before a check. */
  readonly others: Tensors;
  /** The ONNX file. */
  readonly bytes: () => Uint8Array;
}

export interface BenchTenantOptions {
  readonly precision: Precision;
  readonly shape: Shapes;
  readonly seed: number;
}

/** What is run once for each of `--tenants`. */
interface Source extends Pick<Job, 'name' | 'shapes'> {
  /** What a seed gives; the same object for all seeds of a file. */
  readonly of: (seed: number) => Job['source'];
}

/** Each spec is a generated model's name (perhaps with sizes) or a file, perhaps `*N` times. */
async function readSources(specs: readonly string[], shapes: Shapes): Promise<Source[]> {
  const unused = new Set(Object.keys(shapes));
  const sources: Source[] = [];
  for (const spec of specs) {
    const { path, count } = parseModelSpec(spec);
    const recipe = parseRecipe(path);
    const source: Source = recipe
      ? { name: recipe.name, shapes: {}, of: (seed) => ({ recipe, seed }) }
      : await fromFile(path, shapes);
    for (const input of Object.keys(source.shapes)) unused.delete(input);
    for (let i = 0; i < count; i++) sources.push(source);
  }
  refuseUnused(unused);
  return sources;
}

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
    shapes: shapesFor(bytes, path, shapes),
    of: () => bytes,
  };
}

/** `rounds` times the list of models, in that order, so that the first n lists are the tenants of a smaller figure. */
export const benchTenants = async (
  specs: readonly string[],
  rounds: number,
  options: BenchTenantOptions,
): Promise<BenchTenant[]> => (await prepared(specs, rounds, options)).map(({ tenant }) => tenant);

/** What outputs are held against, by tenant, and who says so. */
export interface Reference {
  readonly by: string;
  readonly outputs: ReadonlyMap<string, Tensors>;
}

const referees: { readonly [R in Referee]: string } = {
  onnxruntime: 'onnxruntime',
  host: 'each tenant alone on the CPU in fp32',
};

/** The same tenants, and every one's outputs from onnxruntime if it is installed, else from the tenant alone on the CPU (or `referee`). */
export async function tenantsWithReference(
  specs: readonly string[],
  rounds: number,
  options: BenchTenantOptions & { readonly referee?: Referee },
  onModel: (done: number, total: number) => void = () => {},
): Promise<{ readonly tenants: BenchTenant[]; readonly reference: Reference }> {
  const referee = options.referee ?? ((await findOnnxRuntime()) ? 'onnxruntime' : 'host');
  const all = await prepared(specs, rounds, { ...options, referee }, onModel);
  return {
    tenants: all.map(({ tenant }) => tenant),
    reference: {
      by: referees[referee],
      outputs: new Map(all.map(({ tenant, expected }) => [tenant.name, expected!])),
    },
  };
}

async function prepared(
  specs: readonly string[],
  rounds: number,
  { precision, shape, seed, referee }: BenchTenantOptions & { readonly referee?: Referee },
  onModel: (done: number, total: number) => void = () => {},
): Promise<{ readonly tenant: BenchTenant; readonly expected: Tensors | undefined }[]> {
  const sources = await readSources(specs, shape);
  // A job for each generated model, and one for each file.
  const jobs = new Map<unknown, Job & { readonly seeds: number[] }>();
  const places: { job: Job; nth: number }[] = [];
  for (let n = 0; n < rounds * sources.length; n++) {
    const { name, shapes, of } = sources[n % sources.length]!;
    const source = of(seed + n);
    const job = jobs.get(source) ?? { name, source, shapes, precision, seeds: [], referee };
    jobs.set(source, job);
    places.push({ job, nth: job.seeds.push(seed + n) - 1 });
  }
  let done = 0;
  const list = [...jobs.values()];
  const results = await prepareAll(list, () => onModel(++done, list.length));
  const models = results.map(({ lowered }) => new SourceModel(lowered, precision));
  return places.map(({ job, nth }, n) => {
    const at = list.indexOf(job as (typeof list)[number]);
    const { expected, ...tensors } = results[at]!.tenants[nth]!;
    const tenant = {
      name: `${job.name}#${n + 1}`,
      model: models[at]!,
      ...tensors,
      bytes: () => sourceBytes(job),
    };
    return { tenant, expected };
  });
}
