/**
 * @file Tuning on the host: what is measured is kept, is used by the next load and by artefacts, changes no result, and is never trusted
 * where it is damaged.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { codeOfClasses } from '../../driver/code.ts';
import { differenceOf, KernelTimer } from '../../driver/kernel_timer.ts';
import type { SourceModel } from '../../driver/model.ts';
import { type BadCandidate, withoutWrong } from '../../driver/tune.ts';
import { TuningTable, tuningKey } from '../../driver/tuning.ts';
import {
  compileModel,
  type Device,
  InputError,
  loadArtefact,
  type Model,
  openDevice,
  type Program,
  saveArtefact,
} from '../../index.ts';
import { classOf } from '../../ir/class.ts';
import { compare } from '../../ir/compare.ts';
import type { Schedule } from '../../ir/kernel.ts';
import { formatSchedule } from '../../ir/print.ts';
import { hostTarget } from '../../ir/target.ts';
import { bytesOf, tensorOf } from '../../ir/tensor.ts';
import { scheduleKernel } from '../../passes/schedule.ts';
import { CodeCache } from '../../runtime/cache.ts';
import { loadNative } from '../../runtime/native.ts';
import { hostToolchain } from '../../runtime/toolchain.ts';
import { matmulKernel } from '../codegen/kernels.ts';
import { mlpModel } from '../support/models.ts';
import { randomTensor } from '../support/random.ts';

let dir: string;
let device: Device;
let model: SourceModel;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'wideword-tune-'));
  device = await openDevice('host', { threads: 2, cacheDir: dir });
  model = (await compileModel(mlpModel([20, 33, 40]), { name: 'mlp' })) as SourceModel;
});
afterEach(() => {
  device.close();
  rmSync(dir, { recursive: true });
});

/** A schedule that is never the default. */
const other: Schedule = {
  skeleton: 'contraction',
  threads: 1,
  tile: { m: 32, n: 4, k: 32 },
  perThread: { m: 32, n: 4 },
  stages: 1,
};

/** Puts `schedule` in the table for every kernel of the model. */
async function tuneTo(schedule: string): Promise<string[]> {
  const table = new TuningTable(dir, 'host');
  const keys = model.laidOutFor('host').calls.map((c) => tuningKey(c.kernel));
  for (const key of keys)
    await table.put(key, {
      kernel: 'k',
      tier: 'generic',
      candidates: 1,
      before: 'map(threads: 1, per_thread: 1)',
      schedule,
      times: [],
    });
  return filesOf(dir);
}

const filesOf = (cache: string): string[] => {
  const root = join(cache, 'tuning');
  if (!existsSync(root)) return [];
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.json'))
    .map((name) => join(root, name));
};

/** Schedules of the kernels that a program runs. */
const schedulesOf = (program: Program): string[] =>
  program.plan.words.map((w) => formatSchedule(model.classOf('host', w.classes[0]!)!.kernel.schedule!));

const defaults = (): string[] =>
  model
    .laidOutFor('host')
    .calls.map(({ kernel }) => formatSchedule(scheduleKernel(kernel, hostTarget).schedule!));

const load = (count = 1, tuning = true): Promise<Program> =>
  device.load(
    Array.from({ length: count }, (_, n) => ({ name: `t${n}`, model })),
    { tuning },
  );

const x = (seed: number) => ({ x: randomTensor('f32', [1, 20], seed) });

