/**
 * @file How errors are printed: what was at fault, in full, and the exit code.
 */
import { describe, expect, it, vi } from 'vitest';
import { exitCodes, Failure, reportError } from '../../cli/output.ts';
import { targetOf } from '../../ir/target.ts';
import { PassError } from '../../passes/index.ts';

function reported(error: unknown): { readonly code: number; readonly lines: readonly unknown[] } {
  const print = vi.spyOn(console, 'error').mockImplementation(() => {});
  const code = reportError(error, false);
  const lines = print.mock.calls.map(([line]) => line);
  print.mockRestore();
  return { code, lines };
}

function thrownBy(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe('errors', () => {
  it('of the work are printed with all of their reasons', () => {
    expect(reported(new Failure('the verifier refuses what fuse made:\na\nb'))).toEqual({
      code: exitCodes.failure,
      lines: ['wideword: the verifier refuses what fuse made:', '          a', '          b'],
    });
  });

  it('of use are those of passes and targets, too', () => {
    expect(reported(new PassError("no pass 'x'"))).toEqual({
      code: exitCodes.badUse,
      lines: ["wideword: no pass 'x'"],
    });
    expect(reported(thrownBy(() => targetOf('sm90'))).code).toBe(exitCodes.badUse);
  });

  it('of the engine are no bad use', () => {
    const deep = (n: number): number => deep(n + 1) + 1;
    const { code, lines } = reported(thrownBy(() => deep(0)));
    expect(code).toBe(exitCodes.failure);
    expect(lines).toEqual([expect.stringMatching(/^wideword: a kernel is nested too deeply: /)]);
    expect(reported(thrownBy(() => new Array(-1)))).toEqual({
      code: exitCodes.failure,
      lines: ['wideword: Invalid array length (--verbose shows where)'],
    });
  });
});
