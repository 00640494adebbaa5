/**
 * @file Times the layers of ResNet-50 one by one on the GPU, f16, for one tenant and for several in one word; with `--sweep` under so many
 * candidate schedules, too, which is what the estimate in passes/mma_time.ts is held against.
 *
 *     node dist/bench/layers.js --width 1,8 [--sweep 40] [--channels-first]
 *
 * Weights come from device memory, as in a model's round: as many copies take turns as exceed the L2 cache.
 */
import { writeFileSync } from 'node:fs';
import { Command } from 'commander';
import { emitWord, entrySymbol } from '../codegen/word.ts';
import { virtualBlocks } from '../ir/blocks.ts';
import { classOf } from '../ir/class.ts';
import { type Contraction, contractionOf, volume } from '../ir/contraction.ts';
import type { Kernel, MmaSchedule } from '../ir/kernel.ts';
import { formatSchedule } from '../ir/print.ts';
import { scratchBytes, scratchOf } from '../ir/scratch.ts';
import { targetOf } from '../ir/target.ts';
import { byteSize, elementCount, type TensorType } from '../ir/types.ts';
import { verifyKernel } from '../ir/verify.ts';
import { mmaCandidates } from '../passes/mma_tile.ts';
import { estimateMma } from '../passes/mma_time.ts';
import { scheduleKernel } from '../passes/schedule.ts';
import { CodeCache } from '../runtime/cache.ts';
import { loadNative, type NativeBuffer, type NativeFunction } from '../runtime/native.ts';
import { cudaToolchain } from '../runtime/toolchain.ts';
import { type ConvShape, convKernel, matmulKernel } from '../test/codegen/kernels.ts';

interface Layer {
  readonly name: string;
  /** How often the model has it. */
  readonly times: number;
  readonly kernel: Kernel;
  readonly flops: number;
}

const options = new Command('layers')
  .option('--width <list>', 'tenants of a word', '1,8')
  .option(
    '--sweep <n>',
    'so many candidate schedules a layer: half the best by estimate, half from all over',
    '0',
  )
  .option('--json <file>', 'writes what was measured')
  .option('--only <text>', 'layers whose name has this')
  .option('--tier <tier>', 'generic or specialised', 'specialised')
  .option('--channels-first', 'pictures are NCHW, as without the layout pass', false)
  .parse()
  .opts<{
    width: string;
    sweep: string;
    only?: string;
    json?: string;
    tier: 'generic' | 'specialised';
    channelsFirst: boolean;
  }>();

const conv = (times: number, side: number, shape: Omit<ConvShape, 'size'>): Layer => {
  // The first layer reads the model's input, which stays NCHW.
  const channelsLast = !options.channelsFirst && shape.channels % 8 === 0;
  const kernel = convKernel({ ...shape, size: [side, side], dtype: 'f16', channelsLast });
  const { channels, outChannels, kernel: window, stride = 1, residual } = shape;
  const pixels = elementCount(kernel.outputs[0]!.shape) / shape.outChannels;
  return {
    name: `${side}² ${channels}→${outChannels} ${window[0]}x${window[1]}${stride > 1 ? `/${stride}` : ''}${residual ? ' +' : ''}`,
    times,
    kernel,
    flops: 2 * pixels * outChannels * channels * window[0] * window[1],
  };
};
const point = (times: number, side: number, channels: number, outChannels: number, more = {}): Layer =>
  conv(times, side, { channels, outChannels, kernel: [1, 1], ...more });
const window = (times: number, side: number, channels: number, stride = 1): Layer =>
  conv(times, side, {
    channels,
    outChannels: channels,
    kernel: [3, 3],
    pad: 1,
    stride,
    channelsInner: true,
  });

