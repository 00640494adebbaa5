/**
 * @file Kernels with schedules by the width of the word, as programs, artefacts and the engine run them: the same bits at every width, and
 * no more code than the words need. On the host, where schedules of contractions give the same bits whatever their tiles.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type SourceModel, scheduleModule } from '../../driver/model.ts';
import {
  compileModel,
  type Device,
  loadArtefact,
  type Model,
  openDevice,
  saveArtefact,
} from '../../index.ts';
import type { ContractionSchedule, WiderSchedule } from '../../ir/kernel.ts';
import { variantFor } from '../../ir/program.ts';
import { bytesOf } from '../../ir/tensor.ts';
import { compileModule } from '../../passes/link.ts';
import { mlpModel } from '../support/models.ts';
import { randomTensor } from '../support/random.ts';

const tile = (m: number, n: number): ContractionSchedule => ({
  skeleton: 'contraction',
  threads: 1,
  tile: { m, n, k: 32 },
  perThread: { m, n },
  stages: 1,
});
const wider: readonly WiderSchedule[] = [
  { from: 1, schedule: tile(64, 4) },
  { from: 2, schedule: tile(32, 1) },
  { from: 3, schedule: tile(32, 4) },
  { from: 8, schedule: tile(64, 8) },
];

/** A model whose kernels have a schedule for each of some widths, as tensor cores' have. */
async function modelOf(seed: number, sizes = [40, 70, 24]): Promise<Model> {
  const source = (await compileModel(mlpModel(sizes, seed), { name: `mlp${seed}` })) as SourceModel;
  const module = scheduleModule(source.module, 'host');
  const { model, classes } = compileModule(
    { ...module, calls: module.calls.map((c) => ({ ...c, kernel: { ...c.kernel, wider } })) },
    'host',
  );
  return {
    name: source.name,
    precision: source.precision,
    inputs: source.inputs,
    outputs: source.outputs,
    kernelsLowered: source.kernelsLowered,
    isCompiled: false,
    compiledFor: () => model,
    classOf: (_, key) => classes.get(key),
    codeOf: () => undefined,
    fusedCodes: () => [],
  };
}

describe('schedules by the width of the word', () => {
  const widest = 9;
  const dir = mkdtempSync(join(tmpdir(), 'wideword-widths-'));
  let device: Device;
  let tenants: { readonly name: string; readonly model: Model }[];
  const x = (t: number) => ({ x: randomTensor('f32', [1, 40], t) });
  const alone: string[] = [];
  const bitsOf = (y: Parameters<typeof bytesOf>[0]): string => Buffer.from(bytesOf(y)).toString('hex');

  beforeAll(async () => {
    device = await openDevice('host', { threads: 2, cacheDir: dir });
    tenants = await Promise.all(
      Array.from({ length: widest }, async (_, n) => ({ name: `t${n}`, model: await modelOf(n + 1) })),
    );
    for (const [t, tenant] of tenants.entries()) {
      const program = await device.load([tenant]);
      const { outputs } = await program.run({ [tenant.name]: x(t) });
      alone.push(bitsOf(outputs[tenant.name]!.y!));
      program.close();
    }
  }, 300_000);
  afterAll(() => {
    device.close();
    rmSync(dir, { recursive: true });
  });

  /** Runs the first tenants together and expects the bits of each alone. */
  async function check(count: number, given = tenants, options = {}): Promise<void> {
    const program = await device.load(given.slice(0, count), options);
    try {
      const requests = Object.fromEntries(given.slice(0, count).map(({ name }, t) => [name, x(t)]));
      const { outputs } = await program.run(requests);
      for (let t = 0; t < count; t++) expect(bitsOf(outputs[`t${t}`]!.y!)).toBe(alone[t]);
      for (const word of program.plan.words)
        for (const slot of word.slots) {
          const task = program.plan.tenants[slot.tenant]!.model.tasks[slot.task]!;
          const variant = variantFor(task, word.slots.length, program.plan.order === 'branches');
          expect(word.classes[slot.body]).toBe(variant.classes[word.tier]);
        }
      const { compiled, cached, shipped } = program.stats;
      const codes = new Set(program.plan.words.map((w) => w.classes.join()));
      expect(compiled + cached + shipped).toBe(codes.size);
    } finally {
      program.close();
    }
  }

  for (const count of [1, 2, 3, 8, 9])
    it(`give the bits of each tenant alone in words of ${count}`, async () => {
      await check(count);
      await check(count, tenants, { tier: 'auto' });
      await check(count, tenants, { words: 'wide' });
    }, 120_000);

  it('run in branches as one does beside others, but for a chain that is long beside all others', async () => {
    const others = await Promise.all(
      [500, 30, 31, 32, 33].map(async (width) => ({
        name: `w${width}`,
        model: await modelOf(1, [40, width, 24]),
      })),
    );
    const all = [tenants[0]!, ...others];
    const requests = Object.fromEntries(all.map(({ name }) => [name, x(0)]));
    const load = (words: 'coalesced' | 'branches') => device.load(all, { tier: 'specialised', words });
    const [chain, branches] = [await load('coalesced'), await load('branches')];
    const [a, b] = [await chain.run(requests), await branches.run(requests)];
    expect(bitsOf(a.outputs.t0!.y!)).toBe(alone[0]);
    for (const { name } of all) expect(bitsOf(b.outputs[name]!.y!)).toBe(bitsOf(a.outputs[name]!.y!));
    for (const { order, words, tenants: linked } of [chain.plan, branches.plan])
      for (const { classes, slots } of words) {
        const { name, model } = linked[slots[0]!.tenant]!;
        const task = model.tasks[slots[0]!.task]!;
        const variant = variantFor(task, 1, order === 'branches' && name !== 'w500');
        expect(classes).toEqual([variant.classes.specialised]);
      }
    chain.close();
    branches.close();
  });

  it('run in turn as each tenant runs by itself', async () => {
    const program = await device.load(tenants.slice(0, 3));
    program.setInputs(Object.fromEntries(tenants.slice(0, 3).map(({ name }, t) => [name, x(t)])));
    expect(await program.time('time-multiplexed', 2)).toHaveLength(2);
    const outputs = program.readOutputs();
    for (let t = 0; t < 3; t++) expect(bitsOf(outputs[`t${t}`]!.y!)).toBe(alone[t]);
    program.close();
  });

  it('are in an artefact for every width that it may be loaded at', async () => {
    const path = join(dir, 'a.wwa');
    await saveArtefact(path, tenants, { targets: ['host'], cacheDir: dir });
    const artefact = await loadArtefact(path);
    for (const count of [1, 2, 3, 9]) await check(count, [...artefact.tenants]);
    const engine = await device.serve(artefact.tenants, { jit: false });
    expect(bitsOf((await engine.submit('t1', x(1))).y!)).toBe(alone[1]);
    engine.close();
  });

  it('are chosen by the engine for as many slots as its words have', async () => {
    const engine = await device.serve(tenants, {
      rounds: false,
      stretch: 100,
      boundMilliseconds: 1000,
      jit: false,
    });
    for (const count of [1, 2, 3, 9])
      for (let again = 0; again < 3; again++) {
        const given = tenants.slice(0, count);
        const results = await Promise.all(given.map(({ name }, t) => engine.submit(name, x(t))));
        results.forEach((outputs, t) => void expect(bitsOf(outputs.y!)).toBe(alone[t]));
      }
    engine.close();
  });
});
