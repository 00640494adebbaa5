/**
 * @file `wideword trace` on the host: each block of each word once, where it ran and whose it was, in a file that readers of the trace event
 * format take; the picture of it; and its sources and lanes by themselves.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CheckFailed } from '../../cli/bench/check.ts';
import { type Mode, modes } from '../../cli/bench/measure.ts';
import { modeNames } from '../../cli/bench/report.ts';
import { benchTenants } from '../../cli/bench/tenants.ts';
import { chromeTrace, lettersOf } from '../../cli/trace/chrome.ts';
import { roundsPicture } from '../../cli/trace/picture.ts';
import { roundGroup, summarise, unitNames } from '../../cli/trace/rounds.ts';
import { lanesOf, type Span } from '../../cli/trace/timeline.ts';
import { traceModes } from '../../cli/trace.ts';
import { type Device, openDevice, type Program, type RoundTrace } from '../../index.ts';
import { convModel } from '../support/models.ts';
import { checkWellFormed } from '../support/svg.ts';
import { readTrace, type TracedProcess } from './trace_events.ts';

const main = 'dist/cli/main.js';
const folder = mkdtempSync(join(tmpdir(), 'wideword-trace-'));
const file = (name: string): string => join(folder, name);
const env = { ...process.env, WIDEWORD_CACHE: file('cache') };

let device: Device;
beforeAll(async () => {
  if (!existsSync(main)) throw new Error(`${main} is not built: run npm run build`);
  device = await openDevice('host', { threads: 2, cacheDir: file('cache') });
  writeFileSync(file('conv.onnx'), convModel());
});
afterAll(() => {
  device.close();
  rmSync(folder, { recursive: true });
});

function trace(...args: string[]) {
  const all = [main, 'trace', '--device', 'host', '--threads', '2', ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, all, { encoding: 'utf8', env });
  return { status, stdout, stderr };
}

/** Two networks of several blocks a kernel, and a matrix product. */
const specs = ['mlp:width=200*2', 'sgemm:m=150,n=40,k=10'];
const tenantsOf = (count: number) => benchTenants(specs, count, { precision: 'fp32', shape: {}, seed: 1 });

/** Whose each block of each word is, as the programs of a mode were planned: `word:block` to tenant and kernel. */
function planned(programs: readonly Program[]): Map<string, string> {
  const blocks = new Map<string, string>();
  let number = 0;
  for (const { plan } of programs) {
    for (const { slots } of plan.words) {
      const owners = slots.flatMap(({ tenant, task, blocks: count }) => {
        const { name, model } = plan.tenants[tenant]!;
        return Array<string>(count).fill(`${name} ${model.tasks[task]!.name}`);
      });
      owners.forEach((owner, block) => void blocks.set(`${number}:${block}`, owner));
      number++;
    }
  }
  return blocks;
}

const eventsOf = (process: TracedProcess, cat: string) =>
  process.threads.flatMap(({ events }) => events.filter((e) => e.cat === cat));

