/**
 * @file `wideword bench unlike` on the host: what it measures, how it picks kernels, and that it gives no times where the bits are others.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { toText } from '../../cli/bench/unlike.ts';
import type { BlockTable } from '../../driver/block_table.ts';
import { compileModel } from '../../driver/model.ts';
import { chooseUnlike, measureUnlike } from '../../driver/unlike.ts';
import { CodeCache } from '../../runtime/cache.ts';
import { loadNative, type NativeDevice, type NativeProgram } from '../../runtime/native.ts';
import { mlpModel } from '../support/models.ts';

const main = 'dist/cli/main.js';
const folder = mkdtempSync(join(tmpdir(), 'wideword-unlike-'));
const cache = join(folder, 'cache');

beforeAll(() => {
  if (!existsSync(main)) throw new Error(`${main} is not built: run npm run build`);
});
afterAll(() => rmSync(folder, { recursive: true }));

function unlike(...args: string[]) {
  const all = [main, 'bench', 'unlike', ...args, '--device', 'host', '--seconds', '0.01'];
  const env = { ...process.env, WIDEWORD_CACHE: cache };
  const { status, stdout, stderr } = spawnSync(process.execPath, all, { encoding: 'utf8', env });
  return { status, stdout, stderr };
}

const models = ['mlp:width=256,layers=2', 'squeezenet1.1:size=64'];

describe('wideword bench unlike', () => {
  it('times a kernel of each model in every way, as JSON', () => {
    const { status, stdout, stderr } = unlike(...models, '--threads', '2', '--json');
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ ok: true, models, precision: 'fp32', tuning: true });
    expect(report.kernels.map((k: { model: string }) => k.model)).toEqual(['mlp', 'squeezenet1.1']);
    // Whether two slots have a place each is for the measured times to say.
    const hasShares = report.kernels[0].share !== undefined;
    for (const k of report.kernels) {
      expect(k.milliseconds).toBeGreaterThan(0);
      expect(k.share !== undefined).toBe(hasShares);
    }
    const ways = ['turn', 'chain', 'wide', ...(hasShares ? ['shares'] : []), 'branches'];
    expect(report.ways.map((w: { way: string }) => w.way)).toEqual(ways);
    for (const w of report.ways) expect(w.milliseconds).toBeGreaterThan(0);
  });

  it('prints a table, and says so where there are more slots than places', () => {
    const { status, stdout } = unlike(...models, '--threads', '1', '--precision', 'fp16');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^one kernel of each of 2 models, fp16, on host, 1 thread \(host\)\n/);
    expect(stdout).toMatch(/\nmodel +kernel +first from +virtual +share +alone\n/);
    expect(stdout).toMatch(/\none after the other +[\d.]+ [mµ]s +1\.00 x +[\d.]+ x\n/);
    expect(stdout).toMatch(
      /\none wide word, all blocks +[\d.]+ [mµ]s( +[\d.]+ x){2}\nbranches of one graph /,
    );
    expect(stdout).toMatch(/no shares: the device has fewer places than there are slots\n$/);
  });

  const misuses: readonly [string, readonly string[], RegExp][] = [
    [
      'a kernel that a model has not',
      [...models, '--kernel', 'gemm_relu'],
      /squeezenet1\.1 has no kernel 'gemm_relu': /,
    ],
    [
      'more models than classes',
      ['sgemm*2'],
      /sgemm has no kernel of a class that no model before it has chosen/,
    ],
    ['a model that is nowhere', ['nowhere'], /nowhere: no such file, and the generated models are /],
    ['an option of bench', [...models, '--tenants', '2'], /unknown option '--tenants'/],
  ];
  it.each(misuses)('%s is one clear line', (_, args, message) => {
    const { status, stdout, stderr } = unlike(...args);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr.split('\n')[0]).toMatch(message);
  });

  it('says what the wide code of a GPU takes', () => {
    const resources = { threads: 256, registers: 126, sharedBytes: 102400, localBytes: 8 };
    const kernel = { loc: ['n'], flops: 1, virtualBlocks: 4, milliseconds: 0.01, share: 2, resources };
    const text = toText({
      device: { kind: 'cuda', name: 'a GPU', target: 'sm_90' },
      models: ['a', 'b'],
      precision: 'fp16',
      tuning: false,
      kernels: ['a', 'b'].map((model) => ({ model, kernel: `k${model}`, ...kernel })),
      ways: [
        { way: 'turn', milliseconds: 0.03 },
        { way: 'chain', milliseconds: 0.02 },
        { way: 'shares', milliseconds: 0.01 },
      ],
      planned: 'shares',
      code: { ...resources, blocksPerUnit: 2 },
    });
    expect(text).toContain('fp16, default schedules, on a GPU (sm_90)');
    expect(text).toMatch(/\na +ka +n +4 +2 +10\.0 µs +126\n/);
    expect(text).toMatch(
      /\none wide word, shares of blocks +10\.0 µs +3\.00 x +2\.00 x\n\na plan would give slots these shares\n/,
    );
    expect(text).toMatch(
      /wide code: 126 registers, 256 threads, 102400 bytes of shared memory, 8 of stack; blocks per multiprocessor: 2$/,
    );
  });
});

describe('the choice of unlike kernels', () => {
  const choice = (key: string, flops: number, milliseconds: number) => ({ key, flops, milliseconds });
  const keys = (...lists: Parameters<typeof chooseUnlike>[0]) => chooseUnlike(lists).map((c) => c?.key);

  it('leaves giants for what takes as long as the costliest kernels of the other models', () => {
    const giant = [choice('g', 1000, 50), choice('h', 200, 9), choice('tiny', 1, 10)];
    expect(keys([choice('a', 10, 10)], giant, [choice('b', 20, 11)])).toEqual(['a', 'h', 'b']);
  });

  it('takes each class once, and what is left where nothing costly is', () => {
    const twin = [choice('a', 10, 10), choice('c', 5, 8), choice('d', 0.1, 1)];
    expect(keys(twin, twin, twin, twin)).toEqual(['a', 'c', 'd', undefined]);
  });
});

describe('the ways', () => {
  /** The device, but that programs of branches leave one bit wrong. */
  function flawed(device: NativeDevice): NativeDevice {
    const { kind, name, target, units } = device;
    return {
      ...{ kind, name, target, units },
      allocate: (bytes) => device.allocate(bytes),
      release: (buffer) => device.release(buffer),
      write: (transfer) => device.write(transfer),
      read: (transfer) => device.read(transfer),
      load: (code, entry) => device.load(code, entry),
      createProgram: (words, options): NativeProgram => {
        const program = device.createProgram(words, options);
        return {
          run: async (round) => {
            const result = await program.run(round);
            if (options?.order === 'branches') round.reads.at(-1)!.data[0]! ^= 1;
            return result;
          },
          time: (active, rounds) => program.time(active, rounds),
          timeWords: (active, rounds) => program.timeWords(active, rounds),
          close: () => program.close(),
        };
      },
      createEngine: (spec) => device.createEngine(spec),
      time: (...args) => device.time(...args),
      trace: (...args) => device.trace(...args),
      close: () => device.close(),
    };
  }

  it('are five with the same bits, and others are a problem, without times', async () => {
    const device = loadNative().openHost(2);
    try {
      const small = [333, 500].map((width) => compileModel(mlpModel([20, width]), { name: `mlp${width}` }));
      // Room for half of the larger kernel's blocks.
      const curve = { fixed: 0.001, round: 0.01, places: 4 };
      const blocks = { timeOf: () => ({ curve, resources: {}, measured: true }) } as unknown as BlockTable;
      const measure = (on: NativeDevice, all: Awaited<(typeof small)[number]>[]) =>
        measureUnlike(on, all, new CodeCache(cache), undefined, blocks, {});
      const all = await Promise.all(small);
      const right = await measure(device, all);
      expect(right.problem).toBeUndefined();
      expect(right.ways.map((w) => w.way)).toEqual(['turn', 'chain', 'wide', 'shares', 'branches']);
      const places = right.kernels.map((k) => Math.min(k.virtualBlocks, k.share!));
      expect(places).toEqual(right.kernels.map((k) => k.share));
      expect(places.reduce((sum, n) => sum + n)).toBeLessThanOrEqual(4);
      const { ways, problem } = await measure(flawed(device), all);
      expect(ways).toEqual([]);
      expect(problem).toBe("gemm of mlp500 has other bits in the way 'branches' than in a word of its own");
    } finally {
      device.close();
    }
  });
});
