/**
 * @file `wideword tune` as a process, on the host: its table, its JSON, what the next command makes of it, and every misuse in one line.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mlpModel } from '../support/models.ts';

const main = 'dist/cli/main.js';
const folder = mkdtempSync(join(tmpdir(), 'wideword-tune-cli-'));
const file = (name: string): string => join(folder, name);
const env = { ...process.env, WIDEWORD_CACHE: file('cache') };

function wideword(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', env });
  return { status, stdout, stderr };
}

const entries = (): string[] =>
  existsSync(file('cache/tuning'))
    ? readdirSync(file('cache/tuning'), { recursive: true, encoding: 'utf8' }).filter((n) =>
        n.endsWith('.json'),
      )
    : [];

beforeAll(() => {
  if (!existsSync(main)) throw new Error(`${main} is not built: run npm run build`);
  writeFileSync(file('mlp.onnx'), mlpModel([20, 33, 12]));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('wideword tune', () => {
  it('prints a table of what it found, and as JSON what it knows', () => {
    const text = wideword('tune', file('mlp.onnx'), '--width', '1,2', '--device', 'host');
    expect(text.stderr).toBe('');
    expect(text.status).toBe(0);
    const [head, first] = text.stdout.split('\n');
    expect(head).toMatch(/^kernel +calls +tried +default +chosen +width 1 +width 2$/);
    expect(first).toMatch(/^gemm_relu +1 +12 +contraction\(tile 64x1x32\) .* [µm]s/);
    expect(text.stdout).toMatch(/2 kernels on host, .*: \d get another schedule than the default\n$/);
    expect(entries()).toHaveLength(2);

    const json = wideword('tune', file('mlp.onnx'), '--width', '2', '--device', 'host', '--json');
    expect(json.status).toBe(0);
    const report = JSON.parse(json.stdout);
    expect(report).toMatchObject({ device: { kind: 'host', target: 'host' }, total: 2 });
    expect(report.kernels.map((k: { known: boolean }) => k.known)).toEqual([true, true]);

    // The artefact is compiled with what was found.
    const compile = wideword('compile', file('mlp.onnx'), '-o', file('a.wwa'), '--json');
    expect(compile.status).toBe(0);
    expect(wideword('tune', file('a.wwa'), '--device', 'host')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/is an artefact/),
    });
  });

  it('ended by Ctrl-C keeps what it has', async () => {
    const before = entries().length;
    const args = [
      main,
      'tune',
      'mlp:width=24',
      'resnet18:size=32,width=8',
      '--device',
      'host',
      '--width',
      '1',
    ];
    const child = spawn(process.execPath, args, { env });
    let stdout = '';
    child.stdout.setEncoding('utf8').on('data', (s: string) => (stdout += s));
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    const watch = setInterval(() => {
      if (entries().length === before) return;
      clearInterval(watch); // a second one would end it at once
      child.kill('SIGINT');
    }, 100);
    expect(await ended).toBe(1);
    clearInterval(watch);
    expect(stdout).toMatch(/stopped before the other \d+; what was found is kept/);
    expect(entries().length).toBeGreaterThan(before);
  });

  const misuse: [string, string[], RegExp][] = [
    ['a width of zero', ['--width', '1,0'], /whole number from 1/],
    ['no width', ['--width', ''], /whole number from 1/],
    ['a tier that is none', ['--tier', 'auto'], /Allowed choices are generic, specialised/],
    ['a device that is none', ['--device', 'tpu'], /Allowed choices are auto, cuda, host/],
  ];
  for (const [name, args, expected] of misuse)
    it(`refuses ${name}`, () => {
      const { status, stdout, stderr } = wideword('tune', file('mlp.onnx'), ...args);
      expect([status, stdout]).toEqual([2, '']);
      expect(stderr).toMatch(expected);
    });

  it('refuses a model that is none, and shows an example with --help', () => {
    expect(wideword('tune', 'resnet49', '--device', 'host')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/^wideword: .*resnet50.*\n$/),
    });
    expect(wideword('tune', '--help').stdout).toMatch(/Example:\n {2}\$ wideword tune resnet50/);
  });
});
