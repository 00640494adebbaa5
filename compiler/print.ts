/**
 * @file The text of a typed graph: one node a line, with the types of what it makes.
 */
import { formatType } from '../ir/types.ts';
import type { Attribute, TypedGraph } from './graph.ts';

export function printGraph(graph: TypedGraph): string {
  const typed = (name: string): string => {
    const type = graph.types.get(name);
    return name === '' ? '_' : type ? `%${name}: ${formatType(type)}` : `%${name}`;
  };
  const body = graph.nodes.map((node) => {
    const attributes = [...node.attributes].map(([key, value]) => `${key} = ${formatAttribute(value)}`);
    const list = attributes.length > 0 ? ` {${attributes.join(', ')}}` : '';
    const op = node.domain ? `${node.domain}.${node.op}` : node.op;
    const inputs = node.inputs.map((name) => (name === '' ? '_' : `%${name}`)).join(', ');
    return `  ${node.outputs.map(typed).join(', ')} = ${op}(${inputs})${list}${node.name ? ` loc(${JSON.stringify(node.name)})` : ''}`;
  });
  return [
    `graph ${JSON.stringify(graph.name)} opset ${graph.opset} (${graph.inputs.map((i) => typed(i.name)).join(', ')}) {`,
    ...[...graph.constants].map(([name, tensor]) => `  %${name} = constant ${formatType(tensor)}`),
    ...body,
    `  return ${graph.outputs.map((name) => `%${name}`).join(', ')}`,
    '}',
  ].join('\n');
}

function formatAttribute(value: Attribute): string {
  if (typeof value === 'number') return String(value);
  if (typeof value === 'string') return JSON.stringify(value);
  if ('data' in value) return `tensor ${formatType(value)}`;
  if ('nodes' in value) return `graph of ${value.nodes.length} nodes`;
  return `[${value.join(', ')}]`;
}
