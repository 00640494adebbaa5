/**
 * @file `wideword dump`: prints one stage of the way from graph to machine code.
 */
import { match } from 'ts-pattern';
import { preludeOf } from '../codegen/prelude.ts';
import { emitWord } from '../codegen/word.ts';
import { InputError } from '../compiler/errors.ts';
import { convertPrecision, readModel, simplify, typeGraph } from '../compiler/index.ts';
import { printGraph } from '../compiler/print.ts';
import { classesOf, distinctCodes } from '../driver/code.ts';
import { link } from '../driver/device.ts';
import { type Precision, readModelFile, SourceModel, scheduleModule } from '../driver/model.ts';
import { printModule } from '../ir/print_module.ts';
import { printPlan } from '../ir/program.ts';
import { targetOf } from '../ir/target.ts';
import type { TierChoice } from '../passes/coalesce.ts';
import { loadNative } from '../runtime/native.ts';
import { cudaToolchain } from '../runtime/toolchain.ts';
import { exitCodes } from './output.ts';
import { parseModelSpec, readTenants, type Shapes } from './tenants.ts';

export const stages = ['graph', 'kernel', 'word', 'cuda', 'ptx'] as const;
export type Stage = (typeof stages)[number];

export interface DumpOptions {
  readonly stage: Stage;
  readonly target: string;
  readonly precision?: Precision;
  readonly shape: Shapes;
  readonly tier: TierChoice;
}

export async function dump(specs: readonly string[], options: DumpOptions): Promise<number> {
  const print = match(options.stage)
    .with('graph', () => dumpGraphs)
    .with('kernel', () => dumpKernels)
    .with('word', () => dumpWords)
    .with('cuda', () => dumpSource)
    .with('ptx', () => dumpPtx)
    .exhaustive();
  await print(specs, options);
  return exitCodes.ok;
}

async function dumpGraphs(specs: readonly string[], { shape, precision }: DumpOptions): Promise<void> {
  for (const spec of specs) {
    const { path } = parseModelSpec(spec);
    const graph = simplify(typeGraph(readModel(await readModelFile(path), path), shape));
    console.log(printGraph(convertPrecision(graph, precision ?? 'fp32')));
  }
}

async function sourceTenants(specs: readonly string[], { shape, precision }: DumpOptions) {
  const { tenants } = await readTenants(specs, { shapes: shape, precision, replicas: 1, testData: [] });
  for (const { model, name } of tenants) {
    if (!(model instanceof SourceModel))
      throw new InputError(`${name} is an artefact, which has no kernels to print`);
  }
  return tenants;
}

async function dumpKernels(specs: readonly string[], options: DumpOptions): Promise<void> {
  const models = new Set((await sourceTenants(specs, options)).map((t) => t.model));
  for (const model of models) {
    if (model instanceof SourceModel) console.log(printModule(scheduleModule(model.module, options.target)));
  }
}

async function dumpWords(specs: readonly string[], options: DumpOptions): Promise<void> {
  console.log(printPlan(link(await sourceTenants(specs, options), options.target, options.tier)));
}

/** The code of every distinct word, without the prelude that all share after the first. */
async function dumpSource(specs: readonly string[], options: DumpOptions): Promise<void> {
  const prelude = preludeOf(targetOf(options.target).kind);
  const sources = await wordSources(specs, options);
  sources.forEach(({ source }, n) => console.log(n === 0 ? source : source.replace(prelude, '')));
}

async function dumpPtx(specs: readonly string[], options: DumpOptions): Promise<void> {
  if (targetOf(options.target).kind !== 'cuda')
    throw new InputError('--stage ptx needs a CUDA target, such as --target sm_90');
  cudaToolchain(options.target); // says what to install if there is no NVRTC
  const native = loadNative();
  for (const { source } of await wordSources(specs, options)) {
    const { image } = await native.compileCuda(source, options.target.replace('sm_', 'compute_'));
    console.log(Buffer.from(image).toString('utf8').replace(/\0+$/, ''));
  }
}

async function wordSources(specs: readonly string[], options: DumpOptions) {
  const tenants = await sourceTenants(specs, options);
  const { words } = link(tenants, options.target, options.tier);
  const models = tenants.map((t) => t.model);
  return [...distinctCodes(words).values()].map((word) =>
    emitWord(classesOf(word, models, options.target), targetOf(options.target)),
  );
}
