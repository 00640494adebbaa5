/**
 * @file Runs cases in all ways and compares them with the interpreter.
 */
import fc from 'fast-check';
import type { Roundings } from '../../ir/interpret.ts';
import type { Program } from '../../ir/program.ts';
import type { Way } from '../support/ways.ts';
import { anyCase, type Case, inputsOf, programOf } from './cases.ts';
import { Expectation } from './expectation.ts';

/** A case that came out wrong. */
export interface Finding {
  readonly way: string;
  /** Gives the case again. */
  readonly seed: number;
  readonly message: string;
}

export interface Tally {
  readonly cases: number;
  readonly compared: number;
  readonly open: number;
  readonly findings: readonly Finding[];
}

/** The case that a seed stands for. */
export const caseOf = (seed: number): Case => fc.sample(anyCase, { seed, numRuns: 1 })[0]!;

/** Runs the cases of some seeds in one way. */
export async function runCases(way: Way, seeds: readonly number[]): Promise<Tally> {
  const findings: Finding[] = [];
  const found = (seed: number, error: unknown): void =>
    void findings.push({
      way: way.name,
      seed,
      message: error instanceof Error ? error.message : String(error),
    });
  const programs = new Map<number, { readonly c: Case; readonly program: Program }>();
  for (const seed of seeds) {
    try {
      const c = caseOf(seed);
      programs.set(seed, { c, program: programOf(c, way.target) });
    } catch (error) {
      found(seed, error);
    }
  }
  // All are compiled together; where that fails, one by one, to find out which.
  const together = await way.prepare([...programs.values()].map((p) => p.program)).then(
    () => true,
    () => false,
  );
  let compared = 0;
  let open = 0;
  for (const [seed, { c, program }] of programs) {
    try {
      if (!together) await way.prepare([program]);
      const verdict = await runCase(way, c, program);
      compared += verdict.compared;
      open += verdict.open;
    } catch (error) {
      found(seed, error);
    }
  }
  return { cases: seeds.length, compared, open, findings };
}

/** Runs one case in one way; throws with what is wrong. */
async function runCase(way: Way, c: Case, program: Program): Promise<{ compared: number; open: number }> {
  const inputs = new Map(program.tenants.map((t, n) => [t.name, inputsOf(c, n)]));
  const got = await way.run(program, inputs);
  let compared = 0;
  let open = 0;
  for (const [tenant, tensors] of inputs) {
    const verdict = new Expectation(c.module, tensors, roundingsLeftOut(c, program)).check(got.get(tenant)!);
    if (verdict.wrong !== undefined) throw new Error(`${tenant}: ${verdict.wrong}`);
    compared += verdict.compared;
    open += verdict.open;
  }
  return { compared, open };
}

/**
 * Attention in one kernel keeps its scores in 32 bits, and rounds weights before their division (passes/fuse_attention.ts). In a model that we
 * put into half floats, a kernel keeps in 32 bits what was stored before it was fused (passes/unround.ts).
 */
function roundingsLeftOut({ graph }: Case, program: Program): Roundings | undefined {
  const hasAttention = [...program.classes.values()].some((c) => c.kernel.schedule?.skeleton === 'attention');
  if (hasAttention) return 'all';
  return graph?.precision === 'fp16' ? 'stored' : undefined;
}

/** The smallest case that fails like the seed's, as far as `seconds` of shrinking lead, and what it says. */
export async function shrink(
  way: Way,
  seed: number,
  seconds: number,
): Promise<{ readonly smallest: Case; readonly message: string }> {
  const property = fc.asyncProperty(anyCase, async (c) => {
    const program = programOf(c, way.target);
    await way.prepare([program]);
    await runCase(way, c, program);
  });
  const result = await fc.check(property, {
    seed,
    numRuns: 1,
    unbiased: true,
    interruptAfterTimeLimit: seconds * 1000,
  });
  const error = result.errorInstance;
  return {
    smallest: result.counterexample?.[0] ?? caseOf(seed),
    message: error instanceof Error ? error.message : 'does not fail alone',
  };
}
