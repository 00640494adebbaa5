/**
 * @file The pack pass: every block once and in order, few codes, what pays side by side and what does not apart; and the times and codes
 * that it goes by.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Resources } from '../../ir/occupancy.ts';
import { codeKey, type Task, type Tenant, type Variant, type Word } from '../../ir/program.ts';
import { hostTarget, type Target, targetOf } from '../../ir/target.ts';
import { coalesce, tiers, timeMultiplexed } from '../../passes/coalesce.ts';
import { chooseCodes, FusedCodes } from '../../passes/fused_codes.ts';
import { type Packed, type PackOptions, pack, type TaskTime } from '../../passes/pack.ts';
import { splitWords } from '../../passes/split_words.ts';
import { shapeWord } from '../../passes/word_time.ts';

/** A kernel: its class, its milliseconds a virtual block, how many it has, and what its code takes. */
interface Kind {
  readonly round: number;
  readonly blocks: number;
  readonly resources?: Partial<Resources>;
}

const sm90 = targetOf('sm_90');
const plain: Resources = { threads: 128, registers: 32, sharedBytes: 0 };

/** A tenant whose tasks are of these kinds, by name; `a1` and `a2` are of one generic class. */
function tenantOf(name: string, chain: readonly string[], kinds: Readonly<Record<string, Kind>>): Tenant {
  const tasks = chain.map((c): Task => {
    const { blocks, resources } = kinds[c]!;
    const work = { flops: 1, bytes: 1, tensorCores: false, ...plain, ...resources };
    const classes = { generic: c.replace(/\d/, ''), specialised: c };
    return { name: c, classes, sizes: [], blocks, work, operands: [], loc: [] };
  });
  const memory = { weights: [], weightBytes: 0, arenaBytes: 0 };
  return { name, model: { name, target: 'host', inputs: [], outputs: [], tasks, ...memory } };
}

const fixed = 0.002;

function optionsFor(
  kinds: Readonly<Record<string, Kind>>,
  target: Target,
  units: number,
  more: Partial<PackOptions> = {},
): PackOptions {
  const timeOf = ({ name, work }: Variant & { readonly name?: string }): TaskTime => ({
    curve: { fixed, round: kinds[name!]!.round, places: units },
    resources: work,
    measured: true,
  });
  return { tier: 'generic', target, units, timeOf, ...more };
}

