/**
 * @file Lowers one node, strictly: a node of which something was not understood is refused.
 */
import { elementCount, formatType, sameShape } from '../ir/types.ts';
import type { NodeView } from './node_view.ts';
import type { Lowering, OpRule } from './rules.ts';

/** Emits a node's kernels. Throws Unsupported if its rule does, or if it has attributes that the rule never read. */
export function lowerNode(view: NodeView, rule: OpRule, out: Lowering): void {
  // Types are inferred once more: to see which attributes that reads, and that passes left the types right.
  rule.infer(view).forEach((type, i) => {
    const name = view.output(i);
    if (name === '') return;
    const known = out.type(name);
    view.require(
      known.dtype === type.dtype && sameShape(known.shape, type.shape),
      `its output ${i} is ${formatType(type)}, not ${formatType(known)}`,
    );
  });
  rule.lower(view, out);
  const [unread] = view.unread;
  if (unread !== undefined) throw view.unsupported(`attribute ${unread} is not supported`);
  // A rule may forget an output that only few models use; that must not show as a missing buffer much later.
  const made = new Set([
    ...out.calls.flatMap((c) => c.outputs),
    ...out.views.keys(),
    ...out.constants.keys(),
  ]);
  view.node.outputs.forEach((name, i) => {
    if (name !== '' && !made.has(name) && elementCount(out.type(name).shape) > 0) {
      throw view.unsupported(`its output ${i} is not supported`);
    }
  });
}

/** The value whose storage a value is a view of, in the end. */
export function rootOf(value: string, views: ReadonlyMap<string, string>): string {
  let root = value;
  for (let next = views.get(root); next !== undefined; next = views.get(root)) root = next;
  return root;
}
