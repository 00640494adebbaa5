/**
 * @file Coalescing: every task once, in each tenant's order, one class a word; unlike chains are lined up at their ends.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Task, Tenant, WiderVariant, Word } from '../../ir/program.ts';
import { beside } from '../../passes/beside.ts';
import { coalesce, timeMultiplexed } from '../../passes/coalesce.ts';

/** A tenant whose tasks are of the classes that the letters name; a digit after a letter is its specialised class. */
function tenant(name: string, classes: readonly string[]): Tenant {
  const tasks = classes.map((c) => ({
    name: c,
    classes: { generic: c[0]!, specialised: c },
    sizes: [],
    blocks: 3,
    work: { flops: 1, bytes: 1, threads: 1, registers: 0, sharedBytes: 0, tensorCores: false },
    operands: [],
    loc: [],
  }));
  return {
    name,
    model: {
      name,
      target: 'host',
      inputs: [],
      outputs: [],
      tasks,
      weights: [],
      weightBytes: 0,
      arenaBytes: 0,
    },
  };
}

function check(tenants: readonly Tenant[], words: readonly Word[]): void {
  const done = tenants.map(() => 0);
  for (const word of words) {
    expect(word.classes).toHaveLength(1);
    expect(new Set(word.slots.map((s) => s.tenant)).size).toBe(word.slots.length);
    for (const slot of word.slots) {
      expect(slot.task).toBe(done[slot.tenant]!++);
      expect(tenants[slot.tenant]!.model.tasks[slot.task]!.classes[word.tier]).toBe(word.classes[0]);
    }
  }
  expect(done).toEqual(tenants.map((t) => t.model.tasks.length));
}

describe('coalesce', () => {
  it('marches replicas in step', () => {
    const tenants = [1, 2, 3].map((n) => tenant(`t${n}`, ['a1', 'b1', 'a2']));
    const words = coalesce(tenants, 'generic');
    check(tenants, words);
    expect(words.map((w) => w.slots.length)).toEqual([3, 3, 3]);
  });

  it('gives words the variants for their slots; beside others gives those of one slot another one', () => {
    const like = tenant('t', ['a1', 'b1']);
    const [task, plain] = like.model.tasks as [Task, Task];
    const variant = (from: number): WiderVariant => ({
      ...task,
      from,
      blocks: 10 * from,
      classes: { generic: `g${from}`, specialised: `s${from}` },
    });
    const tasks = [{ ...task, wider: [variant(1), variant(4)] }, plain];
    const tenants = [1, 2, 3, 4].map((n) => ({ name: `t${n}`, model: { ...like.model, tasks } }));
    const first = ([word]: readonly Word[]) => [word!.classes[0], word!.slots[0]!.blocks];
    for (const [count, by, withOthers] of [
      [1, ['a', 3], ['g1', 10]],
      [2, ['g1', 10], ['g1', 10]],
      [4, ['g4', 40], ['g4', 40]],
    ] as const) {
      const words = coalesce(tenants.slice(0, count), 'generic');
      expect(first(words)).toEqual(by);
      expect(first(beside(tenants, words))).toEqual(withOthers);
    }
    const words = coalesce([tenants[0]!], 'specialised');
    expect(first(beside(tenants, words))).toEqual(['s1', 10]);
    expect(beside(tenants, words, () => false)).toEqual(words);
    // What is cut is left as it is.
    const cut = words.map((w) => ({
      ...w,
      slots: w.slots.map((s) => ({ ...s, range: { from: 0, to: 2 } })),
    }));
    expect(beside(tenants, cut)).toEqual(cut);
    const [alone] = timeMultiplexed(tenants, beside(tenants, coalesce(tenants, 'generic')));
    expect([alone!.classes[0], alone!.slots[0]!.blocks]).toEqual(['a', 3]);
    const [turn] = timeMultiplexed(
      [like],
      [{ ...coalesce([like], 'generic')[0]!, slots: [{ tenant: 0, task: 0, body: 0, blocks: 1 }] }],
    );
    expect(turn!.slots[0]!.blocks).toBe(3);
  });

  it('lines up the common tails of unlike chains', () => {
    const tenants = [tenant('long', ['x1', 'a1', 'b1']), tenant('short', ['a2', 'b1'])];
    expect(coalesce(tenants, 'generic').map((w) => w.slots.length)).toEqual([1, 2, 2]);
  });

  it('keeps words as narrow as asked, with every task once', () => {
    const tenants = [1, 2, 3, 4, 5].map((n) => tenant(`t${n}`, ['a1', 'b1', 'a2']));
    for (const width of [1, 2, 3, 4, 5, 6]) {
      const words = coalesce(tenants, 'auto', width);
      check(tenants, words);
      expect(words).toHaveLength(3 * Math.ceil(5 / width));
      expect(Math.max(...words.map((w) => w.slots.length))).toBe(Math.min(width, 5));
    }
  });

  it('coalesces over sizes in the generic tier only', () => {
    const tenants = [tenant('one', ['a1']), tenant('two', ['a2'])];
    expect(coalesce(tenants, 'generic')).toHaveLength(1);
    expect(coalesce(tenants, 'specialised')).toHaveLength(2);
    expect(coalesce(tenants, 'auto').map((w) => w.tier)).toEqual(['generic']);
    expect(coalesce([tenants[0]!, tenants[0]!], 'auto').map((w) => w.tier)).toEqual(['specialised']);
  });

  it('keeps every task, once and in order, for any tenants', () => {
    const chain = fc.array(fc.constantFrom('a1', 'a2', 'b1', 'c1', 'c2'), { maxLength: 12 });
    fc.assert(
      fc.property(
        fc.array(chain, { minLength: 1, maxLength: 6 }),
        fc.constantFrom('generic', 'specialised', 'auto'),
        (chains, tier) => {
          const tenants = chains.map((c, n) => tenant(`t${n}`, c));
          const words = coalesce(tenants, tier);
          check(tenants, words);
          const inTurn = timeMultiplexed(tenants, words);
          check(tenants, inTurn);
          expect(inTurn.every((w) => w.slots.length === 1)).toBe(true);
        },
      ),
    );
  });
});