const layers: readonly Layer[] = [
  conv(1, 224, { channels: 3, outChannels: 64, kernel: [7, 7], stride: 2, pad: 3 }),
  point(1, 56, 64, 64),
  window(3, 56, 64),
  point(4, 56, 64, 256, { residual: true }),
  point(2, 56, 256, 64),
  point(1, 56, 256, 128),
  window(1, 56, 128, 2),
  window(3, 28, 128),
  point(4, 28, 128, 512, { residual: true }),
  point(1, 56, 256, 512, { stride: 2 }),
  point(3, 28, 512, 128),
  point(1, 28, 512, 256),
  window(1, 28, 256, 2),
  window(5, 14, 256),
  point(6, 14, 256, 1024, { residual: true }),
  point(1, 28, 512, 1024, { stride: 2 }),
  point(5, 14, 1024, 256),
  point(1, 14, 1024, 512),
  window(1, 14, 512, 2),
  window(2, 7, 512),
  point(3, 7, 512, 2048, { residual: true }),
  point(1, 14, 1024, 2048, { stride: 2 }),
  point(2, 7, 2048, 512),
  {
    name: 'fc 2048→1000',
    times: 1,
    kernel: matmulKernel(1, 1, 1000, 2048, true, 'f16'),
    flops: 2 * 1000 * 2048,
  },
];

const widths = options.width.split(',').map(Number);
const sweep = Number(options.sweep);
const device = loadNative().openCuda(0);
const target = targetOf(device.target);
const toolchain = cudaToolchain(device.target);
const cache = new CodeCache();
const buffers: NativeBuffer[] = [];

function filled(type: TensorType): NativeBuffer {
  const bytes = Math.max(16, byteSize(type));
  const buffer = device.allocate(bytes);
  // Halves between 1/16 and 1, of either sign: zeros would run faster than data does.
  const data = new Uint16Array(bytes / 2).map(
    () => (0x2c00 + Math.floor(Math.random() * 0x1000)) | (Math.random() < 0.5 ? 0x8000 : 0),
  );
  device.write({ buffer, offset: 0, data: new Uint8Array(data.buffer) });
  buffers.push(buffer);
  return buffer;
}

/** Memory of so many bytes, zeros. */
function room(bytes: number): Operands[number] {
  const buffer = device.allocate(bytes);
  buffers.push(buffer);
  return { buffer, offset: 0, bytes };
}

async function build(
  kernel: Kernel,
): Promise<{ code: NativeFunction; threads: number; sharedBytes: number }> {
  const { entry, source, threads, sharedBytes } = emitWord([classOf(kernel, options.tier)], target);
  const key = CodeCache.key(source, toolchain.identity);
  const path =
    (await cache.find(key, 'cubin')) ??
    (await cache.put(key, 'cubin', (file) => toolchain.compile(source, file)));
  return { code: device.load(await CodeCache.read(path), entrySymbol(entry, target)), threads, sharedBytes };
}

/** Microseconds of one word of `width` tenants. */
async function time(kernel: Kernel, width: number, copies: readonly Operands[][]): Promise<number> {
  const { code, threads, sharedBytes } = await build(kernel);
  const sizes = classOf(kernel, options.tier).sizes.values;
  const blocks = virtualBlocks(kernel);
  const scratch = Array.from({ length: width }, () => scratchOf(kernel).map((s) => room(scratchBytes(s))));
  const words = copies.map((tenants) => ({
    code,
    threads,
    sharedBytes,
    slots: tenants.slice(0, width).map((operands, tenant) => ({
      tenant,
      body: 0,
      begin: 0,
      end: blocks,
      blocks,
      operands: [...operands, ...scratch[tenant]!],
      sizes: options.tier === 'generic' ? sizes : [],
    })),
  }));
  const program = device.createProgram(words);
  const active = Array.from({ length: width }, (_, t) => t);
  await program.time(active, 3);
  const rounds = [...(await program.time(active, 15))].sort((a, b) => a - b);
  program.close();
  return (rounds[7]! * 1000) / words.length;
}

/** Half of `count` are the best by estimate, at each width in turn; half are spread over the rest. */
function candidates(c: Contraction, count: number): MmaSchedule[] {
  const all = [...mmaCandidates(c, target)];
  const ranked = widths.map((w) => {
    const estimates = new Map(all.map((s) => [s, estimateMma(c, s, w, target)]));
    return [...all].sort((a, b) => estimates.get(a)! - estimates.get(b)!);
  });
  const best = new Set(all.flatMap((_, i) => ranked.map((r) => r[i]!)).slice(0, count / 2));
  const rest = ranked[0]!.filter((s) => !best.has(s));
  const stride = Math.max(1, rest.length / (count - best.size));
  return [...best, ...rest.filter((_, i) => Math.floor(i / stride) > Math.floor((i - 1) / stride))];
}

