/**
 * @file The promise of the same bits: what a tenant gets does not depend on who else is in its words, how wide they are, of how many
 * classes, how many blocks its slots have, how they are cut into slices, in which order words come that tenants leave open, or on the tier. Bitwise, in every way there is to run a program.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lowerOnnx } from '../compiler/index.ts';
import { type Precision, SourceModel } from '../driver/model.ts';
import { linkWithKernels } from '../driver/plan.ts';
import { type Item, itemProblems } from '../ir/item.ts';
import type { Kernel, MmaSchedule, Schedule, WiderSchedule } from '../ir/kernel.ts';
import { isChain, type Program, type Word } from '../ir/program.ts';
import { randomInput } from '../ir/random.ts';
import { type Target, targetOf } from '../ir/target.ts';
import { bytesOf, type Tensor } from '../ir/tensor.ts';
import type { TensorType } from '../ir/types.ts';
import { beside } from '../passes/beside.ts';
import { coalesce, type TierChoice } from '../passes/coalesce.ts';
import { parsePasses, runPass } from '../passes/index.ts';
import { linkModules } from '../passes/link.ts';
import { scheduleKernel } from '../passes/schedule.ts';
import {
  attentionKernel,
  convKernel,
  depthwiseKernel,
  gatherKernel,
  matmulKernel,
  momentsKernel,
  softmaxKernel,
} from './codegen/kernels.ts';
import { convModel, mlpModel } from './support/models.ts';
import { moduleOf } from './support/run_kernel.ts';
import { emulatedWay, titled, type Way, type WayKind, wayKinds } from './support/ways.ts';

/** Something that tenants run: a program of the given ones. */
type Subject = (tenants: readonly number[], target: Target, tier: TierChoice) => Program;

const tenantName = (t: number): string => `tenant ${t}`;

/** Each tenant a kernel, scheduled for the target or as given. */
const kernels =
  (kernelOf: (t: number) => Kernel, schedule?: Schedule, wider?: readonly WiderSchedule[]): Subject =>
  (tenants, target, tier) => {
    const linked = linkModules(
      tenants.map((t) => {
        const scheduled = scheduleKernel(kernelOf(t), target);
        const { wider: _, ...unlike } = scheduled;
        const forced = { ...unlike, schedule: schedule!, ...(wider && { wider }) };
        const kernel = schedule && target.kind === 'cuda' ? forced : scheduled;
        return { name: tenantName(t), module: moduleOf(kernel) };
      }),
      target.name,
    );
    return { ...linked, words: coalesce(linked.tenants, tier) };
  };

/** Each tenant a model with weights of its own. */
const models = (modelOf: (seed: number) => Uint8Array, precision: Precision): Subject => {
  const known = new Map<number, SourceModel>();
  const model = (t: number): SourceModel => {
    let made = known.get(t);
    if (!made) {
      const options = { name: `model ${t}`, precision, shapes: {} };
      known.set(t, (made = new SourceModel(lowerOnnx(modelOf(t + 1), options), precision)));
    }
    return made;
  };
  return (tenants, target, tier) =>
    linkWithKernels(
      tenants.map((t) => ({ name: tenantName(t), model: model(t) })),
      target.name,
      { tier },
    );
};

const mma = (
  m: number,
  n: number,
  k: number,
  warps: number,
  stages: number,
  segments: number,
  splits = 1,
): MmaSchedule => ({
  skeleton: 'mma',
  instruction: 'mma',
  threads: 32 * warps * segments,
  tile: { m, n, k },
  warps: { m: 1, n: warps },
  stages,
  segments,
  splits,
});

