/**
 * @file Tenants as the command line names them: `a.onnx`, `a.onnx*8`, an artefact, each perhaps with test data.
 */
import { basename, dirname, resolve } from 'node:path';
import { InputError } from '../compiler/errors.ts';
import { readModel } from '../compiler/onnx/reader.ts';
import { isArtefact, parseArtefact } from '../driver/artefact.ts';
import type { TenantModel } from '../driver/code.ts';
import { compileModel, type Precision, readModelFile } from '../driver/model.ts';
import { numbered } from '../ir/names.ts';
import type { TierChoice } from '../passes/coalesce.ts';
import { readTestData, type TestData } from './test_data.ts';

export type Shapes = { readonly [input: string]: readonly number[] };

export interface TenantOptions {
  readonly shapes: Shapes;
  /** Of models compiled here; an artefact has its own, which this must not contradict. */
  readonly precision?: Precision | undefined;
  readonly replicas: number;
  /** Folders of test data; the n-th belongs to the n-th model, a single one to all. */
  readonly testData: readonly string[];
}

export interface CliTenant extends TenantModel {
  readonly testData?: TestData;
}

export interface Tenants {
  readonly tenants: readonly CliTenant[];
  /** Tier that an artefact among them was compiled for. */
  readonly tier?: TierChoice;
}

/** Splits `model.onnx*8` into the path and the number of replicas. */
export function parseModelSpec(spec: string): { readonly path: string; readonly count: number } {
  const found = /^(.+)\*(\d+)$/.exec(spec);
  if (!found) return { path: spec, count: 1 };
  const count = Number(found[2]);
  if (count < 1 || count > 4096) throw new InputError(`${spec}: a model runs as 1 to 4096 tenants`);
  return { path: found[1]!, count };
}

/** The file's name, or its folder's where the file is just `model.onnx`. */
export function modelName(path: string): string {
  const name = basename(path, '.onnx');
  return name === 'model' ? basename(dirname(resolve(path))) : name;
}

/** Reads `name=1,3,48,320`. */
export function parseShape(text: string): [string, number[]] {
  const found = /^(.+)=(\d+(?:,\d+)*)?$/.exec(text);
  if (!found) throw new InputError(`--shape ${text}: expected NAME=D,D,…, such as --shape x=1,3,48,320`);
  return [found[1]!, (found[2] ?? '').split(',').filter(Boolean).map(Number)];
}

/** The given shapes that are of a model's inputs. */
export function shapesFor(bytes: Uint8Array, path: string, shapes: Shapes): Shapes {
  const inputs = new Set(readModel(bytes, path).inputs.map((i) => i.name));
  return Object.fromEntries(Object.entries(shapes).filter(([input]) => inputs.has(input)));
}

/** Throws InputError if a shape was given for an input that no model has. */
export function refuseUnused(inputs: ReadonlySet<string>): void {
  for (const input of inputs)
    throw new InputError(`--shape ${input}=…: no model here has an input '${input}'`);
}

/** Compiles (or reads) every model, and names its tenants: by file, with a number where there are several. */
export async function readTenants(specs: readonly string[], options: TenantOptions): Promise<Tenants> {
  const { testData } = options;
  if (testData.length > 1 && testData.length !== specs.length) {
    throw new InputError(
      `${testData.length} test data folders for ${specs.length} models: give one, or one for each`,
    );
  }
  const unnamed: CliTenant[] = [];
  const unused = new Set(Object.keys(options.shapes));
  let tier: TierChoice | undefined;
  for (const [n, spec] of specs.entries()) {
    const { path, count } = parseModelSpec(spec);
    const bytes = await readModelFile(path);
    const folder = testData[testData.length === 1 ? 0 : n];
    const data = folder === undefined ? undefined : await readTestData(folder);
    let found: readonly TenantModel[];
    if (isArtefact(bytes)) {
      const artefact = parseArtefact(bytes, path);
      tier = artefact.tier;
      found = artefact.tenants;
      const other = found.find(
        (t) => options.precision !== undefined && t.model.precision !== options.precision,
      );
      if (other) throw new InputError(`${path} was compiled with --precision ${other.model.precision}`);
    } else {
      const name = modelName(path);
      // Test data settles dimensions that the model leaves open; a --shape is for the models that have such an input.
      const given = shapesFor(bytes, path, options.shapes);
      for (const input of Object.keys(given)) unused.delete(input);
      const shapes = { ...data?.shapes, ...given };
      found = [
        { name, model: await compileModel(bytes, { name, shapes, precision: options.precision ?? 'fp32' }) },
      ];
    }
    for (let i = 0; i < count * options.replicas; i++) {
      for (const t of found) unnamed.push({ ...t, ...(data && { testData: data }) });
    }
  }
  refuseUnused(unused);
  const names = numbered(unnamed.map((t) => t.name));
  return { tenants: unnamed.map((t, n) => ({ ...t, name: names[n]! })), ...(tier && { tier }) };
}
