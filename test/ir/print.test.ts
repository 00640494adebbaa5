/**
 * @file The text of kernels, and classes as texts without names and sizes.
 */
import { describe, expect, it } from 'vitest';
import { classOf } from '../../ir/class.ts';
import { printKernel } from '../../ir/print.ts';
import { hostTarget, targetOf } from '../../ir/target.ts';
import { scheduleKernel } from '../../passes/schedule.ts';
import { convKernel, softmaxKernel } from '../codegen/kernels.ts';

it('prints a kernel', () => {
  expect(printKernel(softmaxKernel(4, 9))).toMatchInlineSnapshot(`
    "kernel @softmax(%x0: f32[4,9]) -> (%y0: f32[4,9])
        parallel (r: 4) {
      %1 = reduce max f32 over (j: 9) {
        %0 = load %x0[r, j] : f32
        yield %0
      }
      %5 = reduce sum f32 over (k: 9) {
        %2 = load %x0[r, k] : f32
        %3 = sub %2, %1 : f32
        %4 = exp %3 : f32
        yield %4
      }
      for (l: 9) {
        %6 = load %x0[r, l] : f32
        %7 = sub %6, %1 : f32
        %8 = exp %7 : f32
        %9 = div %8, %5 : f32
        store %y0[r, l] = %9
      }
    }"
  `);
});

describe('kernel classes', () => {
  const conv = (channels: number, kernel = 3) =>
    scheduleKernel(
      convKernel({ channels, outChannels: 64, size: [20, 20], kernel: [kernel, kernel], pad: 1 }),
      hostTarget,
    );

  it('kernels that differ in sizes only share the generic class, not the specialised one', () => {
    expect(classOf(conv(16), 'generic').key).toBe(classOf(conv(32), 'generic').key);
    expect(classOf(conv(16), 'specialised').key).not.toBe(classOf(conv(32), 'specialised').key);
    expect(classOf(conv(16), 'generic').sizes.values).not.toEqual(classOf(conv(32), 'generic').sizes.values);
  });

  it('names do not matter, windows and schedules do', () => {
    expect(classOf({ ...conv(16), name: 'other', loc: ['a'] }, 'generic').key).toBe(
      classOf(conv(16), 'generic').key,
    );
    expect(classOf(conv(16), 'generic').key).not.toBe(classOf(conv(16, 1), 'generic').key);
    const cuda = scheduleKernel(conv(16), targetOf('sm_90'));
    expect(classOf(cuda, 'generic').key).not.toBe(classOf(conv(16), 'generic').key);
  });

  it('how wide a tensor-core kernel may read is part of the class', () => {
    const tile = { m: 32, n: 32, k: 32 };
    const schedule = {
      skeleton: 'mma',
      instruction: 'mma',
      threads: 64,
      tile,
      warps: { m: 1, n: 1 },
      stages: 2,
      segments: 2,
      splits: 1,
    } as const;
    const half = (channels: number) => ({
      ...convKernel({ channels, outChannels: 64, size: [20, 20], kernel: [1, 1], dtype: 'f16' }),
      schedule,
    });
    const text = (channels: number) => classOf(half(channels), 'generic').text;
    expect(text(72)).toContain('mma(threads: 64, tile: 32x32x32, warps: 1x1, stages: 2, segments: 2)');
    expect(text(72)).toContain('b: k contiguous, vector 8');
    expect(text(72)).toBe(text(80));
    // Rows of 70 weights are aligned to four bytes only.
    expect(text(70)).toContain('b: k contiguous, vector 2');
    // Steps of 32 divide 96 channels, not 72.
    expect(text(96)).not.toBe(text(72));
  });

  it('a proof that holds for one size only is part of the class', () => {
    // Without padding every coordinate is proved inside; with it two are compared at run time.
    const padded = convKernel({ channels: 16, outChannels: 64, size: [20, 20], kernel: [3, 3], pad: 1 });
    expect(classOf(scheduleKernel(padded, hostTarget), 'generic').text).toContain('guard (2, 3)');
  });
});
