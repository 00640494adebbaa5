/**
 * @file Simplifies a typed graph: nodes that do nothing go, and arithmetic by constants after a convolution or matrix
 * product becomes part of its weights.
 */
import { withoutDead } from './dead.ts';
import { foldIntoWeights } from './fold_weights.ts';
import type { Node, TypedGraph } from './graph.ts';

/** The same function with fewer nodes. */
export const simplify = (graph: TypedGraph): TypedGraph =>
  withoutDead(foldIntoWeights(withoutIdentities(graph)));

/** Removes nodes that pass their input on; one that makes a graph output stays, since outputs have names to keep. */
export function withoutIdentities(graph: TypedGraph): TypedGraph {
  const outputs = new Set(graph.outputs);
  const used = new Set(graph.nodes.flatMap((n) => n.inputs));
  const same = new Map<string, string>();
  const nodes: Node[] = [];
  for (const node of graph.nodes) {
    const inputs = node.inputs.map((i) => same.get(i) ?? i);
    const [output] = node.outputs;
    const mask = node.outputs[1] ?? '';
    const passes = node.op === 'Identity' || (node.op === 'Dropout' && !used.has(mask) && !outputs.has(mask));
    if (passes && node.domain === '' && !outputs.has(output!)) same.set(output!, inputs[0]!);
    else nodes.push({ ...node, inputs });
  }
  return { ...graph, nodes };
}
