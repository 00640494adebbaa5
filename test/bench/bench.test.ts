/**
 * @file `wideword bench` on the host, with small models and short runs: what it reports, and that it reports nothing that is wrong.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { higher, shareOfCeiling } from '../../cli/bench/ceilings.ts';
import { CheckFailed, checkAgainst, checkSameBits } from '../../cli/bench/check.ts';
import { roundCost } from '../../cli/bench/kernels.ts';
import { measure, modes } from '../../cli/bench/measure.ts';
import { formatNumber, quantile } from '../../cli/bench/report.ts';
import { benchTenants, tenantsWithReference } from '../../cli/bench/tenants.ts';
import { type Device, openDevice } from '../../index.ts';
import { bytesOf, tensorOf } from '../../ir/tensor.ts';
import { convModel } from '../support/models.ts';

const main = 'dist/cli/main.js';
const folder = mkdtempSync(join(tmpdir(), 'wideword-bench-'));
const file = (name: string): string => join(folder, name);

let device: Device;
beforeAll(async () => {
  if (!existsSync(main)) throw new Error(`${main} is not built: run npm run build`);
  device = await openDevice('host', { threads: 2 });
  writeFileSync(file('conv.onnx'), convModel());
});
afterAll(() => {
  device.close();
  rmSync(folder, { recursive: true });
});

function bench(...args: string[]) {
  const all = [main, 'bench', '--device', 'host', '--seconds', '0.01', ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, all, { encoding: 'utf8' });
  return { status, stdout, stderr };
}

/** Two fully connected networks, and a matrix product. */
const specs = ['mlp:width=16*2', 'sgemm:m=8,n=9,k=10'];
const flops = 2 * 4 * (2 * 16 * 16 + 2 * 16) + 2 * 8 * 9 * 10;
const options = { precision: 'fp32', shape: {}, seed: 1 } as const;

