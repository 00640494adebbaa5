/**
 * @file Gives every value a type, node by node, computing on the way whatever is known at compile time: constant
 * folding decides shapes, so the two are one walk. Branches of `If` are inlined here too, since what they hold is
 * typed like everything else.
 */
import { makeTensor, reader, type Tensor } from '../ir/tensor.ts';
import { elementCount, formatType, sameShape, type TensorType } from '../ir/types.ts';
import { withoutDead } from './dead.ts';
import { InputError, quoted, type Refusal, Unsupported } from './errors.ts';
import { Expander, type Expansion, type Site } from './expand/expander.ts';
import { expansionFor } from './expand/index.ts';
import { evaluate, FoldBudget } from './fold.ts';
import type { Graph, Node, TypedGraph } from './graph.ts';
import { NodeView } from './node_view.ts';
import { ruleFor } from './ops/index.ts';
import type { OpRule } from './rules.ts';
import { type InputShapes, maxElements, resolveInputs } from './shapes.ts';

/** Operators that are refused for a reason worth saying. */
const refused: { readonly [op: string]: string } = {
  Loop: 'loops are not supported; export the model with the loop unrolled',
  Scan: 'loops are not supported; export the model with the loop unrolled',
  NonZero: 'the shape of its output depends on data',
  Compress: 'the shape of its output depends on data',
  Unique: 'the shape of its output depends on data',
  NonMaxSuppression: 'the shape of its output depends on data',
};

/**
 * Types a graph for given input shapes and folds what is constant.
 * @param fixed inputs whose values are settled now: they become constants, and are inputs no more.
 * @throws Unsupported naming every node that cannot be compiled; InputError if shapes are missing or wrong.
 */
export function typeGraph(
  graph: Graph,
  inputShapes: InputShapes = {},
  fixed: ReadonlyMap<string, Tensor> = new Map(),
): TypedGraph {
  const live = withoutDead(withFixed(graph, fixed));
  const typer = new Typer(graph.opset);
  for (const [name, type] of resolveInputs(live, inputShapes)) typer.types.set(name, type);
  for (const [name, tensor] of live.constants) typer.setConstant(name, tensor);
  typer.walk(live.nodes, new Map());
  if (typer.refusals.length > 0) throw new Unsupported(typer.refusals);
  return withoutDead({
    ...live,
    inputs: live.inputs.map(({ name, dtype }) => ({ name, dtype, shape: typer.types.get(name)!.shape })),
    nodes: typer.nodes,
    constants: typer.constants,
    types: typer.types,
  });
}

/** The rule of a node that an expansion made. */
function ruleOf(node: Node): OpRule {
  const rule = ruleFor(node.domain, node.op);
  if (!rule) throw new Error(`expansions use operators that have rules, not ${node.op}`);
  return rule;
}

function withFixed(graph: Graph, fixed: ReadonlyMap<string, Tensor>): Graph {
  for (const [name, { dtype }] of fixed) {
    const input = graph.inputs.find((i) => i.name === name);
    if (!input) throw new InputError(`${quoted(graph.name)} has no input ${quoted(name)} to fix`);
    if (input.dtype !== dtype)
      throw new InputError(`input ${quoted(name)} is ${input.dtype}, its fixed value ${dtype}`);
  }
  return {
    ...graph,
    inputs: graph.inputs.filter((i) => !fixed.has(i.name)),
    constants: new Map([...graph.constants, ...fixed]),
  };
}

class Typer {
  readonly types = new Map<string, TensorType>();
  readonly constants = new Map<string, Tensor>();
  readonly nodes: Node[] = [];
  readonly refusals: Refusal[] = [];
  /** Values without a type because a node before them was refused. */
  readonly #lost = new Set<string>();
  #inlined = 0;
  readonly #budget = new FoldBudget();

  constructor(private readonly opset: number) {}

  setConstant(name: string, tensor: Tensor): void {
    this.types.set(name, { dtype: tensor.dtype, shape: tensor.shape });
    this.constants.set(name, tensor);
  }

  /** @param names what the values of an inlined branch are called in the graph. */
  walk(nodes: readonly Node[], names: ReadonlyMap<string, string>): void {
    const rename = (value: string): string => names.get(value) ?? value;
    for (const node of nodes) {
      const renamed =
        names.size === 0
          ? node
          : { ...node, inputs: node.inputs.map(rename), outputs: node.outputs.map(rename) };
      try {
        this.#visit(renamed, names);
      } catch (e) {
        // A rule that trips over an odd model must not look like a crash of the compiler.
        if (e instanceof Unsupported) this.refusals.push(...e.refusals);
        else if (e instanceof InputError || !(e instanceof TypeError || e instanceof RangeError)) throw e;
        else
          this.refusals.push({ node: renamed, opset: this.opset, reason: `it is malformed (${e.message})` });
        for (const output of renamed.outputs) this.#lost.add(output);
      }
    }
  }

  #visit(node: Node, names: ReadonlyMap<string, string>): void {
    const view = new NodeView(node, this.opset, this.types, this.constants);
    const isIf = node.op === 'If' && node.domain === '';
    const rule = ruleFor(node.domain, node.op);
    const expansion = expansionFor(node.domain, node.op);
    if (!rule && !isIf && !expansion) throw view.unsupported(refused[node.op] ?? 'unknown operator');
    if (node.inputs.some((i) => this.#lost.has(i))) {
      for (const output of node.outputs) this.#lost.add(output);
      return;
    }
    if (isIf) this.#branch(view, names);
    else if (rule) this.#apply(view, rule);
    else this.#expand(view, expansion!);
  }

