/**
 * @file Printing and reading are each other's inverse: on kernels of every kind, on modules.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { parseKernel, parseModule } from '../../../ir/parse/index.ts';
import { printKernel } from '../../../ir/print.ts';
import { printModule } from '../../../ir/print_module.ts';
import { verifyKernel } from '../../../ir/verify.ts';
import { anyKernel, anyModule } from '../arbitraries.ts';
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
