/**
 * @file What the schedule pass expects of a model's tensor-core kernels on one H200 (passes/mma_time.ts): a line for each kernel, and sums. A
 * prediction, not a measurement: no GPU is needed.
 *
 *     npx tsx bench/estimate.ts MODEL --width 1,8 [--without layout] [--target sm_80] [--ptxas [--tier generic]]
 *
 * With `--ptxas` each kernel is compiled by NVRTC and by `ptxas -v`, and its line says what they took: registers, spills, seconds. Attention
 * then has a line as well; what it takes on a GPU is not estimated. `--maps` does so for the maps, and counts their code: instructions of
 * the PTX, and reads and writes of device memory by bytes; `--scalar` gives them one element a thread.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Command } from 'commander';
import { emitWord } from '../codegen/word.ts';
import { lowerOnnx } from '../compiler/index.ts';
import { readModelFile } from '../driver/model.ts';
import { attentionOf } from '../ir/attention.ts';
import { virtualBlocks } from '../ir/blocks.ts';
import { classOf, type Tier } from '../ir/class.ts';
import { contractionOf, volume } from '../ir/contraction.ts';
import type { Item } from '../ir/item.ts';
import type { Kernel, MapSchedule } from '../ir/kernel.ts';
import { attentionSharedBytes, mmaSharedBytes } from '../ir/mma.ts';
import { formatSchedule } from '../ir/print.ts';
import { targetOf } from '../ir/target.ts';
import { generate, parseRecipe } from '../models/index.ts';
import { type PassName, runPass } from '../passes/index.ts';
import { estimateMma } from '../passes/mma_time.ts';
import { loadNative } from '../runtime/native.ts';

/** Clocks of an H200's multiprocessor a microsecond, as measured under load. */
const clocks = 1755;

const command = new Command('estimate')
  .argument('<model>', 'an ONNX model, or the name of a generated one')
  .option('--width <list>', 'tenants of a word', '1,8')
  .option('--without <pass>', 'leaves out a pass')
  .option('--target <name>', 'a CUDA target', 'sm_90')
  .option('--ptxas', 'compiles the kernels and prints what they take', false)
  .option('--maps', 'compiles and counts maps in place of estimating tensor-core kernels', false)
  .option('--scalar', 'with --maps: one element a thread', false)
  .option('--tier <tier>', 'generic or specialised', 'specialised')
  .parse();
const options = command.opts<{
  width: string;
  without?: string;
  target: string;
  ptxas: boolean;
  maps: boolean;
  scalar: boolean;
  tier: Tier;
}>();
const widths = options.width.split(',').map(Number);
const target = targetOf(options.target);
const named = command.args[0]!;
const recipe = parseRecipe(named);
const lowered = lowerOnnx(recipe ? generate(recipe.name, 1, recipe.sizes) : await readModelFile(named), {
  name: 'model',
  shapes: {},
  precision: 'fp16',
});
const passes: readonly PassName[] = [
  'saturate',
  'fuse',
  'unround',
  'fuse-attention',
  'stack',
  'pack-channels',
  'layout',
  'channel-order',
  'schedule',
];
const [item] = passes
  .filter((name) => name !== options.without)
  .reduce<Item[]>((items, name) => runPass({ name }, items, target), [{ kind: 'module', module: lowered }]);
if (item?.kind !== 'module') throw new Error('a module stays a module');

/** Registers, spilled bytes and compile time of a kernel, and its PTX. */
async function resources(kernel: Kernel): Promise<{ readonly summary: string; readonly ptx: string }> {
  const { source } = emitWord([classOf(kernel, options.tier)], target);
  const start = performance.now();
  // Warpgroup instructions are of the architecture itself, not of those after it (as in runtime/native/nvrtc.cc).
  const suffix = target.wgmma ? 'a' : '';
  const { image } = await loadNative().compileCuda(source, target.name.replace('sm', 'compute') + suffix);
  const seconds = (performance.now() - start) / 1000;
  const folder = mkdtempSync(join(tmpdir(), 'ptxas-'));
  const file = join(folder, 'kernel.ptx');
  const ptx = Buffer.from(image).toString('latin1').replaceAll('\0', '');
  writeFileSync(file, ptx);
  const { stderr } = await promisify(execFile)(
    'ptxas',
    ['-v', `-arch=${target.name}${suffix}`, file, '-o', join(folder, 'out')],
    { timeout: 300_000 },
  );
  const total = (performance.now() - start) / 1000;
  rmSync(folder, { recursive: true });
  const registers = /Used (\d+) registers/.exec(stderr)?.[1];
  const spills = /(\d+) bytes spill stores/.exec(stderr)?.[1];
  const summary = `${registers} registers, ${spills} bytes spilled, NVRTC ${seconds.toFixed(1)} s, with ptxas ${total.toFixed(1)} s`;
  return { summary, ptx };
}