describe('Device.tune', () => {
  it('measures every kernel once, keeps what it finds, and knows it the next time', async () => {
    const { kernels, total } = await device.tune([model, model], { widths: [3, 1] });
    expect(total).toBe(2);
    expect(kernels.map((k) => [k.kernel, k.calls, k.known])).toEqual([
      ['gemm_relu', 1, false],
      ['gemm', 1, false],
    ]);
    for (const k of kernels) {
      expect(k.bad).toEqual([]);
      expect(k.candidates).toBe(12);
      expect(k.times.map((t) => t.width)).toEqual([1, 3]);
      for (const t of k.times) expect(Math.min(t.before, t.after)).toBeGreaterThan(0);
      // Better over all the widths than the default, or the default itself.
      const gain = k.times.reduce((sum, t) => sum + t.after / t.before, 0);
      if (k.schedule === k.before) expect(gain).toBe(2);
      else expect(gain).toBeLessThan(2.5);
    }
    expect(kernels.map((k) => k.before)).toEqual(defaults());
    expect(filesOf(dir)).toHaveLength(2);
    expect(schedulesOf(await load())).toEqual(kernels.map((k) => k.schedule));
    expect(schedulesOf(await load(1, false))).toEqual(defaults());

    const again = await device.tune([model], { widths: [3] });
    expect(again.kernels.map((k) => [k.known, k.schedule])).toEqual(kernels.map((k) => [true, k.schedule]));
    const wider = await device.tune([model], { widths: [2], signal: AbortSignal.abort() });
    expect(wider).toEqual({ kernels: [], total: 2 });
  });

  it('measures the kernels that are asked for by name, or by a node of the model', async () => {
    const { kernels, total } = await device.tune([model], { widths: [1], kernels: ['gemm'], again: true });
    expect([kernels.map((k) => k.kernel), total]).toEqual([['gemm'], 1]);
    const loc = kernels[0]!.loc[0]!;
    const byNode = await device.tune([model], { widths: [1], kernels: [loc] });
    expect(byNode.kernels.map((k) => [k.kernel, k.known])).toEqual([['gemm', true]]);
    await expect(device.tune([model], { widths: [1], kernels: ['conv'] })).rejects.toThrow(
      "no kernel 'conv': gemm_relu, gemm",
    );
  });

  it('ends at the signal and keeps what it has', async () => {
    const stop = new AbortController();
    const { kernels, total } = await device.tune([model], {
      widths: [1],
      signal: stop.signal,
      onProgress: () => stop.abort(),
    });
    expect([kernels.length, total]).toEqual([1, 2]);
    expect(filesOf(dir)).toHaveLength(1);
  });

  it('refuses artefacts and widths that are none', async () => {
    const path = join(dir, 'a.wwa');
    await saveArtefact(path, [{ name: 'a', model }], { targets: ['host'], cacheDir: dir });
    const { tenants } = await loadArtefact(path);
    await expect(device.tune([tenants[0]!.model as Model])).rejects.toThrow(InputError);
    for (const widths of [[], [0], [1.5]])
      await expect(device.tune([model], { widths })).rejects.toThrow(/widths are positive integers/);
  });

  it('leaves out a candidate that computes something else, or nothing', async () => {
    const kernel = matmulKernel(1, 9, 17, 20);
    const twice = matmulKernel(1, 9, 17, 10);
    const native = loadNative().openHost(1);
    const candidate = async (of: typeof kernel) => {
      const { schedule } = scheduleKernel(of, hostTarget);
      const { path, symbol, launch } = await codeOfClasses(
        [classOf({ ...of, schedule: schedule! }, 'specialised')],
        'host',
        new CodeCache(dir),
        hostToolchain(),
      );
      return { schedule: schedule!, code: native.load(path, symbol), launch };
    };
    const timer = new KernelTimer(native, kernel, [false, true], 'specialised', 2);
    const [right, wrong] = [await candidate(kernel), await candidate(twice)];
    const bad: BadCandidate[] = [];
    expect(await withoutWrong(timer, [right, wrong, right], bad)).toEqual([right, right]);
    expect(bad.map((b) => b.problem)).toEqual([expect.stringMatching(/^its results differ .* by \S+$/)]);
    timer.close();
    native.close();
    const nothing = tensorOf('f32', [2], [Number.NaN, 1]);
    expect(differenceOf([nothing], [tensorOf('f32', [2], [1, 1])])).toBe(Number.POSITIVE_INFINITY);
    expect(differenceOf([nothing], [nothing])).toBeUndefined();
  });
});

