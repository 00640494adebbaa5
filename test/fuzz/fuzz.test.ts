/**
 * @file A short run of the fuzzer, the same cases every time; `npm run fuzz` goes on from there.
 */
import { describe, expect, it } from 'vitest';
import { emulatedWay, titled, type Way, wayKinds } from '../support/ways.ts';
import { programOf } from './cases.ts';
import { caseOf, runCases } from './run.ts';

const seeds = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

async function check(way: Way, count: number): Promise<void> {
  try {
    const { compared, open, findings } = await runCases(way, seeds(count));
    expect(findings).toEqual([]);
    // Else the comparison would say little. A single case that hangs on the order of a sum may leave hundreds of elements open.
    expect(compared).toBeGreaterThan(100 * count);
    expect(open).toBeLessThan(0.25 * compared);
  } finally {
    way.close();
  }
}

it('some of them have attention in one kernel, some tiles that blocks share', () => {
  const schedules = seeds(60).flatMap((seed) =>
    [...programOf(caseOf(seed), 'sm_90').classes.values()].map(({ kernel }) => kernel.schedule!),
  );
  expect(schedules.map((s) => s.skeleton)).toContain('attention');
  expect(schedules.filter((s) => s.skeleton === 'mma' && s.splits > 1).length).toBeGreaterThan(2);
});

describe('random graphs and kernels give what the interpreter gives', () => {
  const { host, cuda } = wayKinds();
  it('on the host', () => check(host.open(), 40), 600_000);
  it('as emulated CUDA, every access watched', () => check(emulatedWay('memory'), 60), 600_000);
  it('as emulated CUDA, every race watched', () => check(emulatedWay('races'), 12), 600_000);
  it.skipIf(cuda.problem)(titled('on the GPU', cuda), () => check(cuda.open(), 60), 600_000);
});
