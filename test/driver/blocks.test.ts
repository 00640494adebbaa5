/**
 * @file Times on numbers of blocks: measured by `measureBlocks` and `tune`, kept, found again by a task in either tier, and never trusted
 * where they are damaged or of another device.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BlockTable } from '../../driver/block_table.ts';
import { blockCounts } from '../../driver/measure_blocks.ts';
import { compileModel, type Device, type Model, openDevice } from '../../index.ts';
import { mlpModel } from '../support/models.ts';

let dir: string;
let device: Device;
let model: Model;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'wideword-blocks-'));
  device = await openDevice('host', { threads: 2, cacheDir: dir });
  model = await compileModel(mlpModel([20, 333, 40]), { name: 'mlp' });
});
afterEach(() => {
  device.close();
  rmSync(dir, { recursive: true });
});

const files = (): string[] => {
  const root = join(dir, 'blocks/host');
  if (!existsSync(root)) return [];
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.json'))
    .map((name) => join(root, name));
};
const tableOf = (units = 2): BlockTable => new BlockTable(dir, 'host', undefined, units);

describe('Device.measureBlocks', () => {
  it('keeps what it measured where tasks of either tier find it', async () => {
    const measured = await device.measureBlocks([model]);
    const { tasks } = model.compiledFor('host');
    expect(measured.map((k) => k.virtualBlocks)).toEqual(tasks.map((t) => t.blocks));
    expect(files()).toHaveLength(tasks.length);
    for (const [n, task] of tasks.entries()) {
      expect(measured[n]!.times.map((t) => t.blocks)).toEqual(blockCounts(task.blocks, 2));
      for (const tier of ['generic', 'specialised'] as const) {
        expect(tableOf().find(task, tier)?.times).toEqual(measured[n]!.times);
        expect(tableOf().timeOf(task, tier).measured).toBe(true);
      }
    }
  });

  it('does not keep what is measured in another way', async () => {
    await device.measureBlocks([model], { width: 2 });
    await device.measureBlocks([model], { blocks: [1] });
    expect(files()).toEqual([]);
    await expect(device.measureBlocks([model], { blocks: [0] })).rejects.toThrow(RangeError);
    await expect(device.measureBlocks([model], { width: 1.5 })).rejects.toThrow(RangeError);
  });

  it('is part of tuning, once for each winner', async () => {
    await device.tune([model], { widths: [1] });
    expect(files()).toHaveLength(2);
    const before = files().map((f) => readFileSync(f, 'utf8'));
    await device.tune([model], { widths: [1] });
    expect(files().map((f) => readFileSync(f, 'utf8'))).toEqual(before);
    for (const f of files()) rmSync(f);
    await device.tune([model], { widths: [1] });
    expect(files()).toHaveLength(2);
  });
});

describe('the table', () => {
  it('estimates where nothing was measured, where the device is another, and where a file is damaged', async () => {
    const [task] = model.compiledFor('host').tasks;
    const estimate = tableOf().timeOf(task!, 'generic');
    expect(estimate.measured).toBe(false);
    expect(estimate.curve.places).toBe(2);
    await device.measureBlocks([model]);
    expect(tableOf(4).timeOf(task!, 'generic').measured).toBe(false);
    expect(new BlockTable(dir, 'host', 'another', 2).timeOf(task!, 'generic').measured).toBe(false);
    expect(tableOf().timeOf({ ...task!, blocks: task!.blocks + 1 }, 'generic').measured).toBe(false);
    for (const broken of ['', '{', '[]', '{"format":1}', 'null']) {
      await device.measureBlocks([model]);
      for (const f of files()) writeFileSync(f, broken);
      expect(tableOf().timeOf(task!, 'generic')).toEqual(estimate);
    }
    await device.measureBlocks([model]);
    for (const f of files()) {
      const entry = JSON.parse(readFileSync(f, 'utf8'));
      writeFileSync(f, JSON.stringify({ ...entry, times: [{ blocks: 0, milliseconds: 1 }] }));
    }
    expect(tableOf().timeOf(task!, 'generic')).toEqual(estimate);
  });
});
