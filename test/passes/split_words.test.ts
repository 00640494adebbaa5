/** @file Wide words taken apart: what their slots run as, and in which order. */
import { describe, expect, it } from 'vitest';
import type { Slot, Task, Tenant, Variant, Word } from '../../ir/program.ts';
import { splitWords } from '../../passes/split_words.ts';

const variant = (key: string, blocks: number): Variant => ({
  classes: { generic: key, specialised: key },
  ...{ sizes: [], blocks, operands: [] },
  work: { flops: 1, bytes: 1, threads: 1, registers: 0, sharedBytes: 0, tensorCores: false },
});

/** A tenant whose kernels are of these classes, each with another schedule for two slots, which is also that for three. */
function tenant(name: string, ...keys: string[]): Tenant {
  const tasks = keys.map((key): Task => {
    const wider = [
      { from: 2, ...variant(`${key}2`, 20) },
      { from: 3, ...variant(`${key}3`, 30) },
    ];
    return { name: key, loc: [], ...variant(key, 10), wider };
  });
  const none = { inputs: [], outputs: [], weights: [], weightBytes: 0, arenaBytes: 0 };
  return { name, model: { name, target: 'sm_90', tasks, ...none } };
}

const tenants = [tenant('p', 'a', 'c'), tenant('q', 'a', 'b'), tenant('r', 'b', 'b')];
const tier = 'specialised';
const word = (classes: readonly string[], ...slots: Slot[]): Word => ({ tier, classes, slots });
const slot = (of: number, task: number, body: number, blocks: number): Slot => ({
  ...{ tenant: of, task, body, blocks },
});

describe('wide words taken apart', () => {
  const wide = word(['b3', 'a3'], slot(0, 0, 1, 7), slot(1, 0, 1, 8), slot(2, 0, 0, 9));
  const single = word(['c'], slot(0, 1, 0, 5));

  it('are words of one class, with the schedule for as many slots and all of its blocks', () => {
    expect(splitWords(tenants, [wide, single])).toEqual([
      word(['a2'], slot(0, 0, 0, 20), slot(1, 0, 0, 20)),
      word(['b'], slot(2, 0, 0, 10)),
      single,
    ]);
  });

  it('stay where they are said to', () => {
    expect(splitWords(tenants, [wide, single, wide], (w) => w === wide)).toEqual([wide, single, wide]);
  });

  it('leave what was cut as it began', () => {
    const part = (from: number, to: number): Slot => ({ ...slot(2, 1, 0, 2), range: { from, to } });
    const cut = [
      word(['b3', 'c3'], part(0, 13), slot(0, 1, 1, 30)),
      word(['b3', 'b'], part(13, 30), slot(1, 1, 1, 4)),
    ];
    expect(splitWords(tenants, cut)).toEqual([
      word(['b3'], { ...part(0, 13), blocks: 13 }),
      word(['c'], slot(0, 1, 0, 10)),
      word(['b3'], { ...part(13, 30), blocks: 17 }),
      word(['b'], slot(1, 1, 0, 10)),
    ]);
  });
});
