/**
 * @file `wideword bench serve` on the host, with small models and short runs: what it reports, and that it reports nothing that is wrong.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jitLine } from '../../cli/bench/serve.ts';
import { convModel } from '../support/models.ts';
import { checkWellFormed } from '../support/svg.ts';

const main = 'dist/cli/main.js';
const folder = mkdtempSync(join(tmpdir(), 'wideword-serve-'));
const file = (name: string): string => join(folder, name);

beforeAll(() => {
  if (!existsSync(main)) throw new Error(`${main} is not built: run npm run build`);
  writeFileSync(file('conv.onnx'), convModel());
});
afterAll(() => rmSync(folder, { recursive: true }));

function serve(...args: string[]) {
  const all = [main, 'bench', 'serve', '--device', 'host', '--threads', '2', '--seconds', '0.1', ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, all, { encoding: 'utf8' });
  return { status, stdout, stderr };
}

const specs = ['mlp:width=32', 'sgemm:m=8,n=9,k=10'];

describe('wideword bench serve', () => {
  it('--json has rates and latencies that are some, and --plot draws them', () => {
    const plot = file('plot.svg');
    const { status, stdout, stderr } = serve(
      ...[...specs, '--tenants', '2', '--load', '0.2,0.5', '--json', '--plot', plot],
    );
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      ...{ models: specs, tenants: 4, precision: 'fp32', reference: 'onnxruntime', issueMicroseconds: null },
      device: { kind: 'host', target: 'host' },
    });
    for (const rate of ['captured', 'engine', 'words']) expect(report.saturated[rate]).toBeGreaterThan(0);
    const ordered = (l: { p50: number; p99: number }) => {
      expect(l.p50).toBeGreaterThan(0);
      expect(l.p99).toBeGreaterThanOrEqual(l.p50);
    };
    ordered(report.solo);
    ordered(report.solo.words);
    expect(report.cohorts.count).toBeGreaterThan(0);
    expect(report.cohorts.requestsPerCohort).toBeGreaterThanOrEqual(1);
    expect(report.cohortMicroseconds).toBe(null);
    expect(report.slotsPerWord).toBeGreaterThanOrEqual(1);
    expect(report.loads.map((l: { load: number }) => l.load)).toEqual([0.2, 0.5]);
    for (const l of report.loads) {
      expect(l.requestsPerSecond).toBeCloseTo(l.load * report.saturated.captured, 6);
      expect(l.requests).toBeGreaterThanOrEqual(100);
      for (const some of [l, l.words]) ordered(some);
    }
    for (const event of report.jit) expect(['compiled', 'brought']).toContain(event.kind);
    const svg = readFileSync(plot, 'utf8');
    checkWellFormed(svg);
    expect(svg.match(/<polyline/g)).toHaveLength(2);
  }, 60_000);

  it('prints tables, takes files, and compiles nothing where it must not', () => {
    const { status, stdout } = serve(
      ...[file('conv.onnx'), '--shape', 'x=1,3,12,12', '--tenants', '2', '--load', '0.3', '--no-jit'],
      ...['--stretch', '2', '--bound', '5'],
    );
    expect(status).toBe(0);
    expect(stdout).toMatch(
      /^.*conv\.onnx: 2 tenants, fp32, host, 2 threads \(host\); outputs checked against /,
    );
    expect(stdout).toMatch(
      /\none request alone: [\d.]+ [mµ]s \(p99 [\d.]+ [mµ]s\); word by word [\d.]+ [mµ]s \(p99 [\d.]+ [mµ]s\)\n/,
    );
    expect(stdout).toMatch(/\nrounds of a captured program +[\d,.]+ +1\n/);
    expect(stdout).toMatch(/\nthe engine, word by word +[\d,.]+ +\d+\.\d\d\n/);
    expect(stdout).toMatch(/\n30 % of captured +[\d,.]+( +[\d.]+ [mµ]s){2} +[\d.]+× +[\d.]+ [mµ]s\n/);
    // With a bound there are none.
    expect(stdout).toMatch(
      /\nno cohorts: word by word, and rounds\n\d+\.\d\d slots a word where it goes word by word\n$/,
    );
    expect(stdout).not.toContain('compiled');
  }, 60_000);

  it.each(['specialised', 'auto'])('runs cohorts of the %s tier', (tier) => {
    const { status, stdout } = serve('mlp:width=32', '--tenants', '3', '--tier', tier, '--load', '0.3');
    expect(status).toBe(0);
    expect(stdout).toMatch(/\n[1-3]\.\d\d requests a cohort at these loads\n/);
  }, 60_000);

  it('prints no number of a run whose outputs are wrong, and fails', () => {
    const wrong = [file('conv.onnx'), '--shape', 'x=1,3,12,12', '--tenants', '1', '--tolerance', '0'];
    const text = serve(...wrong);
    expect(text.status).toBe(1);
    expect(text.stdout).toBe('');
    expect(text.stderr).toMatch(
      /^wideword: captured: output 'y' of conv#1 is wrong: largest error .* against onnxruntime, allowed 0\n$/,
    );
    const json = serve(...wrong, '--json', '--plot', file('none.svg'));
    expect(json.status).toBe(1);
    const report = JSON.parse(json.stdout);
    expect(report).toMatchObject({ ok: false });
    expect(report.problem).toContain('is wrong');
    for (const key of ['saturated', 'solo', 'loads']) expect(Object.keys(report)).not.toContain(key);
    expect(existsSync(file('none.svg'))).toBe(false);
  }, 60_000);

  const misuses: readonly [string, readonly string[], RegExp][] = [
    ['a model that is nowhere', ['nowhere'], /nowhere: no such file, and the generated models are /],
    ['no tenants', ['mlp', '--tenants', '0'], /expected a whole number from 1, got '0'/],
    ['a load of nothing', ['mlp', '--load', '0'], /expected parts above 0, such as 0\.6, got '0'/],
    ['a load that is no number', ['mlp', '--load', '0.5,x'], /expected parts above 0, such as 0\.6, got 'x'/],
    ['a negative time', ['mlp', '--seconds', '-1'], /expected a number from 0, got '-1'/],
    ['a stretch below 1', ['mlp:width=16', '--stretch', '0.5'], /expected a number from 1, got '0\.5'/],
    ['17 at once', ['mlp:width=16', '--at-once', '17'], /expected a whole number from 1 to 16, got '17'/],
    ['no bound', ['mlp:width=16', '--bound', '0'], /expected a number above 0, got '0'/],
    ['too many tenants', ['mlp*9', '--tenants', '456'], /4104 tenants: bench serve takes at most 4096$/],
    ['a shape for no file', ['mlp:width=16', '--shape', 'x=1,2'], /no model here has an input 'x'$/],
  ];
  it.each(misuses)('%s is one clear line', (_, args, message) => {
    const { status, stdout, stderr } = serve(...args);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    const [first, ...rest] = stderr.trimEnd().split('\n');
    expect(first).toMatch(message);
    expect(rest.filter((line) => !line.startsWith('(add --help'))).toEqual([]);
  });

  it('has help with an example', () => {
    expect(serve('--help').stdout).toContain('$ wideword bench serve resnet50');
  });

  it('says what the background compiler did in a line each', () => {
    const [kernels, why] = [
      ['conv', 'gemm'],
      'ready together 9 times in 250 ms, with no code for both',
    ] as const;
    expect(jitLine({ kind: 'compiled', kernels, why, begin: 100, end: 350 })).toBe(
      `compiled conv, gemm as one code in 250 ms: ${why}`,
    );
    const many = [...kernels, 'pool', 'add'];
    expect(jitLine({ kind: 'failed', kernels: many, why, problem: 'no compiler', begin: 1, end: 2 })).toBe(
      `could not compile 4 kernels (${why}): no compiler`,
    );
    const slots = { before: 1.5, after: 3 };
    expect(jitLine({ kind: 'brought', kernels, share: 0.7, slots, factor: 1.1 })).toBe(
      'conv, gemm as one code: 70 % of the words since; slots a word 1.50 before, 3.00 after; its blocks take 1.10× as long',
    );
  });
});
