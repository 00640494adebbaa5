/**
 * @file Wide words: kernels of unlike classes, with other threads and shared memory each, as slots of one launch. Every tenant gets the
 * bits that its kernel gives alone.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { emitWord } from '../../codegen/word.ts';
import type { Tier } from '../../ir/class.ts';
import { itemProblems } from '../../ir/item.ts';
import type { Kernel, Schedule } from '../../ir/kernel.ts';
import type { Program } from '../../ir/program.ts';
import { randomInput } from '../../ir/random.ts';
import { targetOf } from '../../ir/target.ts';
import { bytesOf } from '../../ir/tensor.ts';
import { constrain } from '../../passes/constrain.ts';
import { linkModules } from '../../passes/link.ts';
import { scheduleKernel } from '../../passes/schedule.ts';
import { moduleOf } from '../support/run_kernel.ts';
import { emulatedWay, titled, type Way, type WayKind, wayKinds } from '../support/ways.ts';
import { attentionKernel, convKernel, depthwiseKernel, matmulKernel, softmaxKernel } from './kernels.ts';

/** Kernels of every skeleton; on a GPU with 32 to 256 threads a block. */
function kernelsFor(targetName: string): Kernel[] {
  const target = targetOf(targetName);
  const plain = (kernel: Kernel): Kernel => scheduleKernel(kernel, target);
  const given = (kernel: Kernel, schedule: Schedule): Kernel =>
    target.kind === 'cuda' ? { ...kernel, schedule } : plain(kernel);
  const depthwise = { channels: 24, size: [12, 11], kernel: [3, 3], pad: 1, channelsLast: true } as const;
  return [
    plain(softmaxKernel(20, 70)),
    given(depthwiseKernel({ ...depthwise, dtype: 'f16' }), {
      skeleton: 'map',
      threads: 64,
      perThread: 1,
      vector: 8,
    }),
    plain(convKernel({ channels: 9, outChannels: 33, size: [12, 11], kernel: [3, 3], pad: 1 })),
    given(matmulKernel(1, 40, 48, 300, true, 'f16'), {
      skeleton: 'mma',
      instruction: 'mma',
      threads: 128,
      tile: { m: 16, n: 16, k: 32 },
      warps: { m: 1, n: 1 },
      stages: 2,
      segments: 4,
      splits: 1,
    }),
    plain(attentionKernel({ heads: 2, queries: 33, keys: 80, features: 16, mask: true })),
    plain(convKernel({ channels: 24, outChannels: 72, size: [9, 9], kernel: [3, 3], pad: 1, dtype: 'f16' })),
  ];
}

const tenantName = (t: number): string => `tenant ${t}`;

const link = (kernels: readonly Kernel[], first: number, target: string): Program =>
  linkModules(
    kernels.map((kernel, n) => ({ name: tenantName(first + n), module: moduleOf(kernel) })),
    target,
  );

/** All tenants' kernels in one word. */
function wide(kernels: readonly Kernel[], target: string, tier: Tier, blocks: number): Program {
  const program = link(kernels, 0, target);
  const tasks = program.tenants.map(({ model }) => model.tasks[0]!);
  const classes = [...new Set(tasks.map((t) => t.classes[tier]))];
  const slots = tasks.map((task, tenant) => ({
    tenant,
    task: 0,
    body: classes.indexOf(task.classes[tier]),
    blocks: task.blocks,
  }));
  return { ...program, words: constrain([{ tier, classes, slots }], blocks) };
}

async function bitsOf(way: Way, program: Program): Promise<Map<string, string>> {
  const inputs = new Map(
    program.tenants.map(({ name, model }) => {
      const t = Number(name.split(' ')[1]);
      return [name, new Map(model.inputs.map((port, n) => [port.name, randomInput(port, 100 * t + n)]))];
    }),
  );
  const outputs = await way.run(program, inputs);
  return new Map(
    [...outputs].map(([name, tensors]) => [
      name,
      [...tensors.values()].map((t) => Buffer.from(bytesOf(t)).toString('hex')).join(),
    ]),
  );
}

function suite(kind: WayKind): void {
  let way: Way;
  let alone: Program[] = [];
  const together = new Map<string, Program>();
  beforeAll(async () => {
    way = kind.open();
    // Each kernel twice, for two tenants.
    const kernels = kernelsFor(way.target).flatMap((k) => [k, k]);
    alone = kernels.map((kernel, n) => link([kernel], n, way.target));
    for (const [tier, blocks] of [
      ['generic', 1e6],
      ['generic', 2],
      ['specialised', 3],
    ] as const)
      together.set(`${tier}, at most ${blocks} blocks`, wide(kernels, way.target, tier, blocks));
    await way.prepare([...alone, ...together.values()]);
  }, 600_000);
  afterAll(() => way?.close());

  it('gives each tenant the bits of its kernel alone', async () => {
    const expected = new Map<string, string>();
    for (const program of alone) for (const [t, bits] of await bitsOf(way, program)) expected.set(t, bits);
    expect(new Set(expected.values()).size).toBe(alone.length);
    for (const [name, program] of together) {
      expect(itemProblems({ kind: 'program', program })).toEqual([]);
      expect(program.words[0]!.classes.length).toBeGreaterThanOrEqual(way.target === 'host' ? 5 : 6);
      for (const [t, bits] of await bitsOf(way, program))
        expect(bits === expected.get(t), `${t}, ${name}`).toBe(true);
    }
  }, 600_000);
}

const { host, cuda } = wayKinds();
describe('wide words on the host', () => suite(host));
for (const watch of ['memory', 'races'] as const)
  describe(`wide words as emulated CUDA, ${watch}`, () =>
    suite({ name: 'emulated', open: () => emulatedWay(watch) }));
describe.skipIf(cuda.problem)(titled('wide words on the GPU', cuda), () => suite(cuda));

it('the text of a wide word lets threads leave that a body has no work for, and shares memory among bodies', () => {
  const { classes, words } = wide(kernelsFor('sm_90'), 'sm_90', 'generic', 1e6);
  const { source, threads, sharedBytes } = emitWord(
    words[0]!.classes.map((key) => classes.get(key)!),
    targetOf('sm_90'),
  );
  // The most that one of them has; the map has 64.
  expect(threads).toBe(Math.max(...kernelsFor('sm_90').map((k) => k.schedule!.threads)));
  expect(threads).toBeGreaterThan(64);
  expect(source).toContain('if (threadIdx.x >= 64) return;');
  expect(source).not.toMatch(/__shared__ Shared/);
  const alone = words[0]!.classes.map((key) => emitWord([classes.get(key)!], targetOf('sm_90')).sharedBytes);
  expect(sharedBytes).toBe(Math.max(...alone));
});