const subjects: { readonly [name: string]: Subject } = {
  'a map of gathered rows': kernels(() => gatherKernel(12, 40, 33)),
  'a depthwise convolution by vectors, of two sizes': kernels(
    (t) =>
      depthwiseKernel({
        channels: 24,
        size: [12 + (t % 2), 11],
        kernel: [3, 3],
        pad: 1,
        channelsLast: true,
        dtype: 'f16',
      }),
    { skeleton: 'map', threads: 64, perThread: 1, vector: 8 },
  ),
  'a reduction by warps': kernels(() => softmaxKernel(20, 70)),
  'a reduction by blocks': kernels(() => momentsKernel(3, 3000)),
  'a convolution in fp32, of two sizes': kernels((t) =>
    convKernel({
      channels: 9,
      outChannels: 33,
      size: [12 + (t % 2), 11],
      kernel: [3, 3],
      pad: 1,
      residual: true,
    }),
  ),
  'a matrix product in fp32 by tiles in 3 stages, of two sizes': kernels(
    (t) => matmulKernel(1, t % 2 ? 36 : 44, 72, t % 2 ? 60 : 92),
    {
      skeleton: 'contraction',
      threads: 64,
      tile: { m: 64, n: 32, k: 8 },
      perThread: { m: 8, n: 4 },
      stages: 3,
    },
  ),
  'a convolution on tensor cores, of two sizes': kernels((t) =>
    convKernel({
      channels: 24,
      outChannels: 72,
      size: [9 + 2 * (t % 2), 9],
      kernel: [3, 3],
      pad: 1,
      dtype: 'f16',
    }),
  ),
  'a matrix product in 4 segments of k': kernels(
    () => matmulKernel(1, 40, 48, 300, true, 'f16'),
    mma(16, 16, 32, 1, 2, 4),
  ),
  'a matrix product of one row, each tile shared by 4 blocks': kernels(
    () => matmulKernel(1, 1, 72, 520, true, 'f16'),
    mma(32, 16, 32, 1, 3, 1, 4),
  ),
  'a convolution of two sizes, each tile shared by 4 blocks of 2 segments': kernels(
    (t) =>
      convKernel({
        channels: 24,
        outChannels: 40,
        size: [7 + 2 * (t % 2), 7],
        kernel: [3, 3],
        pad: 1,
        residual: true,
        channelsInner: true,
        channelsLast: true,
        dtype: 'f16',
      }),
    mma(32, 48, 16, 1, 3, 2, 4),
  ),
  'a convolution of two sizes, under five schedules by the width of the word and its company': kernels(
    (t) =>
      convKernel({
        channels: 24,
        outChannels: 40,
        size: [7 + 2 * (t % 2), 7],
        kernel: [3, 3],
        pad: 1,
        channelsInner: true,
        channelsLast: true,
        dtype: 'f16',
      }),
    mma(16, 16, 16, 1, 2, 1, 4),
    [
      { from: 1, schedule: mma(32, 16, 32, 1, 2, 2, 2) },
      { from: 2, schedule: mma(16, 48, 32, 1, 3, 2, 2) },
      { from: 3, schedule: mma(32, 32, 64, 2, 2, 1, 4) },
      { from: 8, schedule: mma(48, 32, 32, 1, 2, 4) },
    ],
  ),
  'attention in fp16, of two sizes': kernels((t) =>
    attentionKernel({ heads: 2, queries: 33 + 8 * (t % 2), keys: 80, features: 16, mask: true }),
  ),
  'kernels of unlike classes': kernels((t) =>
    [
      () => softmaxKernel(20, 70),
      () => convKernel({ channels: 9, outChannels: 33, size: [12, 11], kernel: [3, 3], pad: 1 }),
      () => matmulKernel(1, 40, 48, 300, true, 'f16'),
    ][t % 3]!(),
  ),
  'networks of unlike kernels': models(
    (seed) => (seed % 2 ? mlpModel([40, 264, 24], seed) : convModel(seed)),
    'fp32',
  ),
  'a network of matrices': models((seed) => mlpModel([40, 64, 24], seed), 'fp32'),
  'a network of convolutions in fp16': models(convModel, 'fp16'),
};

interface Variant {
  readonly width: number;
  readonly tier: TierChoice;
  readonly passes: string;
  /** Words as branches. */
  readonly branches?: true;
  /** Words of one slot, each as it runs beside others. */
  readonly company?: true;
}
const wholeWords = (width: number, tier: TierChoice = 'generic'): Variant => ({ width, tier, passes: '' });

/** The others of a variant are the tenants before it. */
const variants: readonly Variant[] = [
  ...[2, 3, 8, 17].map((width) => wholeWords(width)),
  wholeWords(3, 'specialised'),
  wholeWords(8, 'auto'),
  ...['constrain=1', 'constrain=2', 'constrain=7', 'slice=1', 'slice=3', 'constrain=2,slice=5'].map(
    (passes): Variant => ({ width: 3, tier: 'generic', passes }),
  ),
  { width: 2, tier: 'specialised', passes: 'constrain=3,slice=4' },
  { width: 3, tier: 'generic', passes: 'pack' },
  { width: 8, tier: 'auto', passes: 'pack=auto' },
  { width: 3, tier: 'specialised', passes: 'pack=specialised,constrain=2,slice=5' },
  { width: 8, tier: 'generic', passes: '', branches: true },
  { width: 3, tier: 'specialised', passes: 'constrain=2,slice=3', branches: true },
  { width: 3, tier: 'generic', passes: 'constrain=3', branches: true, company: true },
];
const widest = Math.max(...variants.map((v) => v.width));
const tenantsOf = (width: number): number[] => Array.from({ length: width }, (_, t) => t);

