/**
 * @file The cost model: curves through measurements, and estimates where there are none.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { blocksPerUnit, most } from '../../ir/occupancy.ts';
import { hostTarget, targetOf } from '../../ir/target.ts';
import type { Work } from '../../ir/work.ts';
import { type BlockCurve, estimateCurve, fitCurve, rounds, timeOn } from '../../passes/block_time.ts';

const sm90 = targetOf('sm_90');
const work: Work = {
  flops: 1e9,
  bytes: 1e6,
  threads: 128,
  registers: 128,
  sharedBytes: 40960,
  tensorCores: true,
};

describe('rounds', () => {
  it('are of virtual blocks on a place, and of blocks on the device', () => {
    expect(rounds(128, 8, 132)).toBe(16);
    expect(rounds(128, 66, 132)).toBe(2);
    expect(rounds(128, 128, 132)).toBe(1);
    expect(rounds(300, 300, 132)).toBe(3);
    // Three blocks on two threads: one of them runs two.
    expect(rounds(96, 3, 2)).toBe(64);
  });
});

describe('fitCurve', () => {
  const like: BlockCurve = { fixed: 0.002, round: 0.01, places: 132 };

  it('goes through what was measured on an H100 within 3 %', () => {
    // A convolution of 128 virtual blocks, and its milliseconds.
    const measured = [
      [8, 0.175],
      [16, 0.091],
      [32, 0.047],
      [66, 0.0247],
      [132, 0.0144],
    ].map(([blocks, milliseconds]) => ({ blocks: Math.min(128, blocks!), milliseconds: milliseconds! }));
    const curve = fitCurve(measured, 128, 132, like);
    expect(curve.places).toBe(132);
    for (const { blocks, milliseconds } of measured)
      expect(Math.abs(timeOn(curve, 128, blocks) / milliseconds - 1)).toBeLessThan(0.03);
  });

  it('finds the curve that measurements were made from', () => {
    fc.assert(
      fc.property(
        fc.record({
          fixed: fc.double({ min: 0.001, max: 0.01, noNaN: true }),
          round: fc.double({ min: 0.001, max: 1, noNaN: true }),
          places: fc.constantFrom(64, 132, 264, 528),
        }),
        (curve) => {
          const counts = [1, 2, 8, 32, 64, 128, 132, 256, 264, 512, 528, 2000];
          const measured = counts.map((blocks) => ({ blocks, milliseconds: timeOn(curve, 2000, blocks) }));
          const found = fitCurve(measured, 2000, 132, like);
          for (const m of measured) expect(timeOn(found, 2000, m.blocks) / m.milliseconds).toBeCloseTo(1, 2);
        },
      ),
    );
  });

  it('makes the best of one measurement, and of ones that make no sense', () => {
    const one = fitCurve([{ blocks: 1, milliseconds: 0.05 }], 1, 132, like);
    expect(one).toMatchObject({ fixed: 0.002, places: 132 });
    expect(one.round).toBeCloseTo(0.048, 9);
    // Faster on fewer blocks: no negative rounds.
    const odd = fitCurve(
      [1, 2, 4].map((blocks) => ({ blocks, milliseconds: 0.01 * blocks })),
      4,
      132,
      like,
    );
    expect(odd.round).toBeGreaterThanOrEqual(0);
    expect(odd.fixed).toBeGreaterThanOrEqual(0);
  });
});

describe('estimateCurve', () => {
  it('grows with the work, and not with what hides behind it', () => {
    const small = estimateCurve(work, 128, sm90, 132);
    const large = estimateCurve({ ...work, flops: 4e9 }, 128, sm90, 132);
    expect(large.round).toBeGreaterThan(3 * small.round);
    expect(small.places % 132).toBe(0);
    // Blocks that only wait run beside each other, as many as fit.
    expect(estimateCurve({ ...work, flops: 1e6 }, 128, sm90, 132).places).toBe(
      132 * blocksPerUnit(work, sm90),
    );
    expect(large.places).toBe(132);
    expect(estimateCurve(work, 8, hostTarget, 2).places).toBe(2);
  });
});

describe('blocks on a multiprocessor', () => {
  it('are as many as the scarcest thing allows', () => {
    const at = (r: Partial<Work>, target = sm90): number =>
      blocksPerUnit({ threads: 128, registers: 32, sharedBytes: 0, ...r }, target);
    expect(at({})).toBe(16); // threads
    expect(at({ threads: 32 })).toBe(32); // blocks
    expect(at({ registers: 128 })).toBe(4);
    expect(at({ registers: 129 })).toBe(3); // handed out by 8 a thread
    expect(at({ sharedBytes: 90112 })).toBe(2);
    expect(at({ sharedBytes: 227 * 1024 })).toBe(1);
    expect(at({}, targetOf('sm_86'))).toBe(12);
    expect(at({}, hostTarget)).toBe(1);
  });

  it('of code with several bodies are those of the most of each', () => {
    const wide = most([
      { threads: 32, registers: 200, sharedBytes: 0 },
      { threads: 256, registers: 32, sharedBytes: 1000 },
    ]);
    expect(wide).toEqual({ threads: 256, registers: 200, sharedBytes: 1000 });
    expect(blocksPerUnit(wide, sm90)).toBe(1);
  });
});