type Operands = { buffer: NativeBuffer; offset: number; bytes: number }[];

const measured: object[] = [];
const total = new Map(widths.map((w) => [w, 0]));
const chosenTotal = new Map(widths.map((w) => [w, 0]));
for (const layer of layers) {
  if (options.only && !layer.name.includes(options.only)) continue;
  const { kernel: plain } = layer;
  const c = contractionOf(plain)!;
  const most = Math.max(...widths);
  const weights = plain.inputs[1]!;
  const count = Math.max(4, Math.min(16, Math.ceil(128e6 / (byteSize(weights) * most))));
  const fixed = Array.from({ length: most }, () => ({
    inputs: plain.inputs.map((b) => filled(b)),
    output: filled(plain.outputs[0]!),
  }));
  const whole = (buffer: NativeBuffer) => ({ buffer, offset: 0, bytes: buffer.bytes });
  const copies = Array.from({ length: count }, () =>
    fixed.map(({ inputs, output }) => [
      ...inputs.map((b, i) => whole(i === 1 ? filled(weights) : b)),
      whole(output),
    ]),
  );
  const chosen = scheduleKernel(plain, target);
  const isMma = chosen.schedule!.skeleton === 'mma';
  const schedules = new Map(
    [chosen.schedule!, ...(isMma && sweep > 0 ? candidates(c, sweep) : [])].map((s) => [
      formatSchedule(s),
      s,
    ]),
  );
  const kernels = [...schedules.values()]
    .map((schedule) => ({ ...plain, schedule }))
    .filter((k) => verifyKernel(k).length === 0);
  await Promise.all(kernels.map(build));
  const rows: { readonly kernel: (typeof kernels)[0]; readonly times: readonly number[] }[] = [];
  for (const kernel of kernels) {
    const times: number[] = [];
    for (const width of widths) times.push(await time(kernel, width, copies));
    rows.push({ kernel, times });
  }
  for (const b of buffers.splice(0)) device.release(b);
  const text = ({ kernel, times }: (typeof rows)[0]): string =>
    [
      ...times.map((t, n) => `${t.toFixed(1)} us ${((layer.flops * widths[n]!) / t / 1e6).toFixed(0)} TF`),
      kernel.schedule.skeleton === 'mma'
        ? `(est ${widths.map((w) => (estimateMma(c, kernel.schedule as never, w, target) / 1755).toFixed(1)).join(' ')})`
        : '',
      formatSchedule(kernel.schedule),
    ].join('  ');
  const mine = rows.find((r) => formatSchedule(r.kernel.schedule) === formatSchedule(chosen.schedule!))!;
  console.log(`${layer.name} x${layer.times}:  ${text(mine)}`);
  if (sweep > 0) {
    const score = (r: (typeof rows)[0]): number => r.times.reduce((a, b) => a + b, 0);
    for (const r of rows.sort((a, b) => score(a) - score(b))) console.log(`    ${text(r)}`);
  }
  measured.push({
    name: layer.name,
    times: layer.times,
    batch: volume(c.batch),
    ...{ m: volume(c.m), n: volume(c.n), k: volume(c.k) },
    sides: [c.a, c.b].map((o) => ({
      vector: o.vector,
      guards: o.guards.length,
      inner: o.inner?.extent ?? 0,
    })),
    rows: rows.map((r) => ({ schedule: r.kernel.schedule, times: r.times })),
  });
  widths.forEach((w, n) => {
    chosenTotal.set(w, chosenTotal.get(w)! + layer.times * mine.times[n]!);
    total.set(w, total.get(w)! + layer.times * Math.min(...rows.map((r) => r.times[n]!)));
  });
}
for (const w of widths)
  console.log(
    `R=${w}: ${chosenTotal.get(w)!.toFixed(0)} us of contractions as chosen${sweep > 0 ? `, ${total.get(w)!.toFixed(0)} us with the best of the sweep` : ''}`,
  );
if (options.json) writeFileSync(options.json, JSON.stringify(measured));
device.close();