describe('a tuned model', () => {
  it('gives the results of the default schedules, and the same bits alone and three in a word', async () => {
    const plain = await load(1, false);
    await tuneTo(formatSchedule(other));
    const [alone, wide] = [await load(1), await load(3)];
    expect(schedulesOf(wide)).toEqual([formatSchedule(other), formatSchedule(other)]);
    expect(wide.stats.widest).toBe(3);
    const together = await wide.run({ t0: x(1), t1: x(2), t2: x(3) });
    for (const n of [0, 1, 2]) {
      const { y } = (await alone.run({ t0: x(n + 1) })).outputs.t0!;
      expect(bytesOf(together.outputs[`t${n}`]!.y!)).toEqual(bytesOf(y!));
      const expected = (await plain.run({ t0: x(n + 1) })).outputs.t0!.y!;
      expect(compare(y!, expected, 1e-5).ok).toBe(true);
    }
  });

  it('is an artefact with its schedules, unless asked without', async () => {
    await tuneTo(formatSchedule(other));
    const path = join(dir, 'a.wwa');
    const codes = async (tuning: boolean): Promise<string[]> => {
      await saveArtefact(path, [{ name: 't0', model }], { targets: ['host'], cacheDir: dir, tuning });
      const { tenants } = await loadArtefact(path);
      const program = await device.load(tenants, { tuning: !tuning });
      expect(program.stats).toMatchObject({ compiled: 0, cached: 0 });
      return schedulesOf(program);
    };
    expect(await codes(true)).toEqual([formatSchedule(other), formatSchedule(other)]);
    expect(await codes(false)).toEqual(defaults());
  });
});

describe('the tuning table', () => {
  it('removes files that are damaged, of another format or hold no schedule, and the default is used', async () => {
    const damages: ((text: string) => string)[] = [
      (text) => text.slice(0, text.length / 2),
      () => '',
      () => 'null',
      (text) => text.replace('"format": 2', '"format": 99'),
      (text) => text.replace('contraction(', 'contradiction('),
      (text) => text.replace('contraction(threads: 1,', 'contraction('),
      (text) => text.replace(/"times": \[\]/, '"times": [{}]'),
    ];
    for (const damage of damages) {
      const files = await tuneTo(formatSchedule(other));
      for (const file of files) {
        const text = readFileSync(file, 'utf8');
        expect(damage(text)).not.toBe(text);
        writeFileSync(file, damage(text));
      }
      expect(schedulesOf(await load())).toEqual(defaults());
      expect(filesOf(dir)).toEqual([]);
    }
  });

  it('is not believed where the verifier refuses', async () => {
    await tuneTo(formatSchedule({ ...other, perThread: { m: 16, n: 4 } }));
    expect(schedulesOf(await load())).toEqual(defaults());
    await tuneTo('mma(threads: 32, tile: 16x16x32, warps: 1x1, stages: 2, segments: 1)');
    expect(schedulesOf(await load())).toEqual(defaults());
  });

  it('keeps devices apart; without one the newest counts', async () => {
    const { kernel } = model.laidOutFor('host').calls[0]!;
    const key = tuningKey(kernel);
    const entry = { kernel: 'k', tier: 'generic', candidates: 1, before: '', times: [] } as const;
    const tables = ['GPU/a', 'GPU:a'].map((name) => new TuningTable(dir, 'sm_90', name));
    const schedule = (threads: number): string => `map(threads: ${threads}, per_thread: 1)`;
    await tables[0]!.put(key, { ...entry, schedule: schedule(32) });
    await new Promise((resolve) => setTimeout(resolve, 5));
    await tables[1]!.put(key, { ...entry, schedule: schedule(64) });
    const found = (name?: string) => new TuningTable(dir, 'sm_90', name).find(key)?.schedule;
    expect(found('GPU/a')).toBe(schedule(32));
    expect(found('GPU:a')).toBe(schedule(64));
    expect(found()).toBe(schedule(64));
    expect(found('GPU')).toBeUndefined();
    expect(new TuningTable(dir, 'sm_80').find(key)).toBeUndefined();
  });

  it('goes by what a kernel computes, not by names and schedule', () => {
    const kernel = matmulKernel(1, 9, 17, 20);
    const renamed = { ...scheduleKernel(matmulKernel(1, 9, 17, 20), hostTarget), name: 'other' };
    expect(tuningKey(renamed)).toBe(tuningKey(kernel));
    expect(tuningKey(matmulKernel(1, 9, 17, 21))).not.toBe(tuningKey(kernel));
  });
});
