/**
 * @file Traced rounds by themselves: their numbers, their spans in lanes, and the picture of them, on rounds that are made up.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chromeTrace, lettersOf } from '../../cli/trace/chrome.ts';
import { roundsPicture } from '../../cli/trace/picture.ts';
import { roundGroup, summarise, unitNames } from '../../cli/trace/rounds.ts';
import { lanesOf, type Span } from '../../cli/trace/timeline.ts';
import { tracedProgram } from '../../driver/trace.ts';
import type { RoundTrace } from '../../index.ts';
import type { Word, WordPlan } from '../../ir/program.ts';
import { checkWellFormed } from '../support/svg.ts';
import { readTrace } from './trace_events.ts';

/** A round of one program: for each word, its blocks as [slot's tenant, unit, begin, end]. */
function roundOf(
  tenants: readonly string[],
  words: readonly (readonly [number, number, number, number][])[],
): RoundTrace {
  return {
    milliseconds: 1,
    programs: [
      {
        tenants,
        words: words.map((blocks) => ({
          tier: 'generic',
          classes: ['c'],
          kernels: ['k'],
          slots: tenants.map((tenant) => ({ tenant, task: 'k', loc: [] })),
          blocks: {
            slot: Uint32Array.from(blocks, (b) => b[0]),
            unit: Uint32Array.from(blocks, (b) => b[1]),
            begin: Float64Array.from(blocks, (b) => b[2]),
            end: Float64Array.from(blocks, (b) => b[3]),
          },
        })),
      },
    ],
  };
}

describe('a round', () => {
  const round = roundOf(
    ['a', 'b'],
    [
      [
        [0, 0, 0, 400],
        [0, 1, 100, 300],
        [1, 1, 200, 500], // beside the block before
      ],
      [[1, 0, 800, 1000]],
    ],
  );

  it('is summed up by the time in which units had a block, and in which none had', () => {
    // 600 of unit 0, 400 of unit 1, nothing of the third and fourth.
    expect(summarise(round, 4)).toEqual({
      milliseconds: 1,
      blocksMilliseconds: 1e-3,
      words: 2,
      blocks: 4,
      busy: 1000 / 4000,
      widestGap: 3e-4,
    });
    expect(summarise(round, 1).busy).toBe(0.5);
    expect(summarise(roundOf([], []), 2)).toMatchObject({ busy: 0, widestGap: 0, words: 0 });
    expect(unitNames('cuda', 3, round)).toEqual(['SM 0', 'SM 1', 'SM 2']);
    expect(unitNames('host', 1, round)).toEqual(['thread 0', 'thread 1']);
  });

  it('gives blocks that overlap on a unit lanes of their own', () => {
    const group = roundGroup('r', round, ['x', 'a', 'b'], 'cuda');
    const text = [...chromeTrace({ tenants: ['x', 'a', 'b'], groups: [group] }, {})].join('');
    const [process] = readTrace(text);
    expect(process!.threads.map((t) => [t.name, t.events.map((e) => [e.name, e.ts, e.dur])])).toEqual([
      [
        'words',
        [
          ['k × 2', 0, 0.5],
          ['k × 2', 0.8, 0.2],
        ],
      ],
      ['x', []],
      ['a', [['B k', 0, 0.4]]],
      [
        'b',
        [
          ['C k', 0.2, 0.3],
          ['C k', 0.8, 0.2],
        ],
      ],
      [
        'SM 0',
        [
          ['B a', 0, 0.4],
          ['C b', 0.8, 0.2],
        ],
      ],
      ['SM 1', [['B a', 0.1, 0.2]]],
      ['SM 1 (2)', [['C b', 0.2, 0.3]]],
    ]);
  });
});

describe('a traced program', () => {
  it('names the kernels that slots are of, where code has bodies of others, too', () => {
    const tasks = ['a', 'b'].map((name) => ({ name, loc: [name] }));
    const tenants = [{ name: 't', model: { tasks } }] as unknown as WordPlan['tenants'];
    const slot = { tenant: 0, task: 1, body: 2, blocks: 1 };
    const words: Word[] = [{ tier: 'generic', classes: ['A', 'C', 'B'], slots: [slot] }];
    const none = new Float64Array(0);
    const times = { begin: none, end: none, unit: new Uint32Array(0), slot: new Uint32Array(0) };
    const [word] = tracedProgram({ tenants, words }, [times]).words;
    expect(word!.kernels).toEqual(['b']);
    expect(word!.slots).toEqual([{ tenant: 't', task: 'b', loc: ['b'] }]);
  });
});