/** Instructions as they stand in the text, and accesses to device memory by their bytes. */
function countPtx(ptx: string): string {
  const body = ptx.slice(ptx.indexOf('.entry')).replace(/\/\/.*/g, '');
  const instructions = body
    .split(';')
    .filter((text) => !/^[\s{]*\.|^[\s})]*$/.test(text.slice(text.lastIndexOf('\n'))));
  const accesses = new Map<string, number>();
  for (const [, kind, count = '1', bits] of body.matchAll(
    /\b(ld|st)(?:\.global)?(?:\.nc)?(?:\.v(\d))?\.[bufs](\d+)/g,
  )) {
    const name = `${kind} ${(Number(count) * Number(bits)) / 8} B`;
    accesses.set(name, (accesses.get(name) ?? 0) + 1);
  }
  return `${instructions.length} instructions, ${[...accesses].map(([name, n]) => `${n} x ${name}`).join(', ')}`;
}

/** A line for each map: its blocks, and what it compiles to. */
async function printMaps(kernels: readonly Kernel[]): Promise<void> {
  const seen = new Set<string>();
  for (const chosen of kernels) {
    if (chosen.schedule?.skeleton !== 'map') continue;
    const { threads } = target;
    const plain: MapSchedule = { skeleton: 'map', threads, perThread: 1, vector: 1 };
    const kernel = options.scalar ? { ...chosen, schedule: plain } : chosen;
    const { key } = classOf(kernel, options.tier);
    if (seen.has(key)) continue;
    seen.add(key);
    const { summary, ptx } = await resources(kernel);
    const extents = kernel.domain.map((i) => i.extent).join('x');
    console.log(
      `${kernel.name} ${extents}  ${formatSchedule(kernel.schedule!)}, ${virtualBlocks(kernel)} blocks`,
    );
    console.log(`      ${summary}; ${countPtx(ptx)}`);
  }
}

if (options.maps) {
  await printMaps(item.module.calls.map((call) => call.kernel));
  process.exit(0);
}

const totals = widths.map(() => 0);
const rows = new Map<string, { kernel: Kernel; times: number }>();
function addRow(kernel: Kernel, ...columns: readonly string[]): void {
  const row = columns.join('  ');
  rows.set(row, { kernel, times: (rows.get(row)?.times ?? 0) + 1 });
}
let others = 0;
for (const { kernel } of item.module.calls) {
  const { schedule } = kernel;
  const c = contractionOf(kernel);
  if (schedule?.skeleton !== 'mma' || !c) {
    others++;
    const a = schedule?.skeleton === 'attention' && options.ptxas ? attentionOf(kernel) : undefined;
    if (a && schedule?.skeleton === 'attention')
      addRow(
        kernel,
        `attention of ${volume(a.batch)}x${volume(a.query)}x${a.key.extent}x${a.features.extent}`,
        `${attentionSharedBytes(a, schedule)} B`,
        formatSchedule(schedule),
      );
    continue;
  }
  const times = widths.map((width) => estimateMma(c, schedule, width, target) / clocks);
  for (const [n, t] of times.entries()) totals[n]! += t;
  const sides = [c.a, c.b].map((o) => `${o.positionFast ? 'p' : 'k'}${o.vector}`).join(' ');
  addRow(
    kernel,
    `${volume(c.m)}x${volume(c.n)}x${volume(c.k)} (${sides})`,
    ...times.map((t) => `${t.toFixed(1)} us`),
    `${mmaSharedBytes(c, schedule)} B`,
    formatSchedule(schedule),
  );
}
for (const [row, { kernel, times }] of rows) {
  console.log(`${times} x ${row}`);
  if (options.ptxas) console.log(`      ${(await resources(kernel)).summary}`);
}
for (const [n, width] of widths.entries())
  console.log(`R=${width}: ${totals[n]!.toFixed(0)} us predicted, ${others} other kernels not counted`);
