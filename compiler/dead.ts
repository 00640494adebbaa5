/**
 * @file Dead code removal on graphs: nodes and constants that no output needs go.
 */
import type { Attribute, Graph, Node } from './graph.ts';

/** The graph without what its outputs do not need. Inputs stay, used or not: they are the model's interface. */
export function withoutDead<G extends Graph>(graph: G): G {
  const needed = new Set(graph.outputs);
  const nodes: Node[] = [];
  for (const node of graph.nodes.toReversed()) {
    if (!node.outputs.some((o) => needed.has(o))) continue;
    nodes.push(node);
    for (const value of usedBy(node)) needed.add(value);
  }
  const constants = new Map([...graph.constants].filter(([name]) => needed.has(name)));
  return { ...graph, nodes: nodes.reverse(), constants };
}

/** The values a node reads, in its branches too (names made inside them may be among these; that does no harm). */
function usedBy(node: Node): string[] {
  const used = node.inputs.filter((i) => i !== '');
  for (const value of node.attributes.values()) {
    if (isGraph(value)) used.push(...value.outputs, ...value.nodes.flatMap(usedBy));
  }
  return used;
}

const isGraph = (value: Attribute): value is Graph => typeof value === 'object' && 'nodes' in value;

/** Which nodes read each value. */
export function usersOf(graph: Graph): Map<string, Node[]> {
  const users = new Map<string, Node[]>();
  for (const node of graph.nodes) {
    for (const value of new Set(node.inputs)) {
      const list = users.get(value);
      if (list) list.push(node);
      else users.set(value, [node]);
    }
  }
  return users;
}