/** Every virtual block once, each tenant's tasks in order, one slot a tenant in a word, bodies and tiers in order. */
function check(tenants: readonly Tenant[], { words, predicted }: Packed): void {
  expect(predicted).toHaveLength(words.length);
  for (const ms of predicted) expect(ms).toBeGreaterThan(0);
  const next = tenants.map(() => ({ task: 0, done: 0 }));
  for (const word of words) {
    expect(new Set(word.slots.map((s) => s.tenant)).size).toBe(word.slots.length);
    expect(new Set(word.classes).size).toBe(word.classes.length);
    for (const slot of word.slots) {
      const at = next[slot.tenant]!;
      const task = tenants[slot.tenant]!.model.tasks[at.task]!;
      expect(slot.task).toBe(at.task);
      expect(word.classes[slot.body]).toBe(task.classes[word.tier]);
      const { from, to } = slot.range ?? { from: 0, to: task.blocks };
      expect(from).toBe(at.done);
      expect(slot.blocks).toBeGreaterThanOrEqual(1);
      expect(slot.blocks).toBeLessThanOrEqual(to - from);
      next[slot.tenant] = to < task.blocks ? { ...at, done: to } : { task: at.task + 1, done: 0 };
    }
  }
  expect(next).toEqual(tenants.map((t) => ({ task: t.model.tasks.length, done: 0 })));
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const tasksIn = (tenants: readonly Tenant[], word: Word): string[] =>
  word.slots.map((s) => tenants[s.tenant]!.model.tasks[s.task]!.name).sort();

describe('pack', () => {
  it('runs unlike kernels that do not fill the device side by side', () => {
    const kinds = { a: { round: 1, blocks: 40 }, b: { round: 1, blocks: 50 } };
    const tenants = [tenantOf('p', ['a', 'a'], kinds), tenantOf('q', ['b', 'b'], kinds)];
    const packed = pack(tenants, optionsFor(kinds, sm90, 132));
    check(tenants, packed);
    expect(packed.words.map((w) => tasksIn(tenants, w))).toEqual([
      ['a', 'b'],
      ['a', 'b'],
    ]);
    expect(sum(packed.predicted)).toBeCloseTo(2 * (1 + fixed), 6);
  });

  it('leaves kernels that fill it apart, as side by side they would gain next to nothing', () => {
    const kinds = { a: { round: 1, blocks: 132 * 4 }, b: { round: 1, blocks: 132 * 4 } };
    const tenants = [tenantOf('p', ['a', 'a'], kinds), tenantOf('q', ['b', 'b'], kinds)];
    const packed = pack(tenants, optionsFor(kinds, sm90, 132));
    check(tenants, packed);
    expect(packed.words.every((w) => w.classes.length === 1)).toBe(true);
  });

  it('leaves kernels apart whose common code would hold too few blocks of one of them', () => {
    const kinds = {
      a: { round: 1, blocks: 250 },
      b: { round: 1, blocks: 14, resources: { registers: 255, threads: 256 } },
    };
    const tenants = [tenantOf('p', ['a'], kinds), tenantOf('q', ['b'], kinds)];
    // Two blocks of `a` on a multiprocessor, one with the registers of `b`.
    const timeOf = ({ name, work }: Variant & { readonly name?: string }): TaskTime => ({
      curve: { fixed, round: 1, places: name === 'a' ? 264 : 132 },
      resources: work,
      measured: true,
    });
    const packed = pack(tenants, { ...optionsFor(kinds, sm90, 132), timeOf });
    check(tenants, packed);
    expect(packed.words.every((w) => w.classes.length === 1)).toBe(true);
    const light = { ...kinds, b: { round: 1, blocks: 14 } };
    const lighter = [tenantOf('p', ['a'], light), tenantOf('q', ['b'], light)];
    expect(pack(lighter, optionsFor(light, sm90, 264)).words).toHaveLength(1);
  });

  it('cuts a task that is longer than the leading one, so that nobody waits for it', () => {
    // The chain of p is longest. Beside each of its tasks there is room for a quarter of the task of q.
    const kinds = { a: { round: 1, blocks: 66 }, b: { round: 1, blocks: 264 } };
    const tenants = [tenantOf('p', ['a', 'a', 'a', 'a', 'a', 'a'], kinds), tenantOf('q', ['b'], kinds)];
    const packed = pack(tenants, optionsFor(kinds, sm90, 132));
    check(tenants, packed);
    expect(packed.words).toHaveLength(6);
    const cut = packed.words.flatMap((w) => w.slots.filter((s) => s.tenant === 1));
    expect(cut.map((s) => s.range)).toEqual([
      { from: 0, to: 66 },
      { from: 66, to: 132 },
      { from: 132, to: 198 },
      { from: 198, to: 264 },
    ]);
    expect(sum(packed.predicted)).toBeCloseTo(6 * (1 + fixed), 6);
    check(tenants, {
      ...packed,
      words: timeMultiplexed(tenants, packed.words),
      predicted: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    });
  });

  it('still puts tasks of one class together', () => {
    const kinds = {
      a1: { round: 1, blocks: 10 },
      a2: { round: 1, blocks: 12 },
      b1: { round: 1, blocks: 10 },
    };
    const chains = [['a1', 'b1'], ['a2', 'b1'], ['b1'], ['b1']];
    const tenants = chains.map((c, n) => tenantOf(`t${n}`, c, kinds));
    const generic = pack(tenants, optionsFor(kinds, sm90, 132));
    check(tenants, generic);
    expect(generic.words).toHaveLength(2);
    expect(generic.words[0]!.slots).toHaveLength(4);
    // Sizes differ in the first word and not in the second.
    const auto = pack(tenants, optionsFor(kinds, sm90, 132, { tier: 'auto' }));
    check(tenants, auto);
    expect(auto.words.map((w) => w.tier)).toEqual(['generic', 'specialised']);
  });

  it('uses the codes that there are, and says if it lacks some', () => {
    const kinds = Object.fromEntries(['a', 'b', 'c'].map((c) => [c, { round: 1, blocks: 10 }]));
    const tenants = ['a', 'b', 'c'].map((c) => tenantOf(c, [c, c], kinds));
    const run = (given: string[][]): Packed => {
      const packed = pack(tenants, optionsFor(kinds, sm90, 132, { given }));
      check(tenants, packed);
      return packed;
    };
    const none = run([]);
    expect(none.words.every((w) => w.classes.length === 1)).toBe(true);
    expect(none.lacksCode).toBe(true);
    const all = run([['c', 'x', 'a', 'b']]);
    expect(all.words.map((w) => w.classes)).toEqual([
      ['c', 'x', 'a', 'b'],
      ['c', 'x', 'a', 'b'],
    ]);
    expect(all.lacksCode).toBe(false);
    expect(
      run([['a', 'c']])
        .words.filter((w) => w.slots.length === 2)
        .every((w) => codeKey(w) === 'a+c'),
    ).toBe(true);
  });

  it('runs every block once and in order, on few codes, whatever it is given', () => {
    const names = ['a1', 'a2', 'b1', 'c1', 'd1', 'e1', 'e2', 'f1'];
    const kind = fc.record({
      round: fc.double({ min: 0.0001, max: 3, noNaN: true }),
      blocks: fc.integer({ min: 1, max: 400 }),
      resources: fc.record({
        threads: fc.constantFrom(32, 128, 256),
        registers: fc.integer({ min: 16, max: 255 }),
        sharedBytes: fc.integer({ min: 0, max: 200_000 }),
      }),
    });
    const kindsOf = fc.record(Object.fromEntries(names.map((n) => [n, kind])));
    const chain = fc.array(fc.constantFrom(...names), { maxLength: 12 });
    fc.assert(
      fc.property(
        kindsOf,
        fc.array(chain, { minLength: 1, maxLength: 6 }),
        fc.constantFrom(...tiers),
        fc.constantFrom(sm90, hostTarget),
        fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined }),
        (kinds, chains, tier, target, width) => {
          const tenants = chains.map((c, n) => tenantOf(`t${n}`, c, kinds));
          const units = target.kind === 'host' ? 2 : 132;
          const more = { tier, ...(width !== undefined && { width }) };
          const packed = pack(tenants, optionsFor(kinds, target, units, more));
          check(tenants, packed);
          for (const w of packed.words) expect(w.slots.length).toBeLessThanOrEqual(width ?? 6);
          const split = splitWords(tenants, packed.words);
          check(tenants, { ...packed, words: split, predicted: split.map(() => 1) });
          expect(split.every((w) => w.classes.length === 1)).toBe(true);
          const fused = packed.words.filter((w) => w.classes.length > 1);
          expect(new Set(fused.map(codeKey)).size).toBeLessThanOrEqual(16);
          // The same plan for the same tenants: bits do not hang on it, but compiles do.
          expect(pack(tenants, optionsFor(kinds, target, units, more))).toEqual(packed);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('expects no more of a chain than coalescing where nothing can be gained', () => {
    const kinds = { a: { round: 1, blocks: 500 }, b: { round: 2, blocks: 3 } };
    const tenants = [1, 2, 3].map((n) => tenantOf(`t${n}`, ['a', 'b', 'a'], kinds));
    const packed = pack(tenants, optionsFor(kinds, sm90, 132));
    expect(packed.words.map((w) => tasksIn(tenants, w))).toEqual(
      coalesce(tenants, 'generic').map((w) => tasksIn(tenants, w)),
    );
  });
});

describe('the shape of a word', () => {
  const load = (virtual: number, round: number, places = 132) => ({
    virtual,
    curve: { fixed, round, places },
  });

  it('gives all blocks where there are places for them', () => {
    expect(shapeWord([load(100, 1), load(32, 3)])).toEqual({ milliseconds: 3 + fixed, blocks: [100, 32] });
    // And where waves of equal blocks come out even.
    expect(shapeWord([load(264, 1)])).toEqual({ milliseconds: 2 + fixed, blocks: [264] });
  });

  it('gives shares with which all end together', () => {
    const { milliseconds, blocks } = shapeWord([load(264, 1), load(66, 4)]);
    // Half of the device each: 66 places for four rounds of 66, and 66 for one long round.
    expect(milliseconds).toBeCloseTo(4 + fixed, 6);
    expect(blocks).toEqual([66, 66]);
  });

  it('of equal slots is waves', () => {
    expect(shapeWord([load(49, 1), load(49, 1), load(49, 1)]).milliseconds).toBeCloseTo(2 + fixed, 6);
    // On two threads three slots cannot each have one of their own.
    expect(shapeWord([load(4, 1, 2), load(4, 1, 2), load(4, 1, 2)])).toEqual({
      milliseconds: 6 + fixed,
      blocks: [4, 4, 4],
    });
  });

  it('takes at least as long as its longest block, and as all work on all places', () => {
    const loads = fc.array(
      fc.record({
        virtual: fc.integer({ min: 1, max: 2000 }),
        curve: fc.record({
          fixed: fc.constant(fixed),
          round: fc.double({ min: 0, max: 5, noNaN: true }),
          places: fc.constantFrom(2, 132, 528),
        }),
      }),
      { minLength: 1, maxLength: 8 },
    );
    fc.assert(
      fc.property(loads, (all) => {
        const { milliseconds, blocks } = shapeWord(all);
        const busy = sum(all.map((l) => (l.virtual * l.curve.round) / l.curve.places));
        expect(milliseconds).toBeGreaterThanOrEqual(
          fixed + Math.max(busy, ...all.map((l) => l.curve.round)) - 1e-6,
        );
        all.forEach((l, n) => {
          expect(blocks[n]).toBeGreaterThanOrEqual(1);
          expect(blocks[n]).toBeLessThanOrEqual(l.virtual);
        });
      }),
    );
  });
});

describe('fused codes', () => {
  const known = (heavy: readonly string[] = []) => ({
    target: sm90,
    resourcesOf: (key: string): Resources => (heavy.includes(key) ? { ...plain, registers: 255 } : plain),
  });
  const demand = (classes: string, gain: number, held = 1) => ({ classes: [...classes], gain, held });

  it('are few, and serve what saves most', () => {
    const some = [...'abcdefghijklmnopqrstuvwxyz'];
    const others = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZ'];
    const demands = some.flatMap((x, n) => others.map((y) => demand(x + y, n + 1)));
    const codes = chooseCodes(demands, known());
    expect(codes.length).toBe(16);
    expect(Math.max(...codes.map((code) => code.length))).toBe(24);
    const free = new FusedCodes(known(), codes);
    expect(free.find(['z', 'A'])).toBeDefined();
    expect(free.find(['a', 'Z'])).toBeUndefined();
  });

  it('are one code where that costs nobody anything', () => {
    expect(chooseCodes([demand('ab', 1), demand('cb', 2), demand('ac', 3)], known())).toEqual([
      ['a', 'b', 'c'],
    ]);
  });

  it('do not grow by what would hold fewer blocks than are made use of', () => {
    const apart = chooseCodes([demand('ab', 5, 8), demand('xy', 3, 1)], known(['x']));
    expect(apart).toEqual([
      ['a', 'b'],
      ['x', 'y'],
    ]);
    expect(chooseCodes([demand('ab', 5, 2), demand('xy', 3, 1)], known(['x']))).toHaveLength(1);
  });

  it('have no classes whose threads and registers together are more than a multiprocessor has', () => {
    const takes: Readonly<Record<string, Partial<Resources>>> = {
      w: { threads: 512 },
      r: { registers: 200 },
    };
    const own = { target: sm90, resourcesOf: (key: string) => ({ ...plain, ...takes[key] }) };
    const codes = new FusedCodes(own);
    expect(codes.find(['w', 'a'])).toBeDefined();
    expect(codes.find(['r', 'a'])).toBeDefined();
    expect(codes.find(['a', 'w', 'r'])).toBeUndefined();
    expect(codes.refused).toBe(0);
    expect(chooseCodes([demand('wa', 2), demand('ra', 1)], own)).toEqual([
      ['a', 'w'],
      ['a', 'r'],
    ]);
  });

  it('are found by the classes that a word has', () => {
    const codes = new FusedCodes(known(['z']), [
      ['a', 'b', 'z'],
      ['b', 'a'],
    ]);
    expect(codes.find(['a', 'b'])!.classes).toEqual(['b', 'a']);
    expect(codes.find(['z', 'a'])!.classes).toEqual(['a', 'b', 'z']);
    expect(codes.find(['q'])!.classes).toEqual(['q']);
    expect(codes.refused).toBe(0);
    expect(codes.find(['a', 'q'])).toBeUndefined();
    expect(codes.refused).toBe(1);
  });
});
