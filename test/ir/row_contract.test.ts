/**
 * @file The laws of slot rows: derived with sizes as symbols, so what they allow must be what the verifier proves with numbers.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { virtualBlocks } from '../../ir/blocks.ts';
import { provedInside } from '../../ir/bounds.ts';
import { classOf, type KernelClass, memberOf, openSizeNames } from '../../ir/class.ts';
import type { Kernel } from '../../ir/kernel.ts';
import { parseKernel, parseSchedules } from '../../ir/parse/index.ts';
import { breachOf, formatLaw, rowContract } from '../../ir/row_contract.ts';
import { scratchBytes, scratchOf } from '../../ir/scratch.ts';
import { hostTarget } from '../../ir/target.ts';
import { byteSize } from '../../ir/types.ts';
import { loadsIn } from '../../ir/walk.ts';
import { scheduleKernel } from '../../passes/schedule.ts';
import { convKernel } from '../codegen/kernels.ts';
import { contractionKernel, scheduledKernel } from './arbitraries.ts';

const bytesOf = (k: Kernel): number[] => [
  ...[...k.inputs, ...k.outputs].map((b) => byteSize(b)),
  ...scratchOf(k).map(scratchBytes),
];

/** True if every access that is unguarded in the class's kernel is inside in the member. */
function isInside({ kernel }: KernelClass, member: Kernel): boolean {
  const accesses = (k: Kernel) => loadsIn(k.stores.map((s) => s.value));
  const loads = accesses(kernel).every((load, n) =>
    load.at.every((c, d) => {
      if (!('affine' in c) || !provedInside(c.affine, load.buffer.shape[d]!)) return true;
      const other = accesses(member)[n]!;
      const at = other.at[d]!;
      return 'affine' in at && provedInside(at.affine, other.buffer.shape[d]!);
    }),
  );
  return loads && member.stores.every((s) => s.at.every((a, d) => provedInside(a, s.buffer.shape[d]!)));
}

