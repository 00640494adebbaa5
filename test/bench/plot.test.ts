/**
 * @file The chart: well-formed, and with every point at its place.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lineChart, logTicks } from '../../cli/bench/plot.ts';
import { ticks } from '../../cli/svg.ts';
import { checkWellFormed } from '../support/svg.ts';

const chart = (series: Parameters<typeof lineChart>[0]['series'], title = 'a "title" of <a> & b'): string =>
  lineChart({ title, subtitle: 's', xLabel: 'tenants', yLabel: 'a second', series });

describe('lineChart', () => {
  it('puts points in proportion, with 0 at the axes', () => {
    const svg = chart([
      {
        name: 'turn',
        points: [
          { x: 1, y: 100 },
          { x: 2, y: 100 },
          { x: 8, y: 50 },
        ],
      },
      {
        name: 'coalesced',
        points: [
          { x: 1, y: 100 },
          { x: 8, y: 400 },
        ],
      },
    ]);
    checkWellFormed(svg);
    const lines = [...svg.matchAll(/<polyline points="([^"]*)"/g)].map((m) =>
      m[1]!.split(' ').map((p) => p.split(',').map(Number)),
    );
    expect(lines.map((l) => l.length)).toEqual([3, 2]);
    const [turn, coalesced] = lines as [number[][], number[][]];
    const right = turn[2]![0]!;
    const left = turn[0]![0]! - (right - turn[0]![0]!) / 7;
    expect(left).toBeCloseTo(80, 0);
    expect(turn[0]).toEqual(coalesced[0]);
    const height = (point: number[]): number => 356 - point[1]!;
    expect(height(coalesced[1]!) / height(turn[2]!)).toBeCloseTo(8, 1);
    for (const label of ['turn', 'coalesced', 'tenants', 'a second', '>400<', '>8<'])
      expect(svg).toContain(label);
  });

  it('makes straight lines of powers on axes that are logarithmic', () => {
    const points = [1, 2, 4, 128].map((x) => ({ x, y: 100 / x }));
    const svg = lineChart({
      title: 't',
      subtitle: 's',
      xLabel: 'x',
      yLabel: 'y',
      scale: 'log',
      series: [{ name: 'a', points }],
    });
    checkWellFormed(svg);
    const [line] = [...svg.matchAll(/<polyline points="([^"]*)"/g)];
    const [a, b, c, d] = line![1]!.split(' ').map((p) => p.split(',').map(Number) as [number, number]);
    expect([a![0], d![0]]).toEqual([80, 690]);
    expect(b![0] - a![0]).toBeCloseTo(c![0] - b![0], 0);
    expect((b![1] - a![1]) / (b![0] - a![0])).toBeCloseTo((d![1] - a![1]) / (d![0] - a![0]), 1);
  });

  it('on logarithmic axes is well-formed with one point, and with equal ones', () => {
    for (const points of [[{ x: 3, y: 2 }], [1, 2].map((x) => ({ x, y: 1 }))]) {
      const svg = lineChart({
        title: 't',
        subtitle: 's',
        xLabel: 'x',
        yLabel: 'y',
        scale: 'log',
        series: [{ name: 'a', points }],
      });
      checkWellFormed(svg);
      expect(svg).not.toMatch(/="[^"<]*(NaN|Infinity|undefined)/);
    }
  });

  it('is well-formed whatever it is given', () => {
    const point = fc.record({
      x: fc.integer({ min: 1, max: 256 }),
      y: fc.double({ min: 0, max: 1e9, noNaN: true }),
    });
    const name = fc.string({ unit: 'binary' });
    const series = fc.record({ name, points: fc.array(point, { minLength: 1 }) });
    fc.assert(
      fc.property(fc.array(series, { minLength: 1, maxLength: 5 }), name, (s, title) => {
        const svg = chart(s, title);
        checkWellFormed(svg);
        // In attributes; a name may well be one of these words.
        expect(svg).not.toMatch(/="[^"<]*(NaN|Infinity|undefined)/);
      }),
    );
  });
});

describe('ticks', () => {
  it('of a logarithmic axis lie around all values', () => {
    expect(logTicks(0.3, 40)).toEqual([0.2, 0.5, 1, 2, 5, 10, 20, 50]);
    expect(logTicks(2, 2)).toEqual([2, 5]);
    expect(logTicks(0.003, 900)).toEqual([0.001, 0.01, 0.1, 1, 10, 100, 1000]);
    fc.assert(
      fc.property(
        fc.double({ min: 1e-6, max: 1e6, noNaN: true }),
        fc.double({ min: 1, max: 1e6, noNaN: true }),
        (least, ratio) => {
          const all = logTicks(least, least * ratio);
          expect(all[0]).toBeLessThanOrEqual(least);
          expect(all.at(-1)).toBeGreaterThanOrEqual(least * ratio);
          expect(all.length).toBeGreaterThan(1);
        },
      ),
    );
  });

  it('are round, and reach over the largest value', () => {
    expect(ticks(100)).toEqual([0, 20, 40, 60, 80, 100]);
    expect(ticks(13_770)).toEqual([0, 5000, 10_000, 15_000]);
    expect(ticks(0.7)).toEqual([0, 0.2, 0.4, 0.6, 0.8]);
    expect(ticks(0)).toEqual([0, 1]);
    expect(ticks(5e-324)).toEqual([0, 1]);
    fc.assert(
      fc.property(fc.double({ min: 1e-6, max: 1e9, noNaN: true }), (most) => {
        const all = ticks(most);
        expect(all.at(-1)! / most).toBeGreaterThan(1 - 1e-9);
        expect(all.length).toBeGreaterThanOrEqual(3);
        expect(all.length).toBeLessThanOrEqual(7);
      }),
    );
  });
});
