/**
 * @file What the tuner may choose from: lawful, distinct, the default first; and every kind of schedule that no default has computes
 * what the interpreter does.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buffer, load, op } from '../../ir/build.ts';
import { interpretKernel } from '../../ir/interpret.ts';
import { type Kernel, kernelVariants, type Schedule } from '../../ir/kernel.ts';
import { parseSchedules } from '../../ir/parse/index.ts';
import { formatSchedule } from '../../ir/print.ts';
import { targetOf } from '../../ir/target.ts';
import type { Tensor } from '../../ir/tensor.ts';
import { verifyKernel } from '../../ir/verify.ts';
import { scheduleCandidates, scores } from '../../passes/candidates.ts';
import { scheduleKernel } from '../../passes/schedule.ts';
import { convKernel, gatherKernel, matmulKernel, momentsKernel, softmaxKernel } from '../codegen/kernels.ts';
import { randomTensor, relativeError } from '../support/random.ts';
import { oneWord, runWord } from '../support/run_kernel.ts';
import { titled, type Way, type WayKind, wayKinds } from '../support/ways.ts';

const conv = { channels: 16, outChannels: 20, size: [13, 11], kernel: [3, 3], pad: 1 } as const;
const kernels: Record<string, Kernel> = {
  'conv f32': convKernel({ ...conv, residual: true }),
  'conv f16': convKernel({ ...conv, dtype: 'f16', channelsInner: true, channelsLast: true }),
  'matmul f32': matmulKernel(2, 40, 33, 50),
  'row by matrix f32': matmulKernel(1, 1, 100, 264, true),
  'row by matrix f16': matmulKernel(1, 1, 100, 264, true, 'f16'),
  softmax: softmaxKernel(5, 300),
  moments: momentsKernel(6, 70),
  gather: gatherKernel(9, 7, 40),
};

describe('candidates', () => {
  for (const [name, kernel] of Object.entries(kernels))
    for (const target of ['host', 'sm_80', 'sm_90'].map(targetOf))
      it(`of ${name} for ${target.name} are lawful, distinct, few, and begin with the default`, () => {
        const found = scheduleCandidates(kernel, target, [1, 16]);
        expect(found[0]).toEqual(scheduleKernel(kernel, target).schedule);
        expect(found.length).toBeLessThanOrEqual(found[0]!.skeleton === 'mma' ? 24 : 12);
        expect(found.length).toBeGreaterThan(name === 'gather' ? 0 : 1);
        expect(new Set(found.map(formatSchedule)).size).toBe(found.length);
        for (const schedule of found) {
          expect(verifyKernel({ ...kernel, schedule }, target)).toEqual([]);
          expect(parseSchedules(formatSchedule(schedule))).toEqual({ schedule });
        }
      });

  it('on tensor cores are other tiles for many tenants than for one', () => {
    const shape = {
      channels: 256,
      outChannels: 256,
      size: [28, 28],
      channelsInner: true,
      channelsLast: true,
    } as const;
    const wide = convKernel({ ...conv, ...shape, dtype: 'f16' });
    const defaults = kernelVariants(scheduleKernel(wide, targetOf('sm_90'))).length;
    const best = (width: number): string =>
      formatSchedule(scheduleCandidates(wide, targetOf('sm_90'), [width])[defaults]!);
    expect(best(1)).not.toBe(best(64));
  });

  it('share tiles among blocks where tiles are few and sums long, and only there', () => {
    const target = targetOf('sm_90');
    const splitsOf = (channels: number, size: number, dtype: 'f16' | 'f32' = 'f16'): number[] => {
      const layer = { channels, outChannels: channels, size: [size, size], kernel: [3, 3], pad: 1 } as const;
      const kernel = convKernel({ ...layer, dtype, channelsInner: true, channelsLast: true });
      return scheduleCandidates(kernel, target).map((s) => (s.skeleton === 'mma' ? s.splits : 1));
    };
    const few = splitsOf(512, 7);
    expect(Math.max(...few)).toBeGreaterThan(1);
    expect(new Set(few).size).toBeGreaterThan(1);
    for (const splits of [splitsOf(64, 56), splitsOf(16, 7), splitsOf(512, 7, 'f32')])
      expect(new Set(splits)).toEqual(new Set([1]));
  });

  it('share no tiles of a kernel that has no operands to spare', () => {
    const plain = matmulKernel(1, 16, 64, 4096, true, 'f16');
    const [stored] = plain.stores;
    // With 15 operands a row has no room for two of scratch memory.
    const more = Array.from({ length: 12 }, (_, n) => buffer(`e${n}`, 'f16', [64]));
    const column = stored!.at.at(-1)!;
    const value = more.reduce((sum, b) => op('add', sum, load(b, [column])), stored!.value);
    const kernel = { ...plain, inputs: [...plain.inputs, ...more], stores: [{ ...stored!, value }] };
    const splits = (k: Kernel): number[] =>
      scheduleCandidates(k, targetOf('sm_90')).map((s) => (s.skeleton === 'mma' ? s.splits : 0));
    expect(Math.max(...splits(plain))).toBeGreaterThan(1);
    expect(new Set(splits(kernel))).toEqual(new Set([1]));
  });

  it('are compared by the sum of their times relative to the best of each width', () => {
    expect(
      scores([
        [1, 40],
        [2, 20],
        [1, 20],
      ]),
    ).toEqual([3, 3, 2]);
  });
});

const { host, emulated } = wayKinds();
const cases = [
  { way: host, names: ['conv f32', 'row by matrix f32', 'moments'] },
  { way: emulated, names: ['matmul f32', 'softmax', 'moments'] },
];
for (const { way: kind, names } of cases)
  describe.skipIf(kind.problem !== undefined)(titled(`candidates, ${kind.name}`, kind as WayKind), () => {
    let way: Way;
    const programs = new Map<Schedule, ReturnType<typeof oneWord>>();
    const all = new Map<string, Kernel[]>();
    beforeAll(async () => {
      way = kind.open();
      for (const name of names) {
        const schedules = scheduleCandidates(kernels[name]!, targetOf(way.target));
        all.set(
          name,
          schedules.map((schedule) => ({ ...kernels[name]!, schedule })),
        );
      }
      for (const kernel of [...all.values()].flat())
        programs.set(kernel.schedule!, oneWord([kernel], way.target, { tier: 'specialised' }));
      await way.prepare([...programs.values()]);
    });
    afterAll(() => way?.close());

    for (const name of names)
      it(`${name}: all give what the interpreter gives`, async () => {
        const inputs = kernels[name]!.inputs.map((b, n) => randomTensor(b.dtype, b.shape, n + 1));
        const expected: Tensor[] = interpretKernel(kernels[name]!, inputs);
        for (const kernel of all.get(name)!) {
          const [outputs] = await runWord(way, programs.get(kernel.schedule!)!, [kernel], [inputs]);
          outputs!.forEach((y, n) =>
            expect(relativeError(y, expected[n]!), formatSchedule(kernel.schedule!)).toBeLessThan(1e-5),
          );
        }
      });
  });
