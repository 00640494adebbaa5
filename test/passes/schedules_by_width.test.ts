/**
 * @file Which schedule words of each width get: by estimate, and by what was measured.
 */
import { describe, expect, it } from 'vitest';
import { contractionOf } from '../../ir/contraction.ts';
import { kernelVariants, type MmaSchedule, type Schedules } from '../../ir/kernel.ts';
import { partsOf } from '../../ir/mma.ts';
import { targetOf } from '../../ir/target.ts';
import { verifyKernel } from '../../ir/verify.ts';
import { scheduleCandidates } from '../../passes/candidates.ts';
import { estimateMma } from '../../passes/mma_time.ts';
import { scheduleKernel } from '../../passes/schedule.ts';
import { chooseByTime, scheduleFor } from '../../passes/schedules_by_width.ts';
import { convKernel } from '../codegen/kernels.ts';

const sm90 = targetOf('sm_90');
const conv = (channels: number, size: number) =>
  convKernel({
    channels,
    outChannels: channels,
    size: [size, size],
    kernel: [3, 3],
    pad: 1,
    channelsInner: true,
    channelsLast: true,
    dtype: 'f16',
  });

describe('default schedules by width', () => {
  it('differ with the width, have as many parts of k, and are each better than those of narrower words', () => {
    const kernels = [conv(64, 56), conv(128, 28), conv(256, 14), conv(512, 7)].map((k) =>
      scheduleKernel(k, sm90),
    );
    expect(kernels.some((k) => k.wider)).toBe(true);
    for (const kernel of kernels) {
      expect(verifyKernel(kernel, sm90)).toEqual([]);
      const c = contractionOf(kernel)!;
      const variants = kernelVariants(kernel).map((v) => ({
        ...v,
        schedule: v.kernel.schedule as MmaSchedule,
      }));
      expect(new Set(variants.map((v) => partsOf(v.schedule))).size).toBe(1);
      variants.slice(1).forEach(({ from, schedule }, n) => {
        const before = variants[n]!.schedule;
        expect(estimateMma(c, schedule, from, sm90)).toBeLessThan(estimateMma(c, before, from, sm90));
      });
    }
  });

  it('are among the candidates, with others of several numbers of parts', () => {
    const kernel = scheduleKernel(conv(512, 7), sm90);
    const candidates = scheduleCandidates(kernel, sm90, [1, 4, 8]) as MmaSchedule[];
    const defaults = kernelVariants(kernel).map((v) => v.kernel.schedule);
    expect(candidates.slice(0, defaults.length)).toEqual(defaults);
    expect(new Set(candidates.map(partsOf)).size).toBeGreaterThan(1);
    expect(candidates.length).toBeLessThanOrEqual(24);
  });
});

describe('schedules chosen by time', () => {
  const mma = (m: number, segments: number): MmaSchedule => ({
    skeleton: 'mma',
    instruction: 'mma',
    threads: 32 * segments,
    tile: { m, n: 16, k: 32 },
    warps: { m: 1, n: 1 },
    stages: 2,
    segments,
    splits: 1,
  });
  const [a, b, c, d] = [mma(16, 1), mma(32, 1), mma(16, 2), mma(32, 2)] as const;
  const widths = [1, 4, 8];
  const choose = (times: readonly (readonly number[])[], defaults: Schedules = { schedule: a }) =>
    chooseByTime([a, b, c, d].slice(0, times.length), times, widths, defaults, 0.03);

  it('are the best of each width, of one number of parts', () => {
    const choice = choose([
      [5, 5, 9],
      [6, 4, 6],
      [4, 9, 9],
      [9, 9, 5],
    ]);
    // b is also the one for words of one slot beside others.
    expect(choice.schedules).toEqual({ schedule: a, wider: [{ from: 1, schedule: b }] });
    expect([choice.before, choice.after]).toEqual([
      [5, 5, 9],
      [5, 4, 6],
    ]);
    expect(widths.map((w) => scheduleFor(choice.schedules, w))).toEqual([a, b, b]);
  });

  it('have one of their own beside others, if it costs one alone less than it spares many', () => {
    const times = [
      [4, 6, 12],
      [5, 6, 7],
      [9, 5, 6],
    ];
    const three = [a, b, mma(64, 1)] as const;
    const chosen = (of: readonly (readonly number[])[], at = widths) =>
      chooseByTime([...three], of, at, { schedule: a }, 0.03).schedules;
    // b: 5/4 + 7/6 is less than 4/4 + 12/6 and 9/4 + 6/6.
    expect(chosen(times)).toEqual({
      schedule: a,
      wider: [
        { from: 1, schedule: b },
        { from: 4, schedule: three[2] },
      ],
    });
    // The one that is best for one alone is as good, or nothing says what many take.
    expect(chosen([[4, 6, 7], ...times.slice(1)])).toEqual({
      schedule: a,
      wider: [{ from: 4, schedule: three[2] }],
    });
    expect(
      chosen(
        times.map((t) => t.slice(0, 2)),
        [1, 2],
      ).wider?.some((w) => w.from === 1),
    ).toBeFalsy();
    // Other numbers of parts give other bits.
    const parts = chooseByTime([a, mma(32, 2)], [times[0]!, [5, 9, 7]], widths, { schedule: a }, 0.03);
    expect(parts.schedules.wider?.some((w) => w.from === 1)).toBeFalsy();
  });

  it('have one beside others where the defaults are best otherwise, and wider words go on as they were', () => {
    const defaults: Schedules = { schedule: a, wider: [{ from: 8, schedule: b }] };
    const both = choose(
      [
        [4, 4, 8],
        [5, 4, 5],
      ],
      defaults,
    );
    expect(both.schedules.wider).toEqual([
      { from: 1, schedule: b },
      { from: 2, schedule: a },
      { from: 8, schedule: b },
    ]);
    // b spares many at eight slots, and would cost half as much again at 32.
    const wide = chooseByTime(
      [a, b],
      [
        [1, 7.3, 20],
        [1.001, 7, 30],
      ],
      [1, 8, 32],
      { schedule: a },
      0.03,
    );
    expect(wide.schedules.wider?.slice(0, 2)).toEqual([
      { from: 1, schedule: b },
      { from: 2, schedule: a },
    ]);
    expect(wide.after).toEqual(
      [1, 8, 32].map((w, n) => (scheduleFor(wide.schedules, w) === a ? [1, 7.3, 20] : [1.001, 7, 30])[n]),
    );
  });

  it('take the number of parts that is worth most at all widths together', () => {
    const choice = choose([
      [9, 9, 9],
      [9, 9, 5],
      [5, 5, 9],
      [9, 9, 5.5],
    ]);
    expect(choice.schedules).toEqual({
      schedule: c,
      wider: [
        { from: 1, schedule: d },
        { from: 4, schedule: c },
        { from: 8, schedule: d },
      ],
    });
  });

  it('are one where a wider word gains too little, and the default where all do', () => {
    expect(
      choose([
        [5, 5, 5],
        [6, 4.95, 4.9],
      ]).schedules,
    ).toEqual({ schedule: a });
    expect(
      choose([
        [5, 5, 5],
        [4.95, 5, 5],
      ]).schedules,
    ).toEqual({ schedule: a });
    const defaults: Schedules = { schedule: a, wider: [{ from: 8, schedule: b }] };
    expect(
      choose(
        [
          [5, 5, 5.2],
          [6, 6, 5],
        ],
        defaults,
      ),
    ).toEqual({
      schedules: defaults,
      before: [5, 5, 5],
      after: [5, 5, 5],
    });
  });
});
