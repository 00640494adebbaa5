/**
 * @file Computes a node at compile time: lowers it and interprets its kernels, so that folding and running cannot
 * disagree about what an operator means.
 */
import { interpretKernel } from '../ir/interpret.ts';
import type { Expr, Kernel } from '../ir/kernel.ts';
import { makeTensor, reshaped, type Tensor } from '../ir/tensor.ts';
import type { TensorType } from '../ir/types.ts';
import { childrenOf } from '../ir/walk.ts';
import { lowerNode, rootOf } from './lower_node.ts';
import type { NodeView } from './node_view.ts';
import { Lowering, type OpRule } from './rules.ts';

/** What a node may cost, in interpreted operations (about half a second); a dearer one is left to run time. */
const maxSteps = 4e6;

/** What one model's folding may still cost. However many nodes a model has, compiling it comes to an end. */
export class FoldBudget {
  #steps = 4e7;
  /** Elements of new constants: a small file must not fill the memory. */
  #elements = 2 ** 26;
  readonly #counted = new WeakSet<object>();

  /** True if so many steps may be spent, which they then are. */
  spend(steps: number): boolean {
    if (steps > maxSteps || steps > this.#steps) return false;
    this.#steps -= steps;
    return true;
  }

  /** Counts a constant, once however many views of it there are; false if it is too much. */
  keep({ data }: Tensor): boolean {
    if (this.#counted.has(data)) return true;
    this.#counted.add(data);
    this.#elements -= data.length;
    return this.#elements >= 0;
  }
}

/**
 * The values of a node's outputs, by name, given its constant inputs; undefined if that would take too long.
 * @param types of the node's inputs and outputs.
 */
export function evaluate(
  view: NodeView,
  rule: OpRule,
  types: ReadonlyMap<string, TensorType>,
  constants: ReadonlyMap<string, Tensor>,
  budget: FoldBudget,
): Map<string, Tensor> | undefined {
  const out = new Lowering((value) => types.get(value)!);
  lowerNode(view, rule, out);
  const cost = out.calls.reduce((sum, c) => sum + steps(c.kernel), 0);
  if (!budget.spend(cost)) return undefined;
  const values = new Map<string, Tensor>();
  const tensorFor = (name: string): Tensor => {
    const root = rootOf(name, out.views);
    const known = values.get(root) ?? out.constants.get(root) ?? constants.get(root);
    if (known) return known;
    // Only a tensor without elements is made by nobody.
    const { dtype, shape } = out.type(root);
    return makeTensor(dtype, shape);
  };
  for (const { kernel, inputs, outputs } of out.calls) {
    interpretKernel(kernel, inputs.map(tensorFor)).forEach((t, i) => void values.set(outputs[i]!, t));
  }
  const results = new Map<string, Tensor>();
  for (const name of view.node.outputs) {
    if (name !== '') results.set(name, reshaped(tensorFor(name), types.get(name)!.shape));
  }
  return results;
}

/** Roughly how many operations the interpreter takes. */
function steps(kernel: Kernel): number {
  const points = (over: readonly { extent: number }[]): number => over.reduce((n, i) => n * i.extent, 1);
  const memo = new Map<Expr, number>();
  const cost = (e: Expr): number => {
    let n = memo.get(e);
    if (n === undefined) {
      n = 1;
      for (const child of childrenOf(e)) n += cost(child);
      if (e.kind === 'reduce') n *= points(e.over);
      memo.set(e, n);
    }
    return n;
  };
  return points(kernel.domain) * kernel.stores.reduce((sum, s) => sum + points(s.over) * cost(s.value), 0);
}