describe('lanes', () => {
  it('keep every span, overlap nowhere, and are no more than run at once', () => {
    const span = fc
      .tuple(fc.nat(200), fc.nat(30), fc.nat())
      .map(([begin, length, id]): Span => ({ name: String(id), begin, end: begin + length }));
    fc.assert(
      fc.property(fc.array(span), (spans) => {
        const lanes = lanesOf(spans);
        expect(new Set(lanes.flat())).toEqual(new Set(spans));
        expect(lanes.flat()).toHaveLength(spans.length);
        for (const lane of lanes)
          lane.forEach((s, i) => i > 0 && expect(s.begin).toBeGreaterThanOrEqual(lane[i - 1]!.end));
        const atOnce = spans.map(
          (s) => spans.filter((o) => o.begin <= s.begin && (o.end > s.begin || o.begin === s.begin)).length,
        );
        expect(lanes.length).toBeLessThanOrEqual(Math.max(0, ...atOnce));
      }),
    );
  });
});

describe('letters', () => {
  it('differ from tenant to tenant', () => {
    expect([0, 25, 26, 51, 52, 701, 702].map(lettersOf)).toEqual(['A', 'Z', 'AA', 'AZ', 'BA', 'ZZ', 'AAA']);
    expect(new Set(Array.from({ length: 5000 }, (_, n) => lettersOf(n))).size).toBe(5000);
  });
});

describe('the picture', () => {
  const draw = (tenants: readonly string[], round: RoundTrace, units: number, title = 't') =>
    roundsPicture({
      title,
      subtitle: 's',
      tenants,
      panels: ['one', 'two'].map((name) => ({
        title: name,
        group: roundGroup(name, round, tenants, 'cuda'),
        kind: 'block' as const,
        rows: unitNames('cuda', units, round),
      })),
    });

  it('draws blocks in their row, over their time, in their colour', () => {
    const svg = draw(
      ['a', 'b'],
      roundOf(
        ['a', 'b'],
        [
          [
            [0, 0, 0, 500_000],
            [1, 1, 500_000, 1_000_000],
          ],
        ],
      ),
      2,
    );
    checkWellFormed(svg);
    const paths = [
      ...svg.matchAll(
        /<path stroke="([^"]+)" stroke-opacity="1" stroke-width="22" d="M([\d.]+) ([\d.]+)h([\d.]+)"/g,
      ),
    ].map((m) => [m[1], ...m.slice(2).map(Number)]);
    // The time axis is 892 wide from 84 on.
    expect(paths.map(([colour, x, , w]) => [colour, x, w])).toEqual(
      [1, 2].flatMap(() => [
        ['#d55e00', 84, 446],
        ['#0072b2', 530, 446],
      ]),
    );
    const [first, second, third] = paths.map((p) => p[2] as number) as [number, number, number];
    expect(second - first).toBe(24);
    expect(third).toBeGreaterThan(second + 24);
    expect(svg).toContain('milliseconds since');
  });

  it('shows tenants that share multiprocessors in proportion', () => {
    const blocks = Array.from({ length: 132 * 4 }, (_, b): [number, number, number, number] => [
      b < 132 ? 0 : 1,
      b % 132,
      0,
      1000,
    ]);
    const svg = draw(['a', 'b'], roundOf(['a', 'b'], [blocks]), 132);
    const lines = (colour: string) =>
      svg.match(new RegExp(`<path stroke="${colour}" .*`))![0].match(/M/g)!.length;
    expect(Math.abs(lines('#d55e00') - 33)).toBeLessThan(3);
    expect(lines('#d55e00') + lines('#0072b2')).toBe(132);
  });

  it('is well-formed and not large whatever it is given', () => {
    const block = fc
      .tuple(fc.nat(255), fc.nat(131), fc.nat(100_000), fc.nat(5000))
      .map(([slot, unit, begin, length]): [number, number, number, number] => [
        slot,
        unit,
        begin,
        begin + length,
      ]);
    const tenants = Array.from({ length: 256 }, (_, n) => `${n}<&"`);
    fc.assert(
      fc.property(fc.array(fc.array(block)), fc.string({ unit: 'binary' }), (words, title) => {
        const svg = draw(tenants, roundOf(tenants, words), 132, title);
        checkWellFormed(svg);
        expect(svg).not.toMatch(/="[^"<]*(NaN|Infinity|undefined)/);
      }),
      { numRuns: 30 },
    );
  });

  it('of 132 multiprocessors with a hundred thousand blocks takes less than a megabyte', () => {
    const words = Array.from({ length: 100 }, (_, w) =>
      Array.from({ length: 1000 }, (_, b): [number, number, number, number] => {
        const begin = w * 20_000 + (b % 8) * 100;
        return [b % 8, b % 132, begin, begin + 10_000 + ((b * 7919) % 5000)];
      }),
    );
    const tenants = Array.from({ length: 8 }, (_, n) => `tenant ${n}`);
    const svg = draw(tenants, roundOf(tenants, words), 132);
    expect(svg.length).toBeLessThan(2 * 1e6); // two panels
    expect(svg).toContain('>SM 128<');
  });
});
