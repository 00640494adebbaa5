/**
 * @file Real models on every device that is here: fp32 within 1e-4 of what is expected, fp16 within 1e-2. And without a GPU, that NVRTC
 * compiles every kernel of theirs.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, openDevice, type Precision, saveArtefact } from '../../index.ts';
import { compare, tolerances } from '../../ir/compare.ts';
import { bytesOf } from '../../ir/tensor.ts';
import { loadNative } from '../../runtime/native.ts';
import { findHostCompiler } from '../../runtime/toolchain.ts';
import { type ModelCase, packageModels, sharedModels } from './catalogue.ts';

const probe = loadNative().probe();
const shared = await sharedModels();
const models = [...packageModels(), ...(shared ?? [])];
const withReason = (name: string, problem: string | undefined): string =>
  problem ? `${name} (not run: ${problem})` : name;

const noCompiler = findHostCompiler() ? undefined : 'no C++ compiler';
const noGpu = probe.cuda.devices.length > 0 ? probe.nvrtc.problem : (probe.cuda.problem ?? 'no GPU');

it.skipIf(shared)(withReason('models beside the checkout', shared ? undefined : 'no ../shared'), () => {
  throw new Error('only ever skipped');
});

/** Two tenants of the model: both right, and the same to the bit. */
async function check(device: Device, c: ModelCase, precision: Precision): Promise<void> {
  const model = await c.compile(precision);
  const { inputs, outputs } = await c.data(model);
  const program = await device.load([
    { name: 'a', model },
    { name: 'b', model },
  ]);
  try {
    const round = await program.run({ a: inputs, b: inputs });
    const isHalf = precision === 'fp16' || [...model.inputs, ...model.outputs].some((p) => p.dtype === 'f16');
    for (const { name } of model.outputs) {
      const got = round.outputs.a![name]!;
      const { largest, ok } = compare(got, outputs[name]!, isHalf ? tolerances.half : tolerances.wide);
      expect(ok, `${name}: largest error ${largest}`).toBe(true);
      expect(bytesOf(round.outputs.b![name]!)).toEqual(bytesOf(got));
    }
  } finally {
    program.close();
  }
}

for (const [kind, problem, precisions] of [
  ['host', noCompiler, ['fp32']],
  ['cuda', noGpu, ['fp32', 'fp16']],
] as const) {
  describe.skipIf(problem !== undefined)(withReason(`on ${kind}`, problem), () => {
    let device: Device;
    beforeAll(async () => void (device = await openDevice(kind)));
    afterAll(() => device.close());
    for (const precision of precisions) {
      for (const c of models) it(`${c.name} in ${precision}`, () => check(device, c, precision));
    }
  });
}

describe.skipIf(probe.nvrtc.problem !== undefined)(
  withReason('NVRTC compiles for sm_90', probe.nvrtc.problem),
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'wideword-sm90-'));
    afterAll(() => rmSync(folder, { recursive: true }));
    for (const precision of ['fp32', 'fp16'] as const) {
      for (const c of models) {
        it(`every kernel of ${c.name} in ${precision}`, async () => {
          const tenants = [{ name: 'a', model: await c.compile(precision) }];
          const saved = await saveArtefact(join(folder, 'model.wwa'), tenants, { targets: ['sm_90'] });
          expect(saved.code.sm_90).toBeGreaterThan(0);
        });
      }
    }
  },
);