  #apply(view: NodeView, rule: OpRule): void {
    const { node } = view;
    const types = rule.infer(view);
    const outputs = node.outputs.filter((name) => name !== '');
    node.outputs.forEach((name, i) => {
      const type = types[i];
      if (name === '') return;
      view.require(type !== undefined, `its output ${i} is not supported`);
      view.require(elementCount(type!.shape) <= maxElements, `its output ${i} would be ${formatType(type!)}`);
      this.types.set(name, type!);
    });
    const folded = this.#fold(view, rule);
    for (const name of outputs) {
      const type = this.types.get(name)!;
      const value = folded?.get(name);
      if (value)
        view.require(this.#budget.keep(value), 'the constants that the model computes are too large');
      // A tensor without elements has only one value.
      if (value) this.constants.set(name, value);
      else if (elementCount(type.shape) === 0) this.constants.set(name, makeTensor(type.dtype, type.shape));
    }
    if (!outputs.every((name) => this.constants.has(name))) this.nodes.push(node);
  }

  #fold(view: NodeView, rule: OpRule): ReadonlyMap<string, Tensor> | undefined {
    const { node } = view;
    const direct = rule.fold?.(view);
    if (direct) return new Map(direct.map((tensor, i) => [view.output(i), tensor]));
    const known = node.inputs.every((name) => name === '' || this.constants.has(name));
    return known && node.inputs.length > 0
      ? evaluate(view, rule, this.types, this.constants, this.#budget)
      : undefined;
  }

  /** Replaces a composite operator by the graph that it stands for. */
  #expand(view: NodeView, expansion: Expansion): void {
    const { node } = view;
    const site: Site = {
      append: (made) => this.#apply(new NodeView(made, this.opset, this.types, this.constants), ruleOf(made)),
      define: (name, tensor) => this.setConstant(name, tensor),
      type: (value) => this.types.get(value)!,
    };
    const made = expansion(view, new Expander(node, `${node.name}/${++this.#inlined}/`, site));
    const [unread] = view.unread;
    view.require(unread === undefined, `attribute ${unread} is not supported`);
    node.outputs.forEach((to, i) => {
      view.require(to === '' || made[i] !== undefined, `its output ${i} is not supported`);
      this.#add(node, 'Identity', [made[i]!], to);
    });
  }

  /** Replaces an `If` by the branch that is taken or, if that shows at run time only, by both and a choice. */
  #branch(view: NodeView, names: ReadonlyMap<string, string>): void {
    const { node } = view;
    const branches = ['then_branch', 'else_branch'].map((name) => {
      const graph = view.graph(name);
      if (!graph || graph.inputs.length > 0) throw view.unsupported(`${name} is not a graph without inputs`);
      view.require(
        graph.outputs.length === node.outputs.length,
        `${name} has ${graph.outputs.length} outputs`,
      );
      return graph;
    });
    view.require(
      elementCount(view.shape(0)) === 1 && view.type(0).dtype === 'i1',
      'its condition is not one bool',
    );
    const condition = view.constant(0);
    if (condition) {
      const taken = this.#inline(branches[reader(condition)(0) ? 0 : 1]!, node, names);
      node.outputs.forEach((to, i) => this.#add(node, 'Identity', [taken[i]!], to));
      return;
    }
    const before = this.refusals.length;
    const [yes, no] = branches.map((b) => this.#inline(b, node, names));
    if (this.refusals.length > before) throw new Unsupported([]); // listed already
    const flag = `${node.name}/condition.${++this.#inlined}`;
    this.#add(node, 'Reshape', [view.input(0), this.#shapeConstant(flag)], flag);
    node.outputs.forEach((to, i) => {
      const [a, b] = [this.types.get(yes![i]!)!, this.types.get(no![i]!)!];
      view.require(
        a.dtype === b.dtype && sameShape(a.shape, b.shape),
        `its branches give ${formatType(a)} and ${formatType(b)}, and which is taken shows only at run time`,
      );
      this.#add(node, 'Where', [flag, yes![i]!, no![i]!], to);
    });
  }

  #shapeConstant(hint: string): string {
    const name = `${hint}.shape`;
    this.setConstant(name, makeTensor('i64', [0]));
    return name;
  }

  #add(origin: Node, op: string, inputs: readonly string[], output: string): void {
    if (output === '') return;
    this.walk(
      [{ name: origin.name, op, domain: '', inputs, outputs: [output], attributes: new Map() }],
      new Map(),
    );
  }

  /** Types a branch as part of the graph; gives the names of its outputs. */
  #inline(branch: Graph, origin: Node, outer: ReadonlyMap<string, string>): string[] {
    const live = withoutDead(branch);
    const prefix = `${origin.name}/${++this.#inlined}/`;
    const names = new Map(outer);
    for (const value of live.constants.keys()) names.set(value, prefix + value);
    for (const node of live.nodes)
      for (const value of node.outputs) if (value !== '') names.set(value, prefix + value);
    for (const [name, tensor] of live.constants) this.setConstant(names.get(name)!, tensor);
    this.walk(live.nodes, names);
    return live.outputs.map((value) => names.get(value) ?? value);
  }
}
