/**
 * @file What can be wrong with a model, each said in one line.
 */
import type { Node } from './graph.ts';

/** The input itself is at fault (a broken file, a wrong shape, a wrong option), not the program. */
export class InputError extends Error {
  override readonly name: string = 'InputError';
}

/** One node that cannot be compiled, and why. */
export interface NodeRefusal {
  readonly node: Node;
  readonly opset: number;
  readonly reason: string;
  /** The value that is missing at compile time, if that is the reason. */
  readonly needs?: string;
}

/** One value (an input, a weight) that cannot be compiled, and why. */
export interface ValueRefusal {
  readonly value: string;
  readonly reason: string;
}

export type Refusal = NodeRefusal | ValueRefusal;

/** The model is well formed but uses what is not supported; names every such node and value at once. */
export class Unsupported extends InputError {
  override readonly name = 'Unsupported';

  constructor(readonly refusals: readonly Refusal[]) {
    super(refusals.map(describe).join('\n'));
  }
}

function describe(refusal: Refusal): string {
  if ('value' in refusal) return `unsupported value ${quoted(refusal.value)}: ${refusal.reason}`;
  const { node, opset, reason } = refusal;
  const op = node.domain ? `${node.domain}.${node.op}` : node.op;
  return `unsupported ${plain(op)} (opset ${opset}) at node ${quoted(node.name)}: ${reason}`;
}

/** A name from a file, for a message: in quotes, on one line, of bounded length, nothing that moves the cursor. */
export const quoted = (name: string): string => `'${plain(name)}'`;

function plain(name: string): string {
  const clean = name.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '?');
  return clean.length > 120 ? `${clean.slice(0, 120)}…` : clean;
}
