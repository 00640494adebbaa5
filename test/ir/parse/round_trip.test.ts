/**
 * @file Printing and reading are each other's inverse: on kernels of every kind, on modules.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { asRead, type Item, itemProblems, printItems } from '../../../ir/item.ts';
import { parse, parseKernel, parseModule } from '../../../ir/parse/index.ts';
import { printKernel } from '../../../ir/print.ts';
import { printModule } from '../../../ir/print_module.ts';
import { targetOf } from '../../../ir/target.ts';
import { verifyKernel } from '../../../ir/verify.ts';
import { parsePasses, runPass } from '../../../passes/index.ts';
import { anyKernel, anyModule, scheduledKernel } from '../arbitraries.ts';
import { moduleStructure, structureOf } from '../equal.ts';

it('random kernels verify, and read back to themselves', () => {
  fc.assert(
    fc.property(anyKernel(), (kernel) => {
      expect(verifyKernel(kernel)).toEqual([]);
      const text = printKernel(kernel);
      const back = parseKernel(text);
      expect(structureOf(back)).toEqual(structureOf(kernel));
      expect(printKernel(back)).toBe(text);
      expect(verifyKernel(back)).toEqual([]);
    }),
    { numRuns: 3000 },
  );
});

it('random modules read back to themselves', () => {
  fc.assert(
    fc.property(anyModule(), (module) => {
      const text = printModule(module, { inline: Number.POSITIVE_INFINITY });
      const back = parseModule(text);
      expect(moduleStructure(back)).toEqual(moduleStructure(module));
      expect(printModule(back, { inline: Number.POSITIVE_INFINITY })).toBe(text);
    }),
    { numRuns: 1000 },
  );
});

it('data left out stays left out, under the same digest', () => {
  fc.assert(
    fc.property(anyModule(), (module) => {
      const text = printModule(module);
      expect(printModule(parseModule(text))).toBe(text);
    }),
    { numRuns: 200 },
  );
});

it('random programs read back to themselves, sound as they were', () => {
  fc.assert(
    fc.property(
      fc.array(anyModule(scheduledKernel({ targets: ['sm_90'] })), { minLength: 1, maxLength: 2 }),
      fc.constantFrom('', ',coalesce', ',coalesce=specialised', ',coalesce=auto,constrain=2'),
      fc.integer({ min: 1, max: 3 }),
      (modules, more, tenants) => {
        const items = modules.map((module): Item => ({ kind: 'module', module }));
        const target = targetOf('sm_90');
        const linked = parsePasses(`plan-memory=${tenants}${more}`).reduce<Item[]>(
          (all, step) => runPass(step, all, target),
          items,
        );
        const text = printItems(linked, asRead(linked));
        const back = parse(text).items;
        expect(printItems(back, asRead(back))).toBe(text);
        expect(back.flatMap((item) => itemProblems(item))).toEqual([]);
      },
    ),
    { numRuns: 150 },
  );
});
