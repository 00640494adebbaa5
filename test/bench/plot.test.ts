/**
 * @file The chart: well-formed, and with every point at its place.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lineChart } from '../../cli/bench/plot.ts';
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
