/**
 * @file All operators: the families merged into one table.
 */
import type { OpFamily, OpRule } from '../rules.ts';
import { contractionOps } from './contraction.ts';
import { convertOps } from './convert.ts';
import { elementwiseOps } from './elementwise.ts';
import { gatherOps } from './gather.ts';
import { gridSampleOps } from './grid_sample.ts';
import { movementOps } from './movement.ts';
import { normalizationOps } from './normalization.ts';
import { padOps } from './pad.ts';
import { poolOps } from './pool.ts';
import { reductionOps } from './reduction.ts';
import { resizeOps } from './resize.ts';
import { shapeOps } from './shape.ts';
import { signalOps } from './signal.ts';
import { sortOps } from './sort.ts';

const families: readonly OpFamily[] = [
  elementwiseOps,
  convertOps,
  shapeOps,
  movementOps,
  gatherOps,
  padOps,
  resizeOps,
  gridSampleOps,
  reductionOps,
  sortOps,
  signalOps,
  normalizationOps,
  poolOps,
  contractionOps,
];

/** Every ONNX operator that is supported, by name. A rule itself looks at the opset where meanings changed. */
export const opRules: ReadonlyMap<string, OpRule> = merge(families);

function merge(all: readonly OpFamily[]): Map<string, OpRule> {
  const rules = new Map<string, OpRule>();
  for (const [op, rule] of all.flatMap((family) => Object.entries(family))) {
    if (rules.has(op)) throw new Error(`operator ${op} is declared twice`);
    rules.set(op, rule);
  }
  return rules;
}

/** The rule of an operator; undefined if it is not supported. Only ONNX's own domain has operators. */
export const ruleFor = (domain: string, op: string): OpRule | undefined =>
  domain === '' ? opRules.get(op) : undefined;
