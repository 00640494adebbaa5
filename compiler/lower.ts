/**
 * @file Lowers a typed graph to a module: every node by its operator's rule, then views resolved to the storage
 * they look at, and outputs given storage of their own.
 */
import { buffer, indicesFor, kernel, load, store } from '../ir/build.ts';
import type { Call } from '../ir/kernel.ts';
import type { Module, ModuleOutput } from '../ir/module.ts';
import type { Tensor } from '../ir/tensor.ts';
import { elementCount, type TensorType } from '../ir/types.ts';
import { type Refusal, Unsupported } from './errors.ts';
import type { TypedGraph } from './graph.ts';
import { lowerNode, rootOf } from './lower_node.ts';
import { NodeView } from './node_view.ts';
import { ruleFor } from './ops/index.ts';
import { Lowering } from './rules.ts';

/** More buffers than this a kernel cannot have: its slot row has no room. */
const maxOperands = 16;

/**
 * Lowers every node of a graph.
 * @throws Unsupported naming every node that has no kernel.
 */
export function lowerGraph(graph: TypedGraph): Module {
  const out = new Lowering((value) => graph.types.get(value)!);
  const refusals: Refusal[] = [];
  for (const node of graph.nodes) {
    const view = new NodeView(node, graph.opset, graph.types, graph.constants);
    const before = out.calls.length;
    try {
      lowerNode(view, ruleFor(node.domain, node.op)!, out);
      for (const { kernel: k } of out.calls.slice(before)) {
        const operands = k.inputs.length + k.outputs.length;
        view.require(operands <= maxOperands, `${operands} operands; at most ${maxOperands} are supported`);
      }
    } catch (e) {
      if (e instanceof Unsupported) refusals.push(...e.refusals);
      else if (e instanceof TypeError || e instanceof RangeError) {
        refusals.push({ node, opset: graph.opset, reason: `it is malformed (${e.message})` });
      } else throw e;
    }
  }
  if (refusals.length > 0) throw new Unsupported(refusals);
  return link(graph, out);
}

/** Turns what lowering collected into a module. */
function link(graph: TypedGraph, out: Lowering): Module {
  const constantOf = (value: string): Tensor | undefined =>
    graph.constants.get(value) ?? out.constants.get(value);
  const isEmpty = (value: string): boolean => elementCount(out.type(value).shape) === 0;
  let calls = out.calls.map(
    (call): Call => ({ ...call, inputs: call.inputs.map((value) => rootOf(value, out.views)) }),
  );
  calls = calls.filter((call) => !call.outputs.every(isEmpty));

  const fixed = new Set([
    ...graph.inputs.map((i) => i.name),
    ...graph.constants.keys(),
    ...out.constants.keys(),
  ]);
  // What a call makes for an output takes the output's name, and with that its shape.
  const renamed = new Map<string, string>();
  const copies: Call[] = [];
  const outputs = graph.outputs.map((name): ModuleOutput => {
    const root = rootOf(name, out.views);
    if (isEmpty(name)) return { name, value: name };
    if (!fixed.has(root) && !renamed.has(root)) {
      renamed.set(root, name);
      return { name, value: name };
    }
    const value = fixed.has(name) ? out.temporary(name, out.type(name)) : name;
    copies.push(copy(renamed.get(root) ?? root, value, out.type(name)));
    return { name, value };
  });
  const rename = (value: string): string => renamed.get(value) ?? value;
  calls = calls.map((c) => ({ ...c, inputs: c.inputs.map(rename), outputs: c.outputs.map(rename) }));
  calls = withoutDead(
    [...calls, ...copies],
    outputs.map((o) => o.value),
  );

  const types = new Map<string, TensorType>();
  const constants = new Map<string, Tensor>();
  const declare = (value: string): void => {
    const { dtype, shape } = out.type(value);
    types.set(value, { dtype, shape });
  };
  for (const { name } of graph.inputs) declare(name);
  for (const call of calls) {
    for (const value of [...call.inputs, ...call.outputs]) {
      declare(value);
      const constant = constantOf(value);
      if (constant) constants.set(value, constant);
    }
  }
  for (const { value } of outputs) declare(value);
  return { name: graph.name, types, constants, inputs: graph.inputs.map((i) => i.name), outputs, calls };
}

/** Copies a value, for an output that is an input, a constant, or a second name of another output. */
function copy(from: string, to: string, { dtype, shape }: TensorType): Call {
  const x = buffer('x0', dtype, shape);
  const y = buffer('y0', dtype, shape);
  const at = indicesFor(shape);
  return {
    kernel: kernel('copy', [x], [y], at, [store(y, at, load(x, at))], [to]),
    inputs: [from],
    outputs: [to],
  };
}

function withoutDead(calls: readonly Call[], outputs: readonly string[]): Call[] {
  const needed = new Set(outputs);
  const live = calls.toReversed().filter((call) => {
    if (!call.outputs.some((o) => needed.has(o))) return false;
    for (const value of call.inputs) needed.add(value);
    return true;
  });
  return live.reverse();
}
