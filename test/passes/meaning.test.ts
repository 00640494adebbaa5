/**
 * @file Passes keep the meaning: random modules, interpreted before and after each, give the same bits; a program's result does not
 * depend on the order of slots. A memory plan that is wrong shows.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { interpretModule } from '../../ir/interpret_module.ts';
import { interpretProgram } from '../../ir/interpret_program.ts';
import { type Item, itemProblems } from '../../ir/item.ts';
import type { Module } from '../../ir/module.ts';
import { randomInput } from '../../ir/random.ts';
import { targetOf } from '../../ir/target.ts';
import { bytesOf, type Tensor } from '../../ir/tensor.ts';
import { parsePasses, runPass } from '../../passes/index.ts';
import { anyModule, contractionKernel, scheduledKernel, unscheduledKernel } from '../ir/arbitraries.ts';
import { pictureNetwork } from './pictures.ts';

const inputsOf = (module: Module, seed: number): Map<string, Tensor> =>
  new Map(module.inputs.map((name, i) => [name, randomInput(module.types.get(name)!, seed * 31 + i)]));

const bits = (outputs: ReadonlyMap<string, Tensor>): unknown =>
  [...outputs].map(([name, tensor]) => [name, [...bytesOf(tensor)]]);

const run = (passes: string, module: Module, target: string): Item[] =>
  parsePasses(passes).reduce<Item[]>(
    (items, step) => runPass(step, items, targetOf(target)),
    [{ kind: 'module', module }],
  );

const modules = anyModule(fc.oneof({ weight: 4, arbitrary: unscheduledKernel() }, contractionKernel()));

describe('passes keep the meaning', () => {
  for (const passes of ['fuse', 'schedule', 'fuse,schedule', 'channel-order', 'weight-order,schedule']) {
    it(passes, () => {
      fc.assert(
        fc.property(modules, fc.constantFrom('host', 'sm_90'), (module, target) => {
          const [item] = run(passes, module, target);
          expect(itemProblems(item!, targetOf(target))).toEqual([]);
          const after = (item as Extract<Item, { kind: 'module' }>).module;
          const inputs = inputsOf(module, 1);
          expect(bits(interpretModule(after, inputs))).toEqual(bits(interpretModule(module, inputs)));
        }),
        { numRuns: 300 },
      );
    });
  }

  for (const passes of ['layout', 'saturate,fuse,layout', 'fuse,layout,schedule']) {
    it(`${passes}, of picture networks`, () => {
      let changed = 0;
      fc.assert(
        fc.property(pictureNetwork(), (module) => {
          const before = passes.replace(/,?layout.*/, '');
          const [start] = run(before, module, 'sm_90');
          const [item] = run(passes, module, 'sm_90');
          expect(itemProblems(item!, targetOf('sm_90'))).toEqual([]);
          const [from, to] = [start, item].map((i) => (i as Extract<Item, { kind: 'module' }>).module);
          if ([...to!.types].some(([v, t]) => t.shape.join() !== from!.types.get(v)!.shape.join())) changed++;
          const inputs = inputsOf(module, 1);
          expect(bits(interpretModule(to!, inputs))).toEqual(bits(interpretModule(from!, inputs)));
        }),
        { numRuns: 60 },
      );
      expect(changed).toBeGreaterThan(10);
    });
  }

  it('plan-memory, coalesce, pack, constrain and slice, with slots in any order', () => {
    fc.assert(
      fc.property(
        anyModule(scheduledKernel({ targets: ['sm_90'] })),
        fc.constantFrom(
          'plan-memory=3',
          'plan-memory=2,coalesce',
          'coalesce=auto,constrain=2',
          'plan-memory=2,coalesce,slice=1',
          'plan-memory=3,pack=auto',
          'pack,slice=1',
        ),
        fc.nat(99),
        (module, passes, seed) => {
          const [item] = run(passes, module, 'sm_90');
          expect(itemProblems(item!)).toEqual([]);
          const { program } = item as Extract<Item, { kind: 'program' }>;
          const inputs = new Map(program.tenants.map((t, n) => [t.name, inputsOf(module, n)]));
          const got = interpretProgram(program, inputs, { seed });
          program.tenants.forEach((t, n) => {
            expect(bits(got.get(t.name)!)).toEqual(bits(interpretModule(module, inputsOf(module, n))));
          });
        },
      ),
      { numRuns: 150 },
    );
  });
});