describe('wideword trace', () => {
  it('writes each block of every word once, with whose it is and where it ran, in each mode', async () => {
    const output = file('trace.json');
    const { status, stdout, stderr } = trace(...specs, '--tenants', '2', '-o', output, '--json');
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const processes = readTrace(readFileSync(output, 'utf8'));
    expect(processes.map((p) => p.name)).toEqual(['code', ...modes.map((mode) => modeNames[mode])]);
    const [code, ...rounds] = processes as [TracedProcess, ...TracedProcess[]];

    const tenants = await tenantsOf(2);
    const names = tenants.map((t) => t.name);
    const alone = await Promise.all(tenants.map((t) => device.load([t], { tier: 'auto' })));
    const all = await device.load(tenants, { tier: 'auto' });
    const programsOf = (mode: Mode): readonly Program[] => (mode === 'coalesced' ? [all] : alone);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ ok: true, models: specs, tenants: names, device: { kind: 'host' } });

    for (const [n, mode] of modes.entries()) {
      const round = rounds[n]!;
      const programs = programsOf(mode);
      const words = programs.flatMap((p) => p.plan.words);
      const expected = planned(programs);
      const blocks = eventsOf(round, 'block');
      expect(blocks.map((e) => `${e.args.word}:${e.args.block}`).sort()).toEqual([...expected.keys()].sort());
      const [letter, colour] = [new Map<string, string>(), new Map<string, string>()];
      for (const { name, cname, args } of blocks) {
        expect(`${args.tenant} ${args.kernel}`).toBe(expected.get(`${args.word}:${args.block}`));
        expect(name).toBe(`${lettersOf(names.indexOf(args.tenant))} ${args.tenant}`);
        letter.set(args.tenant, name.split(' ')[0]!);
        colour.set(args.tenant, cname!);
      }
      expect(new Set(letter.values()).size).toBe(names.length);
      expect(new Set(colour.values()).size).toBe(names.length);

      // A word, and each of its slots, lasts from its first block to its last.
      const wordEvents = eventsOf(round, 'word');
      expect(wordEvents).toHaveLength(words.length);
      for (const e of wordEvents) {
        const mine = blocks.filter((b) => b.args.word === e.args.word);
        expect(e.ts).toBe(Math.min(...mine.map((b) => b.ts)));
        expect(e.ts + e.dur).toBeCloseTo(Math.max(...mine.map((b) => b.ts + b.dur)), 3);
        const word = words[e.args.word]!;
        expect(e.args).toMatchObject({ classes: word.classes, tier: word.tier, blocks: mine.length });
        expect(e.args.tenants).toBe(word.slots.length);
        expect(e.args.slots).toEqual([...new Set(mine.map((b) => `${b.args.tenant}: ${b.args.kernel}`))]);
      }
      const tracks = new Map(round.threads.map((t) => [t.name, t.events]));
      for (const name of names) {
        const mine = tracks.get(name)!;
        expect(mine.map((e) => e.args.blocks).reduce((a, b) => a + b)).toBe(
          blocks.filter((b) => b.args.tenant === name).length,
        );
        for (const [i, e] of mine.entries())
          if (i > 0) expect(e.ts).toBeGreaterThanOrEqual(mine[i - 1]!.ts + mine[i - 1]!.dur - 1e-3);
      }
      const units = round.threads.filter((t) => t.events[0]?.cat === 'block').map((t) => t.name);
      for (const unit of units) expect(unit).toMatch(mode === 'space' ? /^thread [0-5]$/ : /^thread [01]$/);
      if (mode === 'space') expect(units).toEqual([0, 1, 2, 3, 4, 5].map((i) => `thread ${i}`));

      const summary = report.rounds[n];
      expect(summary).toMatchObject({ mode, words: words.length, blocks: blocks.length });
      expect(summary.milliseconds).toBeGreaterThanOrEqual(summary.blocksMilliseconds);
      expect(summary.busy).toBeGreaterThan(0);
      expect(summary.busy).toBeLessThanOrEqual(1);
      expect(summary.widestGap).toBeLessThan(summary.blocksMilliseconds);
      // All rounds begin at the same time, after the code was made.
      expect(Math.min(...blocks.map((b) => b.ts))).toBe(
        Math.min(...eventsOf(rounds[0]!, 'block').map((b) => b.ts)),
      );
      for (const e of eventsOf(code, 'code')) expect(e.ts + e.dur).toBeLessThanOrEqual(blocks[0]!.ts);
    }
  });

  it('shows what was compiled, and what was found in the cache', () => {
    const codeOf = (cache: string) => {
      const args = [
        main,
        'trace',
        'mlp:width=12',
        '--tenants',
        '2',
        '--device',
        'host',
        '-o',
        file('code.json'),
      ];
      const run = spawnSync(process.execPath, [...args, '--mode', 'turn'], {
        encoding: 'utf8',
        env: { ...env, WIDEWORD_CACHE: file(cache) },
      });
      expect(run.stderr).toBe('');
      const [code] = readTrace(readFileSync(file('code.json'), 'utf8'));
      return eventsOf(code!, 'code').map(({ name, args }) => [name, args.code]);
    };
    const name = 'word_gemm_relu';
    const [first, ...rest] = codeOf('cold');
    expect(first).toEqual([`compile ${name}`, 'compiled']);
    expect(rest.filter(([, how]) => how === 'cached').length).toBeGreaterThan(0);
    const again = codeOf('cold');
    expect(again).toHaveLength(rest.length + 1);
    expect(new Set(again.map(([, how]) => how))).toEqual(new Set(['cached']));
  });

  it('prints a table, takes files and narrow words, and draws a picture', () => {
    const svg = file('conv.svg');
    const { status, stdout } = trace(
      file('conv.onnx'),
      ...['--shape', 'x=1,3,12,12', '--tenants', '3', '--width', '2', '--mode', 'coalesced,turn'],
      ...['-o', file('conv.json'), '--svg', svg],
    );
    expect(status).toBe(0);
    expect(stdout).toMatch(
      /^\S*conv\.onnx, 3 tenants, on host, 2 threads \(host\)\nmode +round +words +blocks/,
    );
    expect(stdout).toMatch(/\ntime multiplexed +[\d.]+ [mµ]s +\d+ +\d+ +\d+ % +[\d.]+ [mµ]s\n/);
    expect(stdout).toMatch(/\ncoalesced +[\d.]+ [mµ]s /);
    expect(stdout).not.toContain('space multiplexed');
    expect(readTrace(readFileSync(file('conv.json'), 'utf8')).map((p) => p.name)).toEqual([
      'code',
      'time multiplexed',
      'coalesced',
    ]);
    const picture = readFileSync(svg, 'utf8');
    checkWellFormed(picture);
    for (const text of ['conv#1', 'time multiplexed: ', 'coalesced: ', '>thread 1<', 'seconds since'])
      expect(picture).toContain(text);
  });

  it('writes nothing of a round whose outputs are wrong', async () => {
    const tenants = await tenantsOf(1);
    const others = Object.fromEntries([[tenants[0]!.name, tenants[0]!.others]]);
    const crooked = {
      load: device.load.bind(device),
      trace: async (programs: readonly Program[], together: 'in turn' | 'side by side') => {
        const traced = await device.trace(programs, together);
        await programs[0]!.run(others);
        return traced;
      },
    } as unknown as Device;
    for (const mode of modes) {
      const options = { mode: [mode], tier: 'auto', tuning: true } as const;
      await expect(traceModes(crooked, tenants, options, [])).rejects.toThrow(CheckFailed);
      await expect(traceModes(device, tenants, options, [])).resolves.toHaveLength(1);
    }
  });

  const out = ['-o', file('never.json')];
  const misuses: readonly [string, readonly string[], RegExp][] = [
    ['no file to write', ['mlp'], /required option '-o, --output <file>' not specified/],
    ['a model that is nowhere', ['nowhere', ...out], /nowhere: no such file, and the generated models are /],
    ['no tenants', ['mlp', '--tenants', '0', ...out], /expected a whole number from 1, got '0'/],
    ['too many tenants', ['mlp*9', '--tenants', '29', ...out], /261 tenants: .* at most 256$/],
    ['an unknown mode', ['mlp', '--mode', 'fast', ...out], /no mode 'fast': turn, space, coalesced/],
    ['words without slots', ['mlp', '--width', '0', ...out], /expected a whole number from 1, got '0'/],
    ['a shape for no file', ['mlp:width=16', '--shape', 'x=1,2', ...out], /no model here has an input 'x'$/],
    [
      'a folder that is not there',
      ['mlp:width=16', '--tenants', '1', '-o', file('none/trace.json')],
      /^wideword: cannot write .*none\/trace\.json: ENOENT$/,
    ],
  ];
  it.each(misuses)('%s is one clear line', (_, args, message) => {
    const { status, stdout, stderr } = trace(...args);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    const [first, ...rest] = stderr.trimEnd().split('\n');
    expect(first).toMatch(message);
    expect(rest.filter((line) => !line.startsWith('(add --help'))).toEqual([]);
    expect(existsSync(file('never.json'))).toBe(false);
  });

  it('has help with an example', () => {
    expect(trace('--help').stdout).toContain('$ wideword trace resnet18');
  });
});

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
        units: unitNames('cuda', units, round),
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