function programOf(
  subject: Subject,
  { width, tier, passes, branches, company }: Variant,
  target: string,
): Program {
  const together = subject(tenantsOf(width), targetOf(target), tier);
  const program = company
    ? { ...together, words: beside(together.tenants, coalesce(together.tenants, tier, 1)) }
    : together;
  const [item] = parsePasses(passes).reduce<Item[]>(
    (items, step) => runPass(step, items, targetOf(target)),
    [{ kind: 'program', program }],
  );
  const whole = (item as Extract<Item, { kind: 'program' }>).program;
  const made: Program = branches ? { ...whole, words: lastFirst(whole.words), order: 'branches' } : whole;
  expect(itemProblems({ kind: 'program', program: made })).toEqual([]);
  return made;
}

/** Words in the order in which branches may come to run that is farthest from a chain: of those that can run always the last. */
function lastFirst(words: readonly Word[]): Word[] {
  const left = [...words];
  const tenants = new Map(words.map((w) => [w, new Set(w.slots.map((s) => s.tenant))]));
  const waits = (word: Word, n: number): boolean =>
    left.slice(0, n).some((before) => word.slots.some((s) => tenants.get(before)!.has(s.tenant)));
  return words.map(() => {
    const next = left.findLastIndex((word, n) => !waits(word, n));
    return left.splice(next, 1)[0]!;
  });
}

/** Floats of all sizes, so that sums in another order would show. */
function input(type: TensorType, t: number, n: number): Tensor {
  return randomInput(type, 1000 * t + n);
}

async function run(way: Way, program: Program): Promise<Map<string, string>> {
  const inputs = new Map(
    program.tenants.map(({ name, model }) => {
      const t = Number(name.split(' ')[1]);
      return [name, new Map(model.inputs.map((port, n) => [port.name, input(port, t, n)]))];
    }),
  );
  const outputs = await way.run(program, inputs);
  return new Map(
    [...outputs].map(([tenant, tensors]) => [
      tenant,
      [...tensors].map(([name, tensor]) => `${name} ${Buffer.from(bytesOf(tensor)).toString('hex')}`).join(),
    ]),
  );
}

function suite(kind: WayKind): void {
  let way: Way;
  const programs = new Map<string, { readonly alone: Program[]; readonly together: Program[] }>();
  beforeAll(async () => {
    way = kind.open();
    for (const [name, subject] of Object.entries(subjects)) {
      const together = variants.map((v) => programOf(subject, v, way.target));
      const alone = tenantsOf(widest).map((t) => subject([t], targetOf(way.target), 'generic'));
      programs.set(name, { alone, together });
    }
    await way.prepare([...programs.values()].flatMap((p) => [...p.together, ...p.alone]));
  }, 600_000);
  afterAll(() => way?.close());

  for (const name of Object.keys(subjects)) {
    it(name, async () => {
      const { alone, together } = programs.get(name)!;
      const expected = new Map<string, string>();
      for (const program of alone) for (const [t, bits] of await run(way, program)) expected.set(t, bits);
      // Inputs differ, so do results: else tenants that are mixed up would not show.
      expect(new Set(expected.values()).size).toBe(widest);
      // Words of unlike classes are among what is tried where there are unlike kernels.
      if (name.includes('unlike'))
        expect(together.filter((p) => p.words.some((w) => w.classes.length > 1))).toHaveLength(3);
      if (name === 'networks of unlike kernels')
        expect(together.filter((p) => p.order === 'branches' && !isChain(p.words))).toHaveLength(3);
      for (const [n, program] of together.entries()) {
        for (const [t, bits] of await run(way, program))
          expect(bits === expected.get(t), `${t} in ${JSON.stringify(variants[n])}`).toBe(true);
      }
    }, 600_000);
  }
}

const { host, cuda } = wayKinds();
describe('the same bits on the host', () => suite(host));
describe('the same bits as emulated CUDA', () => suite({ name: 'emulated', open: () => emulatedWay() }));
describe.skipIf(cuda.problem)(titled('the same bits on the GPU', cuda), () => suite(cuda));
