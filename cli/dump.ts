/**
 * @file `wideword dump`: prints one stage of the way from graph to machine code.
 */
import { match } from 'ts-pattern';
import { preludeOf } from '../codegen/prelude.ts';
import { emitWord } from '../codegen/word.ts';
import { InputError } from '../compiler/errors.ts';
import { convertPrecision, readModel, simplify, typeGraph } from '../compiler/index.ts';
import { printGraph } from '../compiler/print.ts';
import { classesOf, distinctCodes, prepareCode, resourcesOf } from '../driver/code.ts';
import {
  type Model,
  type Precision,
  readModelFile,
  SourceModel,
  scheduleModule,
  targetPasses,
} from '../driver/model.ts';
import { link, linkWithKernels, type PlannedKind } from '../driver/plan.ts';
import type { Item } from '../ir/item.ts';
import type { Module } from '../ir/module.ts';
import { blocksPerUnit } from '../ir/occupancy.ts';
import { printModule } from '../ir/print_module.ts';
import { printProgram } from '../ir/print_program.ts';
import { targetOf } from '../ir/target.ts';
import type { TierChoice } from '../passes/coalesce.ts';
import { runPass } from '../passes/index.ts';
import { linkModules } from '../passes/link.ts';
import { CodeCache } from '../runtime/cache.ts';
import { loadNative } from '../runtime/native.ts';
import { cudaToolchain } from '../runtime/toolchain.ts';
import { exitCodes, table } from './output.ts';
import { parseModelSpec, readTenants, type Shapes } from './tenants.ts';

export const stages = ['graph', 'kernel', 'word', 'cuda', 'ptx', 'resources'] as const;
export type Stage = (typeof stages)[number];

/** The passes that a model goes through, in order, before code is emitted; `lower` is before all of them. */
export const dumpPasses = [
  'lower',
  'saturate',
  'fuse',
  'unround',
  ...targetPasses,
  'schedule',
  'plan-memory',
  'coalesce',
] as const;

export interface DumpOptions {
  readonly stage?: Stage;
  /** In place of a stage. */
  readonly after?: (typeof dumpPasses)[number];
  readonly target: string;
  readonly precision?: Precision;
  readonly shape: Shapes;
  readonly tier: TierChoice;
  readonly words?: PlannedKind;
}

export async function dump(specs: readonly string[], options: DumpOptions): Promise<number> {
  if (options.after !== undefined) {
    await dumpAfter(specs, options.after, options);
    return exitCodes.ok;
  }
  if (options.stage === undefined)
    throw new InputError(`dump needs --stage (${stages.join(', ')}) or --after`);
  const print = match(options.stage)
    .with('graph', () => dumpGraphs)
    .with('kernel', () => dumpKernels)
    .with('word', () => dumpWords)
    .with('cuda', () => dumpSource)
    .with('ptx', () => dumpPtx)
    .with('resources', () => dumpResources)
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
  const texts = [...models].flatMap((model) =>
    model instanceof SourceModel ? [printModule(scheduleModule(model.module, options.target))] : [],
  );
  console.log(texts.join('\n\n'));
}

/** What the passes up to the given one made of the models. */
async function dumpAfter(
  specs: readonly string[],
  after: (typeof dumpPasses)[number],
  options: DumpOptions,
): Promise<void> {
  if (after === 'coalesce') return dumpWords(specs, options);
  const target = targetOf(options.target);
  const tenants = await sourceTenants(specs, options);
  const modules = new Map<Model, Module>();
  for (const { model } of tenants) {
    if (!(model instanceof SourceModel) || modules.has(model)) continue;
    let items: readonly Item[] = [{ kind: 'module', module: model.lowered }];
    for (const name of [...model.passes, ...targetPasses, 'schedule'] as const) {
      if (dumpPasses.indexOf(name) <= dumpPasses.indexOf(after)) items = runPass({ name }, items, target);
    }
    const [item] = items;
    if (item?.kind === 'module') modules.set(model, item.module);
  }
  if (after !== 'plan-memory') {
    console.log([...modules.values()].map((m) => printModule(m)).join('\n\n'));
    return;
  }
  const linked = tenants.map(({ name, model }) => ({ name, module: modules.get(model)! }));
  console.log(printProgram(linkModules(linked, options.target)));
}

async function dumpWords(specs: readonly string[], options: DumpOptions): Promise<void> {
  console.log(printProgram(linkWithKernels(await sourceTenants(specs, options), options.target, options)));
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

/** What the compiled code of every distinct word takes of a multiprocessor, and how many of its blocks one holds. */
async function dumpResources(specs: readonly string[], options: DumpOptions): Promise<void> {
  const target = targetOf(options.target);
  if (target.kind !== 'cuda')
    throw new InputError('--stage resources needs a CUDA target, such as --target sm_90');
  const tenants = await sourceTenants(specs, options);
  const { words } = link(tenants, options.target, options);
  const { code } = await prepareCode(words, tenants, options.target, new CodeCache());
  const ready = new Map(code.map((c) => [c.key, c]));
  const rows: (string | number)[][] = [];
  for (const key of distinctCodes(words).keys()) {
    const mine = ready.get(key)!;
    const r = await resourcesOf(mine);
    const held = blocksPerUnit(r, target);
    rows.push([mine.entry, r.threads, r.registers, r.sharedBytes, r.localBytes, held]);
  }
  const head = ['code', 'threads', 'registers', 'shared bytes', 'local bytes', 'blocks a multiprocessor'];
  console.log(table([head, ...rows]));
}

async function wordSources(specs: readonly string[], options: DumpOptions) {
  const tenants = await sourceTenants(specs, options);
  const { words } = link(tenants, options.target, options);
  const models = tenants.map((t) => t.model);
  return [...distinctCodes(words).values()].map((word) =>
    emitWord(classesOf(word, models, options.target), targetOf(options.target)),
  );
}
