/**
 * @file The kernels of a round by the time they take, with what they cost on paper.
 */
import type { Program } from '../../driver/device.ts';
import { memberOf } from '../../ir/class.ts';
import { addCosts, type Cost, costOf, noCost } from '../../ir/cost.ts';
import { codeKey, type Task } from '../../ir/program.ts';
import { median } from '../output.ts';
import type { BenchTenant } from './tenants.ts';

/** Words of one kernel at the same sizes, put together. */
export interface KernelTime extends Cost {
  readonly name: string;
  /** The model's nodes that the first of them came from. */
  readonly loc: readonly string[];
  readonly words: number;
  /** Tenants in each. */
  readonly slots: number;
  /** Of all the words; medians. */
  readonly milliseconds: number;
}

/** A word by itself, and what its plan expected of it. */
export interface WordTime {
  /** Its tasks by name, each with how many slots are of it. */
  readonly tasks: string;
  readonly classes: number;
  readonly slots: number;
  /** Both in milliseconds. */
  readonly predicted: number;
  readonly measured: number;
}

const rounds = 10;

/** Times each word of a program that was planned by time. */
export async function wordTimes(program: Program): Promise<WordTime[]> {
  const { words, tenants, predicted = [] } = program.plan;
  const times = await program.timeWords(rounds);
  return words.map((word, n): WordTime => {
    const names = new Map<string, number>();
    for (const s of word.slots) {
      const { name } = tenants[s.tenant]!.model.tasks[s.task]!;
      names.set(name, (names.get(name) ?? 0) + 1);
    }
    return {
      tasks: [...names].map(([name, count]) => (count > 1 ? `${name} x ${count}` : name)).join(', '),
      classes: new Set(word.slots.map((s) => s.body)).size,
      slots: word.slots.length,
      predicted: predicted[n] ?? Number.NaN,
      measured: median(times.map((round) => round[n]!)),
    };
  });
}

/** Times each word of the programs by itself; slowest kernel first. */
export async function kernelTimes(
  programs: readonly Program[],
  tenants: readonly BenchTenant[],
  target: string,
): Promise<KernelTime[]> {
  const cost = costs(tenants, target);
  const kernels = new Map<string, KernelTime>();
  for (const program of programs) {
    const times = await program.timeWords(rounds);
    program.plan.words.forEach((word, n) => {
      const tasks = word.slots.map((s) => program.plan.tenants[s.tenant]!.model.tasks[s.task]!);
      const [first] = tasks as [Task];
      const key = [codeKey(word), ...tasks.map((t) => t.sizes.join(','))].join(' ');
      const milliseconds = median(times.map((round) => round[n]!));
      const found = kernels.get(key);
      const { flops, bytes } = [found ?? noCost, ...tasks.map(cost)].reduce(addCosts);
      kernels.set(key, {
        name: first.name,
        loc: first.loc,
        slots: tasks.length,
        ...found,
        words: (found?.words ?? 0) + 1,
        milliseconds: (found?.milliseconds ?? 0) + milliseconds,
        flops,
        bytes,
      });
    });
  }
  return [...kernels.values()].sort((a, b) => b.milliseconds - a.milliseconds);
}

/** What a round of all tenants costs on paper. */
export function roundCost(tenants: readonly BenchTenant[], target: string): Cost {
  const cost = costs(tenants, target);
  return tenants.flatMap(({ model }) => model.compiledFor(target).tasks.map(cost)).reduce(addCosts, noCost);
}

/** The cost of a task of one of these tenants, counted once for a class and sizes. */
function costs(tenants: readonly BenchTenant[], target: string): (task: Task) => Cost {
  const known = new Map<string, Cost>();
  return ({ classes, sizes, name }) => {
    const key = `${classes.generic} ${sizes.join(',')}`;
    let cost = known.get(key);
    if (!cost) {
      const found = tenants.map((t) => t.model.classOf(target, classes.generic)).find((c) => c !== undefined);
      if (!found) throw new Error(`no kernel of task ${name}`);
      known.set(key, (cost = costOf(memberOf(found, sizes))));
    }
    return cost;
  };
}
