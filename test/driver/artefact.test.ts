/**
 * @file Artefacts: the same results with no compile, and every damage is an InputError.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseArtefact } from '../../driver/artefact.ts';
import {
  compileModel,
  type Device,
  InputError,
  loadArtefact,
  openDevice,
  saveArtefact,
} from '../../index.ts';
import { bytesOf } from '../../ir/tensor.ts';
import { convModel, mlpModel } from '../support/models.ts';
import { randomTensor } from '../support/random.ts';

const folder = mkdtempSync(join(tmpdir(), 'wideword-artefact-'));
const path = join(folder, 'two.wwa');
let device: Device;
let bytes: Uint8Array;
beforeAll(async () => {
  device = await openDevice('host', { threads: 1 });
  const mlp = await compileModel(mlpModel([20, 33, 12]), { name: 'mlp' });
  const conv = await compileModel(convModel(), { name: 'conv' });
  await saveArtefact(
    path,
    [
      { name: 'a', model: mlp },
      { name: 'b', model: mlp },
      { name: 'c', model: conv },
    ],
    { targets: ['host'] },
  );
  bytes = readFileSync(path);
});
afterAll(() => {
  device.close();
  rmSync(folder, { recursive: true });
});

describe('an artefact', () => {
  it('gives the bits of its models, compiling nothing', async () => {
    const artefact = await loadArtefact(path);
    expect(artefact.targets).toEqual(['host']);
    expect(artefact.tenants.map((t) => t.name)).toEqual(['a', 'b', 'c']);
    const requests = {
      a: { x: randomTensor('f32', [1, 20], 1) },
      c: { x: randomTensor('f32', [1, 3, 12, 12], 2) },
    };
    const loaded = await device.load(artefact.tenants, { tier: artefact.tier });
    expect(loaded.stats).toMatchObject({ compiled: 0, cached: 0 });
    expect(loaded.stats.shipped).toBeGreaterThan(3);
    const fresh = await device.load([
      { name: 'a', model: await compileModel(mlpModel([20, 33, 12])) },
      { name: 'c', model: await compileModel(convModel()) },
    ]);
    const [got, expected] = [await loaded.run(requests), await fresh.run(requests)];
    for (const t of ['a', 'c']) expect(bytesOf(got.outputs[t]!.y!)).toEqual(bytesOf(expected.outputs[t]!.y!));
  });

  it('leaves nothing half-written beside it', () => expect(readdirSync(folder)).toEqual(['two.wwa']));

  it('for another target is refused with what it was compiled for', async () => {
    const { tenants } = parseArtefact(bytes, 'two.wwa');
    expect(() => tenants[0]!.model.compiledFor('sm_90')).toThrow(
      /compiled for host, not for sm_90: compile it with --target sm_90/,
    );
  });

  it('of another format is refused', () => {
    const other = Buffer.from(bytes);
    other.writeUInt32LE(99, 8);
    expect(() => parseArtefact(other, 'x')).toThrow(/artefact format 99/);
  });

  it('cut short anywhere, or with any byte changed, is refused', () => {
    for (let n = 0; n < 200; n++) {
      const length = n < 60 ? n : Math.floor((bytes.length * (n - 60)) / 140);
      expect(() => parseArtefact(bytes.subarray(0, length), 'x')).toThrow(InputError);
      const flipped = Buffer.from(bytes);
      const at = Math.floor((bytes.length * n) / 200);
      flipped[at]! ^= 0x10;
      expect(() => parseArtefact(flipped, 'x')).toThrow(InputError);
    }
  });

  it('cannot be written where there is no folder', async () => {
    const { tenants } = parseArtefact(bytes, 'two.wwa');
    await expect(saveArtefact(join(folder, 'no/such/x.wwa'), tenants, { targets: ['host'] })).rejects.toThrow(
      /cannot write/,
    );
  });
});

describe('wide words of an artefact', () => {
  const wideOf = async (file: string) => {
    const { tenants, tier } = await loadArtefact(file);
    const program = await device.load(tenants, { tier, words: 'wide' });
    const { outputs } = await program.run({
      a: { x: randomTensor('f32', [1, 20], 1) },
      c: { x: randomTensor('f32', [1, 3, 12, 12], 2) },
    });
    program.close();
    return { program, bits: [outputs.a!.y!, outputs.c!.y!].map(bytesOf) };
  };

  it('run on the code that was saved for them, and are coalesced where there is none', async () => {
    const plain = await wideOf(path);
    expect(plain.program.stats.compiled + plain.program.stats.cached).toBe(0);
    expect(plain.program.plan.words.every((w) => w.classes.length === 1)).toBe(true);
    expect(plain.program.plan.notes).toEqual([
      'some words are narrower than they could be: the artefact has no code for all of their classes',
    ]);

    const mlp = await compileModel(mlpModel([20, 33, 12]), { name: 'mlp' });
    const conv = await compileModel(convModel(), { name: 'conv' });
    const file = join(folder, 'wide.wwa');
    const tenants = [mlp, mlp, conv].map((model, n) => ({ name: 'abc'[n]!, model }));
    await saveArtefact(file, tenants, { targets: ['host'], words: 'wide' });
    const wide = await wideOf(file);
    expect(wide.program.stats.compiled + wide.program.stats.cached).toBe(0);
    expect(wide.program.plan.words.some((w) => w.classes.length > 1)).toBe(true);
    expect(wide.bits).toEqual(plain.bits);
    // And of one class each, as ever.
    const artefact = await loadArtefact(file);
    const coalesced = await device.load(artefact.tenants, { tier: artefact.tier });
    expect(coalesced.stats).toMatchObject({ compiled: 0, cached: 0 });
    expect(coalesced.plan.notes).toEqual([]);
    coalesced.close();
  });
});
