/**
 * @file `wideword bench constrain` on the host: what it measures, that it prints nothing of a kernel whose bits change, and how it picks.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { representatives } from '../../cli/bench/constrain.ts';
import type { Candidate, KernelTimer } from '../../driver/kernel_timer.ts';
import { blockCounts, plateau, timeBlocks } from '../../driver/measure_blocks.ts';
import { hostTarget } from '../../ir/target.ts';
import { tensorOf } from '../../ir/tensor.ts';
import { scheduleKernel } from '../../passes/schedule.ts';
import { attentionKernel, convKernel, matmulKernel, softmaxKernel } from '../codegen/kernels.ts';

const main = 'dist/cli/main.js';
const folder = mkdtempSync(join(tmpdir(), 'wideword-constrain-'));
const file = (name: string): string => join(folder, name);

beforeAll(() => {
  if (!existsSync(main)) throw new Error(`${main} is not built: run npm run build`);
});
afterAll(() => rmSync(folder, { recursive: true }));

function constrain(...args: string[]) {
  const all = [main, 'bench', 'constrain', ...args, '--device', 'host', '--threads', '2'];
  const env = { ...process.env, WIDEWORD_CACHE: file('cache') };
  const { status, stdout, stderr } = spawnSync(process.execPath, all, { encoding: 'utf8', env });
  return { status, stdout, stderr };
}

/** Rows of 1x1000 by 1000x256: tiles of 64 give four virtual blocks, or fewer and wider ones. */
const model = 'mlp:width=512,layers=2';

describe('wideword bench constrain', () => {
  it('--json has a time for every number of blocks, and --plot draws them', () => {
    const plot = file('plot.svg');
    const { status, stdout, stderr } = constrain(model, '--kernel', 'all', '--json', '--plot', plot);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ ok: true, model, precision: 'fp32', width: 1 });
    expect(report.kernels.length).toBeGreaterThan(0);
    for (const k of report.kernels) {
      expect(k.times.map((t: { blocks: number }) => t.blocks)).toEqual(blockCounts(k.virtualBlocks, 2));
      for (const t of k.times) expect(t.milliseconds).toBeGreaterThan(0);
      expect(k.plateau).toBe(plateau(k.times));
    }
    expect(readFileSync(plot, 'utf8').match(/<polyline/g)).toHaveLength(report.kernels.length);
  });

  it('prints a table of the kernels and the blocks that are asked for', () => {
    const args = [model, '--kernel', 'gemm_relu', '--blocks', '3,1', '--width', '2', '--precision', 'fp16'];
    const { status, stdout } = constrain(...args);
    expect(status).toBe(0);
    expect(stdout).toMatch(
      /^mlp:width=512,layers=2, fp16, words of 2 tenants, on host, 2 threads \(host\)\n/,
    );
    expect(stdout).toMatch(/\nkernel +first from +virtual +on 1 +on 3 +on all +within 10 %\n/);
    expect(stdout).toMatch(/\ngemm_relu +gemm\d* +8( +[\d.]+ [mµ]s){3} +\d \([\d.]+ %\)\n/);
  });

  const misuses: readonly [string, readonly string[], RegExp][] = [
    [
      'a kernel that the model has not',
      [model, '--kernel', 'conv'],
      /no kernel 'conv': gemm_relu.*, or all$/,
    ],
    ['no blocks', [model, '--blocks', '0'], /expected a whole number from 1, got '0'/],
    ['a model that is nowhere', ['nowhere'], /nowhere: no such file, and the generated models are /],
    ['an option of bench', [model, '--tenants', '2'], /unknown option '--tenants'/],
  ];
  it.each(misuses)('%s is one clear line', (_, args, message) => {
    const { status, stdout, stderr } = constrain(...args);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr.split('\n')[0]).toMatch(message);
  });
});

describe('numbers of blocks', () => {
  it('are powers of two, multiples of the units, and all', () => {
    expect(blockCounts(1, 132)).toEqual([1]);
    expect(blockCounts(7, 2)).toEqual([1, 2, 4, 6, 7]);
    expect(blockCounts(300, 132)).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 132, 256, 264, 300]);
  });

  it('of the plateau are the fewest that cost at most a tenth', () => {
    const times = [40, 21, 11, 10, 10.5].map((milliseconds, n) => ({ blocks: 2 ** n, milliseconds }));
    expect(plateau(times)).toBe(4);
    expect(plateau([])).toBeUndefined();
  });

  it('at which the bits are others have no times', async () => {
    const timed: number[] = [];
    const timer = {
      outputsOf: ({ blocks = 4 }: Candidate) =>
        Promise.resolve([tensorOf('f32', [1], [blocks === 2 ? -0 : 0])]),
      time: (candidates: readonly Candidate[]) => {
        timed.push(candidates.length);
        return Promise.resolve(candidates.map(() => 1));
      },
    } as unknown as KernelTimer;
    const candidate = {} as Candidate;
    expect(await timeBlocks(timer, candidate, 1, [1, 2, 4])).toEqual({
      times: [],
      problem: 'other bits on 2 blocks than on all',
    });
    expect(timed).toEqual([]);
    expect((await timeBlocks(timer, candidate, 1, [1, 4])).times).toHaveLength(2);
  });
});

describe('kernels that stand for a model', () => {
  const conv = (channels: number, side: number) =>
    scheduleKernel(
      convKernel({ channels, outChannels: 16, size: [12, 12], kernel: [side, side], pad: side >> 1 }),
      hostTarget,
    );
  const product = (k: number) => scheduleKernel(matmulKernel(1, 64, 64, k, false, 'f32'), hostTarget);
  const softmax = scheduleKernel(softmaxKernel(20, 70), hostTarget);

  it('are the costliest 3x3 convolution, matrix product and attention', () => {
    const attention = attentionKernel({ heads: 2, queries: 32, keys: 64, features: 16, mask: false });
    const [small, large, seven] = [conv(4, 3), conv(8, 3), conv(64, 7)];
    const [narrow, wide] = [product(8), product(32)];
    expect(representatives([small, large, seven, narrow, wide, softmax, attention])).toEqual([
      large,
      wide,
      attention,
    ]);
  });

  it('are what there is where some of these are not', () => {
    expect(representatives([product(8), product(32)])).toHaveLength(1);
    expect(representatives([conv(4, 7), softmax])).toHaveLength(1);
    expect(representatives([softmax])).toEqual([softmax]);
  });
});