describe('row contracts', () => {
  it('states the laws of a convolution', () => {
    const kernel = convKernel({ channels: 16, outChannels: 20, size: [19, 17], kernel: [3, 3], stride: 2 });
    const c = classOf(scheduleKernel(kernel, hostTarget), 'generic');
    const laws = rowContract(c).laws.map((law) => formatLaw(law, openSizeNames(c)));
    expect(laws).toContain('x0_dim1 - ic_size >= 0');
    expect(laws).toContain('x0_dim2 - oh_size*2 - 1 >= 0');
    expect(laws).toContain('y0_dim1 - oc_size >= 0');
  });

  it('are kept by the kernels they come from, and by all others only if they stay inside', () => {
    const kernels = fc.oneof(
      scheduledKernel(),
      contractionKernel().map((k) => scheduleKernel(k, hostTarget)),
    );
    let inside = 0;
    let outside = 0;
    fc.assert(
      fc.property(
        kernels,
        fc.array(fc.integer({ min: -9, max: 9 }), { maxLength: 48 }),
        (kernel, changes) => {
          const c = classOf(kernel, 'generic');
          const contract = rowContract(c);
          expect(breachOf(contract, c.sizes.values, bytesOf(kernel))).toBeUndefined();
          const sizes = c.sizes.values.map((s, n) => Math.max(1, s + (changes[n] ?? 0)));
          const member = memberOf(c, sizes);
          if (breachOf(contract, sizes, bytesOf(member)) === undefined) {
            inside++;
            expect(isInside(c, member)).toBe(true);
          } else outside++;
        },
      ),
      { numRuns: 2000 },
    );
    // The property says nothing unless both happen.
    expect(inside).toBeGreaterThan(100);
    expect(outside).toBeGreaterThan(100);
  });

  it('know the scratch memory of tiles that blocks share, at any size', () => {
    const member = (size: number): Kernel => ({
      ...convKernel({ channels: 64, outChannels: 40, size: [size, size], kernel: [1, 1], dtype: 'f16' }),
      ...parseSchedules('mma(threads: 64, tile: 32x16x32, warps: 1x1, stages: 2, segments: 2, splits: 4)')!,
    });
    const contract = rowContract(classOf(member(9), 'generic'));
    for (const size of [9, 16, 17]) {
      const kernel = member(size);
      const { values } = classOf(kernel, 'generic').sizes;
      const tiles = Math.ceil(size ** 2 / 32) * 3;
      const bytes = bytesOf(kernel);
      expect(bytes.slice(-2)).toEqual([tiles * 4 * 2 * 32 * 16 * 4, tiles * 4]);
      expect(breachOf(contract, values, bytes)).toBeUndefined();
      expect(breachOf(contract, values, [...bytes.slice(0, -1), 4 * tiles - 4])).toMatch(/operand 5 takes/);
      expect(breachOf(contract, values, bytes.slice(0, -2))).toMatch(/4 operands, not 6/);
      expect(virtualBlocks(kernel)).toBe(4 * tiles);
    }
  });

  it('keep the arithmetic within 32 bits, at any size', () => {
    const read = (coordinate: string, loops = ''): KernelClass =>
      classOf(
        parseKernel(`kernel @k(%x0: f32[64]) -> (%y0: f32[64])
    parallel (i: 64) {
  %1 = reduce sum f32 over (j: 9${loops}) {
    %0 = load %x0[${coordinate}] pad 0.0 : f32
    yield %0
  }
  store %y0[i] = %1
} schedule map(threads: 32, per_thread: 1)`),
        'generic',
      );
    const breach = (c: KernelClass, size: number, loop = 9): string | undefined => {
      const sizes = openSizeNames(c).map((name) => (/i_size|dim/.test(name) ? size : loop));
      return breachOf(rowContract(c), sizes, bytesOf(memberOf(c, sizes)));
    };
    // Greatest of all: 1000*(size - 1).
    expect(breach(read('i*1000'), 2_147_484)).toBeUndefined();
    expect(breach(read('i*1000'), 2_147_485)).toMatch(/coordinate 0 of %x0 is not computed in 32 bits/);
    expect(breach(read('-i*1000'), 2_147_485)).toMatch(/not computed in 32 bits/);
    // What is added is more than the sum; what a quotient is of, more than the quotient.
    expect(breach(read('i*1000 - j*1000'), 2_147_485)).toMatch(/not computed in 32 bits/);
    expect(breach(read('(i*1000 floordiv 1000)'), 2_147_484)).toBeUndefined();
    expect(breach(read('(i*1000 floordiv 1000)'), 2_147_485)).toMatch(/not computed in 32 bits/);
    expect(breach(read('(i*1000 mod 64)'), 2_147_485)).toMatch(/not computed in 32 bits/);
    expect(breach(read('(-i*1000 floordiv 1000)'), 2_147_484)).toMatch(/not computed in 32 bits/);
    expect(breach(read('i', ', k: 10'), 64, 46340)).toBeUndefined();
    expect(breach(read('i', ', k: 10'), 64, 46341)).toMatch(/loops have 2147488281 steps/);
  });

  it('says what is wrong with a row', () => {
    const kernel = convKernel({ channels: 16, outChannels: 20, size: [19, 17], kernel: [3, 3], stride: 2 });
    const c = classOf(scheduleKernel(kernel, hostTarget), 'generic');
    const contract = rowContract(c);
    const { values } = c.sizes;
    const bytes = bytesOf(kernel);
    expect(breachOf(contract, values.slice(1), bytes)).toMatch(/has \d+ sizes, its class leaves \d+ open/);
    expect(breachOf(contract, [0, ...values.slice(1)], bytes)).toMatch(/size 0 is not between 1 and/);
    expect(breachOf(contract, values, [...bytes.slice(0, -1), 4])).toMatch(
      /operand 3 takes \d+ bytes, its place has 4/,
    );
    const n = openSizeNames(c).indexOf('oh_size');
    const larger = values.map((v, at) => (at === n ? v + 1 : v));
    expect(breachOf(contract, larger, bytes)).toMatch(/coordinate 2 of %x0 is not inside/);
    expect(breachOf(contract, values, bytes.slice(1))).toMatch(/3 operands, not 4/);
  });
});
