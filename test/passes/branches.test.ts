/** @file The plan of branches: who runs as one beside others does, and who leaves room. */
import { describe, expect, it } from 'vitest';
import type { Task, Tenant, Variant, WiderVariant } from '../../ir/program.ts';
import { type BranchOptions, branches } from '../../passes/branches.ts';

const variant = (key: string, blocks: number): Variant => ({
  classes: { generic: key, specialised: key },
  sizes: [],
  blocks,
  work: { flops: 1, bytes: 1, threads: 1, registers: 0, sharedBytes: 0, tensorCores: false },
  operands: [],
});

/** A tenant of two tasks that nobody else has, each with a variant for words beside others. */
function tenant(name: string): Tenant {
  const tasks = [1, 2].map((n): Task => {
    const wider: WiderVariant[] = [{ from: 1, ...variant(`${name}${n} beside`, 64) }];
    return { name, loc: [], ...variant(`${name}${n}`, 96), wider };
  });
  const none = { inputs: [], outputs: [], weights: [], weightBytes: 0, arenaBytes: 0 };
  return { name, model: { name, target: 'sm_90', tasks, ...none } };
}

/** Milliseconds of every block of a tenant's kernels, all of which run at once. */
const plan = (rounds: { readonly [name: string]: number }, more: Partial<BranchOptions> = {}) => {
  const tenants = Object.keys(rounds).map(tenant);
  const timeOf = ({ classes, work }: Variant) => ({
    curve: { fixed: 0, round: rounds[classes.generic[0]!]!, places: 1000 },
    resources: work,
    measured: true,
  });
  return branches(tenants, { tier: 'specialised', timeOf, ...more })!;
};

const six = { a: 1, b: 1, c: 1, d: 1, e: 1, f: 1 };

describe('branches', () => {
  it('run as is best beside others', () => {
    for (const { classes, slots } of plan(six).words) {
      expect(classes[0]).toMatch(/ beside$/);
      expect(slots[0]!.blocks).toBe(64);
    }
  });

  it('run as is best alone where a chain is long beside all others', () => {
    const { words, urgency } = plan({ ...six, f: 3 });
    for (const [n, { classes, slots }] of words.entries()) {
      expect(classes[0]!.endsWith(' beside')).toBe(!classes[0]!.startsWith('f'));
      expect(slots[0]!.blocks).toBe(classes[0]!.startsWith('f') ? 96 : 64);
      // A chain's first word has twice as much before it as its last, and f's three times that of others.
      expect(urgency[n]).toBeCloseTo((classes[0]!.startsWith('f') ? 1 : 1 / 3) / Number(classes[0]![1]));
    }
  });

  it('leave room where it was measured that fewer blocks take little longer', () => {
    const times = [
      { blocks: 16, milliseconds: 1.5 },
      { blocks: 64, milliseconds: 1 },
    ];
    const { words } = plan(six, {
      onBlocks: ({ classes }) => (classes.generic === 'c2 beside' ? { times, places: 1000 } : undefined),
    });
    for (const { classes, slots } of words)
      expect(slots[0]!.blocks).toBe(classes[0] === 'c2 beside' ? 16 : 64);
  });

  it('are none where each word needs the one before it', () => {
    expect(plan({ a: 1 })).toBeUndefined();
  });
});
