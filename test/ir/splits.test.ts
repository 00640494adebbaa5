/**
 * @file Tiles that several blocks share, as the interpreter of programs and the verifier see them: slices that cut through a tile, in any
 * order of slots, give what the whole kernel gives.
 */
import { describe, expect, it } from 'vitest';
import { virtualBlocks } from '../../ir/blocks.ts';
import { interpretKernel } from '../../ir/interpret.ts';
import { interpretProgram } from '../../ir/interpret_program.ts';
import type { Kernel } from '../../ir/kernel.ts';
import type { CompiledModel, Place, Program } from '../../ir/program.ts';
import { bytesOf } from '../../ir/tensor.ts';
import { verifyProgram } from '../../ir/verify_program.ts';
import { slice } from '../../passes/slice.ts';
import { matmulKernel } from '../codegen/kernels.ts';
import { randomTensor } from '../support/random.ts';
import { oneWord } from '../support/run_kernel.ts';

const kernel: Kernel = {
  ...matmulKernel(1, 20, 24, 300, true, 'f16'),
  schedule: {
    skeleton: 'mma',
    instruction: 'mma',
    threads: 32,
    tile: { m: 16, n: 16, k: 32 },
    warps: { m: 1, n: 1 },
    stages: 2,
    segments: 1,
    splits: 4,
  },
};
const whole = oneWord([kernel], 'sm_90');
const inputs = kernel.inputs.map((b, n) => randomTensor(b.dtype, b.shape, n));
const given = new Map([['tenant 0', new Map(kernel.inputs.map((b, n) => [b.name, inputs[n]!]))]]);

/** The program with another place for its first task's scratch. */
function withScratch(change: (place: Place, n: number) => Place): Program {
  const { model } = whole.tenants[0]!;
  const [task] = model.tasks;
  const operands = task!.operands.map((p, n) => (n < 3 ? p : change(p, n - 3)));
  const changed: CompiledModel = { ...model, tasks: [{ ...task!, operands }] };
  return { ...whole, tenants: [{ name: 'tenant 0', model: changed }] };
}

describe('tiles that blocks share', () => {
  it('have as many blocks as share them', () => {
    expect(virtualBlocks(kernel)).toBe(2 * 2 * 4);
  });

  for (const most of [1, 2, 3, 4, 5, 16])
    it(`are whole after slices of ${most} blocks`, () => {
      const words = slice(whole.tenants, whole.words, most);
      expect(words.length).toBe(Math.ceil(16 / most));
      const program = { ...whole, words };
      expect(verifyProgram(program)).toEqual([]);
      const [expected] = interpretKernel(kernel, inputs);
      const [got] = [...interpretProgram(program, given, { seed: most }).get('tenant 0')!.values()];
      expect(bytesOf(got!)).toEqual(bytesOf(expected!));
    });

  it('are not there before their last block has run', () => {
    const words = slice(whole.tenants, whole.words, 2).slice(0, 1);
    const [got] = [
      ...interpretProgram({ ...whole, words }, given)
        .get('tenant 0')!
        .values(),
    ];
    expect(bytesOf(got!).every((byte) => byte === 0xff)).toBe(true);
    expect(verifyProgram({ ...whole, words }).join()).toMatch(/do not run.*in part \(2 blocks\)/);
  });

  it('need scratch memory of their own', () => {
    const [x] = whole.tenants[0]!.model.tasks[0]!.operands as [Place];
    const broken: readonly (readonly [Program, RegExp])[] = [
      [
        withScratch((p, n) => (n === 1 ? { ...p, offset: x.offset } : p)),
        /shares bytes with %counters|stay zero/,
      ],
      [withScratch((p, n) => (n === 0 ? { ...p, bytes: p.bytes - 4 } : p)), /its scratch of partials takes/],
      [
        withScratch((p) => ({ ...p, space: 'weights' as const, offset: 0 })),
        /it writes the constant %partials.0/,
      ],
    ];
    for (const [program, what] of broken) expect(verifyProgram(program).join('\n')).toMatch(what);
  });
});
