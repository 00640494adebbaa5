/**
 * @file Names in emitted C: whatever the IR calls things, what comes out are identifiers that nothing else uses.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { emitWord } from '../../codegen/word.ts';
import { index } from '../../ir/affine.ts';
import { buffer, kernel, load, op, reduce, store } from '../../ir/build.ts';
import { classOf } from '../../ir/class.ts';
import { interpretKernel } from '../../ir/interpret.ts';
import type { Kernel } from '../../ir/kernel.ts';
import { hostTarget } from '../../ir/target.ts';
import { bytesOf } from '../../ir/tensor.ts';
import { scheduleKernel } from '../../passes/schedule.ts';
import { randomTensor } from '../support/random.ts';
import { runKernels } from '../support/run_kernel.ts';
import { type Way, wayKinds } from '../support/ways.ts';

/** y[i] = max over j, k of x[i, j, k], with these names. */
function named(
  kernelName: string,
  [x, y, i, j, k]: readonly [string, string, string, string, string],
): Kernel {
  const from = buffer(x, 'f32', [9, 3, 2]);
  const to = buffer(y, 'f32', [9]);
  const [a, b, c] = [index(i, 9), index(j, 3), index(k, 2)];
  return kernel(
    kernelName,
    [from],
    [to],
    [a],
    [store(to, [a], op('neg', reduce('max', [b, c], load(from, [a, b, c]))))],
  );
}

const cases: { readonly [what: string]: Kernel } = {
  'what is no identifier': named('a b/c:0', ['layer 1/x:0', '', 'Слой', '7', '\u202Ei']),
  'an end of the line': named('k\n}', ['x\n; }', 'y', 'i*/', 'j//', 'k\\']),
  'one name for all': named('k', ['k', 'l', 'k', 'k', 'k']),
  'names of the skeletons': named('row', ['row', 'block', 'a', 'a', 'position']),
  'words of C++': named('int', ['float', 'class', 'for', 'template', 'xor']),
  'names of the prelude': named('main', ['expf', 'max_of', 'floor_div', 'inside', 'kIdleBlock']),
};

describe('names in emitted C', () => {
  let way: Way;
  beforeAll(() => void (way = wayKinds().host.open()));
  afterAll(() => way.close());
  for (const [what, plain] of Object.entries(cases)) {
    it(`are not ${what}`, async () => {
      const scheduled = scheduleKernel(plain, hostTarget);
      const inputs = [randomTensor('f32', [9, 3, 2], 1)];
      const [outputs] = await runKernels(way, [scheduled], [inputs]);
      expect(bytesOf(outputs![0]!)).toEqual(bytesOf(interpretKernel(plain, inputs)[0]!));
    });
  }

  it('do not depend on what buffers are called, so neither does the code', () => {
    const source = (k: Kernel): string =>
      emitWord([classOf(scheduleKernel(k, hostTarget), 'generic')], hostTarget).source;
    expect(source(named('k', ['picture', 'result', 'i', 'j', 'l']))).toBe(
      source(named('k', ['x', 'y', 'i', 'j', 'l'])),
    );
  });
});
