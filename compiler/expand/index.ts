/**
 * @file All composite operators, merged into one table.
 */
import { attentionOps } from './attention.ts';
import type { Expansion, ExpansionFamily } from './expander.ts';
import { lossOps } from './loss.ts';
import { quantizedOps } from './quantized.ts';
import { recurrentOps } from './recurrent.ts';
import { sequenceOps } from './sequence.ts';

const families: readonly ExpansionFamily[] = [recurrentOps, attentionOps, lossOps, quantizedOps, sequenceOps];

/** Operators that stand for a graph of others, by name. */
export const expansions: ReadonlyMap<string, Expansion> = new Map(families.flatMap((f) => Object.entries(f)));

/** The expansion of an operator; undefined if it has none. */
export const expansionFor = (domain: string, op: string): Expansion | undefined =>
  domain === '' ? expansions.get(op) : undefined;