describe('wideword bench', () => {
  it('--json has every mode at every number of tenants, and --plot draws it', () => {
    const plot = file('plot.svg');
    const { status, stdout, stderr } = bench(...specs, '--tenants', '2,1', '--json', '--plot', plot);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ ok: true, models: specs, precision: 'fp32', tier: 'auto', width: null });
    expect(report.reference).toBe('onnxruntime');
    expect(report.figures.map((f: { tenants: number; mode: string }) => [f.tenants, f.mode])).toEqual(
      [3, 6].flatMap((n) => ['turn', 'space', 'coalesced'].map((mode) => [n, mode])),
    );
    for (const f of report.figures) {
      const { p50, p99 } = f.milliseconds;
      expect(f.rounds).toBeGreaterThanOrEqual(5);
      expect(p50).toBeGreaterThan(0);
      expect(p99).toBeGreaterThanOrEqual(p50);
      expect(f.inferencesPerSecond).toBeCloseTo((f.tenants * 1000) / p50, 6);
      expect(f.tflops * p50 * 1e9).toBeCloseTo((flops * f.tenants) / 3, 3);
      expect(f.ofCeilings.tflops).toBeCloseTo(f.tflops / report.ceilings.tflops, 9);
      expect(f.ofCeilings.gbPerSecond).toBeCloseTo(f.gbPerSecond / report.ceilings.gbPerSecond, 9);
      expect(f.largestError).toBeLessThanOrEqual(1e-4);
      const lists = f.tenants / 3;
      expect([f.launches, f.widest]).toEqual(f.mode === 'coalesced' ? [5, 2 * lists] : [9 * lists, 1]);
    }
    for (const tenants of [3, 6]) {
      const kernels = report.kernels.filter((k: { tenants: number }) => k.tenants === tenants);
      const sum = (of: (k: never) => number): number =>
        kernels.map(of).reduce((a: number, b: number) => a + b);
      expect(sum((k: { share: number }) => k.share)).toBeCloseTo(1, 9);
      expect(sum((k: { words: number }) => k.words)).toBe(5);
      expect(
        sum((k: { tflops: number; milliseconds: number }) => k.tflops * k.milliseconds) * 1e9,
      ).toBeCloseTo((flops * tenants) / 3, 3);
    }
    expect(readFileSync(plot, 'utf8').match(/<polyline/g)).toHaveLength(3);
  });

  it('prints a table, of files too, and of words as narrow as asked', () => {
    const { status, stdout } = bench(
      file('conv.onnx'),
      ...[
        '--shape',
        'x=1,3,12,12',
        '--tenants',
        '3',
        '--width',
        '2',
        '--mode',
        'coalesced,turn',
        '--top',
        '2',
      ],
    );
    expect(status).toBe(0);
    expect(stdout).toMatch(/^.*conv\.onnx, fp32, tier auto, words of at most 2, on host/);
    expect(stdout).toMatch(
      /ceilings, by our own kernels: copy [\d.,]+ GB\/s, matrix product [\d.e-]+ TFLOP\/s/,
    );
    expect(stdout).toMatch(/\n +3 +time multiplexed +[\d,.]+ +[\d.]+ [mµ]s .* 1 +\d\.\de[-+]\d+\n/);
    expect(stdout).toMatch(/\n +3 +coalesced .* 2 +\d\.\de[-+]\d+\n/);
    expect(stdout).not.toContain('space multiplexed');
    expect(stdout).toMatch(/slowest 2 of \d+ kernels at 3 tenants/);
  });

  it('holds wide words against their plan', () => {
    const args = [...specs, '--tenants', '2', '--mode', 'coalesced,wide'];
    const { status, stdout } = bench(...args, '--json');
    expect(status).toBe(0);
    const report = JSON.parse(stdout);
    const [coalesced, wide] = report.figures;
    expect([coalesced.mode, wide.mode]).toEqual(['coalesced', 'wide']);
    // Kernels this small leave room for each other: the product runs beside a layer of the networks.
    expect([coalesced.launches, wide.launches]).toEqual([5, 4]);
    expect(report.words).toHaveLength(4);
    expect(report.words.map((w: { slots: number }) => w.slots).sort()).toEqual([4, 4, 4, 6]);
    for (const w of report.words) {
      expect(w.predicted).toBeGreaterThan(0);
      expect(w.measured).toBeGreaterThan(0);
    }
    expect(report.notes).toEqual([]);
    const text = bench(...args, '--top', '2').stdout;
    expect(text).toMatch(/\n +6 +wide words .* 6 +\d\.\de[-+]\d+\n/);
    expect(text).toMatch(
      /slowest 2 of 4 words at 6 tenants \(1 of more than one class\), against their plan/,
    );
    expect(text).toMatch(/\nall +18 +[\d.]+ [mµ]s +[\d.]+ [mµ]s +[\d.]+\n/);
  });

  it('prints no number of a run whose outputs are wrong, and fails', () => {
    const wrong = [file('conv.onnx'), '--shape', 'x=1,3,12,12', '--tenants', '1', '--tolerance', '0'];
    const text = bench(...wrong);
    expect(text.status).toBe(1);
    expect(text.stdout).toBe('');
    expect(text.stderr).toMatch(
      /^wideword: turn: output 'y' of conv#1 is wrong: largest error .* against onnxruntime, allowed 0\n$/,
    );
    const json = bench(...wrong, '--json', '--plot', file('none.svg'));
    expect(json.status).toBe(1);
    const report = JSON.parse(json.stdout);
    expect(report).toMatchObject({ ok: false });
    expect(report.problem).toContain('is wrong');
    expect(Object.keys(report)).not.toContain('figures');
    expect(existsSync(file('none.svg'))).toBe(false);
  });

  const misuses: readonly [string, readonly string[], RegExp][] = [
    [
      'a model that is nowhere',
      ['nowhere'],
      /nowhere: no such file, and the generated models are resnet18, /,
    ],
    ['a file that is nowhere', ['nowhere.onnx'], /nowhere\.onnx: no such file$/],
    [
      'a size that a model has not',
      ['mlp:depth=2'],
      /'depth=2' is none of the sizes of mlp: layers=4, width=1024$/,
    ],
    ['no tenants', ['mlp', '--tenants', '0'], /expected a whole number from 1, got '0'/],
    ['tenants that are no number', ['mlp', '--tenants', '1,x'], /expected a whole number from 1, got 'x'/],
    ['too many tenants', ['mlp*9', '--tenants', '29'], /261 tenants: .* at most 256$/],
    ['an unknown mode', ['mlp', '--mode', 'fast'], /no mode 'fast': turn, space, coalesced, wide/],
    ['words without slots', ['mlp', '--width', '0'], /expected a whole number from 1, got '0'/],
    ['a negative time', ['mlp', '--seconds', '-1'], /expected a number from 0, got '-1'/],
    ['a shape for no file', ['mlp:width=16', '--shape', 'x=1,2'], /no model here has an input 'x'$/],
  ];
  it.each(misuses)('%s is one clear line', (_, args, message) => {
    const { status, stdout, stderr } = bench(...args);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    const [first, ...rest] = stderr.trimEnd().split('\n');
    expect(first).toMatch(message);
    expect(rest.filter((line) => !line.startsWith('(add --help'))).toEqual([]);
  });

  it('has help with an example', () => {
    const { status, stdout } = bench('--help');
    expect(status).toBe(0);
    expect(stdout).toContain('$ wideword bench resnet50');
    expect(stdout).toContain('bert-base');
  });
});

