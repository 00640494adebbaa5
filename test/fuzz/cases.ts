/**
 * @file What is fuzzed: random graphs and random kernels, for some tenants, through the passes that make words.
 */
import fc from 'fast-check';
import { SourceModel, targetPasses } from '../../driver/model.ts';
import { linkWithKernels } from '../../driver/plan.ts';
import { type Item, itemProblems } from '../../ir/item.ts';
import type { Module } from '../../ir/module.ts';
import { textsOf } from '../../ir/problem.ts';
import type { Program } from '../../ir/program.ts';
import { randomInput } from '../../ir/random.ts';
import { targetOf } from '../../ir/target.ts';
import type { Tensor } from '../../ir/tensor.ts';
import { type TierChoice, tiers } from '../../passes/coalesce.ts';
import { parsePasses, runPass } from '../../passes/index.ts';
import { anyModule, scheduledKernel } from '../ir/arbitraries.ts';
import { type GraphCase, graphCase } from './graphs.ts';
import { tensorCoreKernel } from './tensor_cores.ts';

export interface Case {
  /** What the interpreter runs: no pass has been over it. */
  readonly module: Module;
  /** Where it came from: kernels with schedules of their own for CUDA, or a graph. */
  readonly graph?: GraphCase;
  readonly tenants: number;
  readonly tier: TierChoice;
  /** Passes that rewrite words. */
  readonly passes: string;
  /** Picks the inputs, and the order of threads and blocks. */
  readonly seed: number;
}

export const anyCase: fc.Arbitrary<Case> = fc
  .record({
    source: fc.oneof(
      {
        weight: 2,
        arbitrary: anyModule(scheduledKernel({ targets: ['sm_90'] })).map((module) => ({ module })),
      },
      { weight: 3, arbitrary: graphCase.map((graph) => ({ module: graph.lowered, graph })) },
      { weight: 2, arbitrary: anyModule(tensorCoreKernel).map((module) => ({ module })) },
    ),
    tenants: fc.integer({ min: 1, max: 3 }),
    tier: fc.constantFrom(...tiers),
    passes: fc.constantFrom(
      '',
      'constrain=1',
      'constrain=3',
      'slice=2',
      'constrain=2,slice=3',
      'pack',
      'pack=auto,slice=2',
      'beside',
      'beside,constrain=2,slice=3',
    ),
    seed: fc.nat(9999),
  })
  .map(({ source, ...rest }) => ({ ...source, ...rest }));

/** The case's program for a target, as users' programs are made; verified. */
export function programOf(c: Case, target: string): Program {
  const program = c.graph ? fromGraph(c, c.graph, target) : fromModule(c, target);
  const item = parsePasses(c.passes).reduce<Item[]>(
    (items, step) => runPass(step, items, targetOf(target)),
    [{ kind: 'program', program }],
  )[0]!;
  const problems = itemProblems(item);
  if (problems.length > 0 || item.kind !== 'program')
    throw new Error(`the verifier refuses the program:\n${textsOf(problems).join('\n')}`);
  return item.program;
}

/** The passes of a case's program, as in a pipeline of `wideword opt`. */
export function passesOf({ graph, tier, passes }: Case): string {
  const ofModel = graph ? [...new SourceModel(graph.lowered, graph.precision).passes, ...targetPasses] : [];
  return [...ofModel, 'schedule', 'plan-memory', `coalesce=${tier}`, ...(passes ? [passes] : [])].join(',');
}

function fromGraph({ tenants, tier }: Case, { lowered, precision }: GraphCase, target: string): Program {
  const model = new SourceModel(lowered, precision);
  const named = Array.from({ length: tenants }, (_, t) => ({ name: `tenant ${t}`, model }));
  return linkWithKernels(named, target, { tier });
}

function fromModule({ module, tenants, tier }: Case, target: string): Program {
  const own = target !== 'host';
  // Schedules of a case are for CUDA; the host needs those of the host.
  const calls = module.calls.map((call) => {
    if (own) return call;
    const { schedule: _, wider: __, ...kernel } = call.kernel;
    return { ...call, kernel };
  });
  const [item] = parsePasses(`plan-memory=${tenants},coalesce=${tier}`).reduce<Item[]>(
    (items, step) => runPass(step, items, targetOf(target)),
    [{ kind: 'module', module: { ...module, calls } }],
  );
  return (item as Extract<Item, { kind: 'program' }>).program;
}

/** The inputs of tenant number `t`. */
export const inputsOf = ({ module, seed }: Case, t: number): Map<string, Tensor> =>
  new Map(module.inputs.map((name, i) => [name, randomInput(module.types.get(name)!, seed + 31 * t + i)]));
