/**
 * @file `wideword trace` on the host: each block of each word once, where it ran and whose it was, in a file that readers of the trace event
 * format take, and the picture of it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CheckFailed } from '../../cli/bench/check.ts';
import type { Mode } from '../../cli/bench/measure.ts';
import { modeNames } from '../../cli/bench/report.ts';
import { benchTenants } from '../../cli/bench/tenants.ts';
import { lettersOf } from '../../cli/trace/chrome.ts';
import { traceable, traceModes } from '../../cli/trace.ts';
import { type Device, openDevice, type Program } from '../../index.ts';
import { bytesOf } from '../../ir/tensor.ts';
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

/** What is traced if nothing else is asked for. */
const modes = ['turn', 'space', 'coalesced'] as const;

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

/** Each tenant's tasks with their blocks, as the host runs them. */
async function tenantsOn(tier: 'generic') {
  const tenants = await tenantsOf(2);
  const program = await device.load(tenants, { tier });
  const linked = program.plan.tenants;
  program.close();
  return linked.map(({ name, model }) => ({
    name,
    tasks: model.tasks.map((t) => ({ task: t.name, blocks: t.blocks })),
  }));
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

  it('shows requests that the issue engine serves, its words, and what it compiled for them', async () => {
    const [output, svg] = [file('engine.json'), file('engine.svg')];
    const args = [
      ...specs,
      '--tenants',
      '2',
      '--mode',
      'engine,coalesced',
      '--tier',
      'generic',
      '--seed',
      '4',
    ];
    const { status, stdout, stderr } = trace(...args, '-o', output, '--svg', svg, '--json');
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const report = JSON.parse(stdout);
    const names: string[] = report.tenants;
    const [code, coalesced, engine] = readTrace(readFileSync(output, 'utf8')) as TracedProcess[];
    expect([coalesced!.name, engine!.name]).toEqual(['coalesced', 'issue engine']);
    expect(report.rounds.map((r: { mode: string }) => r.mode)).toEqual(['coalesced', 'engine']);
    const summary = report.rounds[1];

    // Each tenant has one or two requests, one after another, and each first waits and then runs.
    const tracks = new Map(engine!.threads.map((t) => [t.name, t.events]));
    let requests = 0;
    for (const name of names) {
      const spans = [...tracks].filter(([track]) => track === name || track.startsWith(`${name} (`));
      const events = spans.flatMap(([, e]) => e);
      const running = events.filter((e) => e.name.endsWith('running')).sort((a, b) => a.ts - b.ts);
      const queued = events.filter((e) => e.name.endsWith('queued')).sort((a, b) => a.ts - b.ts);
      expect(running.length === 1 || running.length === 2).toBe(true);
      expect(queued.map((e) => e.args.request)).toEqual(running.map((e) => e.args.request));
      for (const [n, e] of running.entries()) {
        expect(queued[n]!.ts + queued[n]!.dur).toBeCloseTo(e.ts, 2);
        if (n > 0) expect(e.ts).toBeGreaterThanOrEqual(running[n - 1]!.ts + running[n - 1]!.dur - 1e-3);
      }
      requests += running.length;
    }
    expect(requests).toBeGreaterThan(names.length);
    expect(summary.requests).toBe(requests);

    // The words run each block of each request's kernels once, within the time that it runs.
    const words = eventsOf(engine!, 'word');
    expect(words).toHaveLength(summary.words);
    const tenants = await tenantsOn('generic');
    const ran = words.flatMap((w) => (w.args.slots as string[]).map((slot) => ({ slot, word: w })));
    expect(ran).toHaveLength(summary.slots);
    for (const { name, tasks } of tenants) {
      const mine = eventsOf(engine!, 'tenant').filter(
        (e) => e.args.tenant === name && e.name.endsWith('running'),
      );
      for (const { task, blocks } of tasks) {
        const pattern = new RegExp(`^${name}: ${task}, blocks (\\d+) to (\\d+)$`);
        const parts = ran.flatMap(({ slot, word }) => {
          const [, from, to] = pattern.exec(slot) ?? [];
          return from === undefined ? [] : [{ count: Number(to) - Number(from) + 1, word }];
        });
        expect(parts.reduce((n, p) => n + p.count, 0) % blocks).toBe(0);
        expect(parts.length).toBeGreaterThan(0);
        for (const { word } of parts)
          expect(mine.some((e) => word.ts >= e.ts - 1e-3 && word.ts + word.dur <= e.ts + e.dur + 1e-3)).toBe(
            true,
          );
      }
    }
    for (const { args: about } of words) {
      expect(about.expected).toBeGreaterThan(0);
      expect(about.code.length).toBeGreaterThan(0);
      expect(about.tenants).toBeGreaterThan(0);
    }
    // What was compiled in the background, before.
    const beside = code!.threads.find((t) => t.name === 'compiled in the background')?.events ?? [];
    expect(beside.filter((e) => e.args.code === 'compiled')).toHaveLength(summary.compiled);
    for (const e of beside) {
      expect(e.args.why).toMatch(/^ready together \d+ times/);
      expect(e.ts + e.dur).toBeLessThanOrEqual(words[0]!.ts);
    }
    const picture = readFileSync(svg, 'utf8');
    checkWellFormed(picture);
    expect(picture).toMatch(/issue engine: \d+ requests in .* words of [\d.]+ slots; p50 /);
    expect(picture.match(/stroke-opacity="0.25"/g)?.length ?? 0).toBeGreaterThan(0);
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
      serve: async (...args: Parameters<Device['serve']>) => {
        const engine = await device.serve(...args);
        const readOutputs = engine.readOutputs.bind(engine);
        engine.readOutputs = () => {
          const outputs = readOutputs();
          bytesOf(Object.values(outputs[tenants[0]!.name]!)[0]!)[0]! ^= 1;
          return outputs;
        };
        return engine;
      },
    } as unknown as Device;
    for (const mode of traceable) {
      const options = { mode: [mode], tier: 'auto', tuning: true, seed: 1 } as const;
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
    [
      'an unknown mode',
      ['mlp', '--mode', 'fast', ...out],
      /no mode 'fast': turn, space, coalesced, wide, branches, measured, engine/,
    ],
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