describe('tenants', () => {
  it('of a generated model have weights of their own, of a file the same', async () => {
    const generated = await benchTenants(specs, 2, options);
    expect(generated.map((t) => t.name)).toEqual(['mlp#1', 'mlp#2', 'sgemm#3', 'mlp#4', 'mlp#5', 'sgemm#6']);
    expect(generated[0]!.bytes()).not.toEqual(generated[1]!.bytes());
    expect(generated[0]!.bytes()).not.toEqual(generated[3]!.bytes());
    // The shape is for the file, though all of these have an input of that name.
    const shape = { x: [1, 3, 12, 12] };
    const mixed = await benchTenants([specs[0]!, file('conv.onnx')], 2, { ...options, shape });
    const files = mixed.filter((t) => t.name.startsWith('conv'));
    expect(files.map((t) => t.name)).toEqual(['conv#3', 'conv#6']);
    expect(files[0]!.model).toBe(files[1]!.model);
    expect(files[0]!.inputs).not.toEqual(files[1]!.inputs);
    expect(mixed[0]!.model.inputs[0]!.shape).toEqual([1, 16]);
  });

  it('cost a round what their layers do', async () => {
    const tenants = await benchTenants(specs, 1, options);
    expect(roundCost(tenants, 'host').flops).toBe(flops);
  });
});

describe('the reference', () => {
  it('is onnxruntime, or each tenant alone on the CPU where that is not installed', async () => {
    const halves = { ...options, precision: 'fp16' } as const;
    const { reference: peer } = await tenantsWithReference(specs, 1, { ...halves, referee: 'onnxruntime' });
    const { tenants, reference: host } = await tenantsWithReference(specs, 1, { ...halves, referee: 'host' });
    expect([peer.by, host.by]).toEqual(['onnxruntime', 'each tenant alone on the CPU in fp32']);
    const ours = Object.fromEntries(host.outputs);
    expect(checkAgainst(peer, tenants, ours, 'host', 1e-5)).toBeLessThanOrEqual(1e-5);
    const measured = await measure(device, tenants, host, { modes: ['space'], tier: 'generic', seconds: 0 });
    expect(measured.figures[0]).toMatchObject({ mode: 'space', tenants: 3 });
    // Half floats are not what fp32 gives.
    expect(measured.figures[0]!.largestError).toBeGreaterThan(1e-5);
  });

  it('fails a run whose outputs are beside it', async () => {
    const { tenants, reference } = await tenantsWithReference(specs, 1, options);
    const { outputs } = reference;
    const [[name, tensors]] = [...outputs] as [[string, { [output: string]: ReturnType<typeof tensorOf> }]];
    const [output, tensor] = Object.entries(tensors)[0]!;
    const off = tensorOf(
      'f32',
      tensor.shape,
      [...(tensor.data as Float32Array)].map((v) => v * 1.001),
    );
    const wrong = { by: 'another', outputs: new Map(outputs).set(name, { [output]: off }) };
    for (const mode of modes) {
      const run = measure(device, tenants, wrong, { modes: [mode], tier: 'auto', seconds: 0 });
      await expect(run).rejects.toThrow(CheckFailed);
      await expect(run).rejects.toThrow(`${mode}: output '${output}' of ${name} is wrong`);
    }
    const lacking = { by: 'another', outputs: new Map(outputs).set(name, {}) };
    await expect(
      measure(device, tenants, lacking, { modes: ['turn'], tier: 'auto', seconds: 0 }),
    ).rejects.toThrow(`another gives ${name} no output '${output}'`);
  });

  it('takes a single other bit for a failure where bits must be the same', () => {
    const alone = { a: { y: tensorOf('f32', [2], [1, 0]) } };
    checkSameBits(alone, { a: { y: tensorOf('f32', [2], [1, 0]) } }, 'space');
    const other = tensorOf('f32', [2], [1, 0]);
    bytesOf(other)[7] = 0x80; // minus zero
    expect(() => checkSameBits(alone, { a: { y: other } }, 'space')).toThrow(
      "space: output 'y' of a has other bits than when it runs alone",
    );
  });
});

describe('figures', () => {
  it('quantiles are values that were measured', () => {
    const hundred = Array.from({ length: 100 }, (_, n) => n + 1);
    expect([0, 0.5, 0.99, 1].map((q) => quantile(hundred, q))).toEqual([1, 50, 99, 100]);
    expect(quantile([7], 0.99)).toBe(7);
    expect(quantile([1, 2], 0.5)).toBe(1);
  });

  it('shares are of the ceiling that binds', () => {
    const ceilings = { gbps: 1000, tflops: 100 };
    expect(shareOfCeiling({ flops: 100e9, bytes: 1 }, 2, ceilings)).toBeCloseTo(0.5);
    expect(shareOfCeiling({ flops: 1, bytes: 1e9 }, 4, ceilings)).toBeCloseTo(0.25);
    expect(higher({ gbps: 1, tflops: 5 }, { gbps: 2, tflops: 4 })).toEqual({ gbps: 2, tflops: 5 });
  });

  it('numbers have three digits that mean something', () => {
    expect([0, 0.00012, 0.0123, 1.234, 99.96, 123.4, 12345].map(formatNumber)).toEqual([
      '0',
      '1.2e-4',
      '0.0123',
      '1.23',
      '100',
      '123',
      '12,345',
    ]);
  });
});
