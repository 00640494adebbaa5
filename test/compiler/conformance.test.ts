/**
 * @file ONNX's backend tests through the interpreter: what is not refused must be right, and every kernel sound.
 */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { interpretModule } from '../../ir/interpret_module.ts';
import { verifyKernel } from '../../ir/verify.ts';
import { archive, listTests, type Outcome, runTest, testFolder } from '../conformance/suite.ts';

const root = join(import.meta.dirname, '..', '..');
const folder = await testFolder(root);

describe('ONNX conformance', () => {
  it.skipIf(folder === undefined)(
    folder ? 'gives no wrong results' : `not run: there is no ${archive}`,
    { timeout: 240_000 },
    async () => {
      const outcomes: Outcome[] = [];
      for (const test of listTests(folder!).filter((t) => t.group !== 'light')) {
        const outcome = await runTest(test, (module, inputs) => {
          for (const call of module.calls) expect(verifyKernel(call.kernel), test.name).toEqual([]);
          return interpretModule(module, inputs);
        });
        outcomes.push(outcome);
      }
      expect(outcomes.filter((o) => o.status === 'wrong')).toEqual([]);
      // What passes today must not be refused tomorrow.
      expect(outcomes.filter((o) => o.status === 'pass').length).toBeGreaterThanOrEqual(690);
    },
  );
});
