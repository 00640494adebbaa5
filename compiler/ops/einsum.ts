/**
 * @file Einsum: a sum of products over labelled dimensions; each operand is loaded at its labels' indices.
 */
import { type Index, index } from '../../ir/affine.ts';
import { cast, load, op, reduce, store, widen } from '../../ir/build.ts';
import { dtypes } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import type { OpRule } from '../rules.ts';

interface Equation {
  readonly operands: readonly (readonly string[])[];
  readonly result: readonly string[];
  readonly extents: ReadonlyMap<string, number>;
}

/** Reads `ij,jk->ik`; an ellipsis stands for labels `0`, `1`, … counted from the last. */
function parse(node: NodeView): Equation {
  const text = node.string('equation', '').replaceAll(/\s/g, '');
  const [left, right, ...more] = text.split('->');
  const shapes = node.inputTypes.map((t) => t.shape);
  const terms = (left ?? '').split(',');
  node.require(more.length === 0 && terms.length === shapes.length, `equation ${text.slice(0, 60)}`);
  const spelled = terms.map((term) => {
    const labels = /^([A-Za-z]*)(\.\.\.)?([A-Za-z]*)$/.exec(term);
    if (!labels) throw node.unsupported(`equation ${text.slice(0, 60)}`);
    return { before: [...labels[1]!], dots: labels[2] !== undefined, after: [...labels[3]!] };
  });
  const dotted = spelled.map((s, i) => (s.dots ? shapes[i]!.length - s.before.length - s.after.length : 0));
  const longest = Math.max(0, ...dotted);
  const numbered = (count: number): string[] => Array.from({ length: count }, (_, i) => `${count - 1 - i}`);
  const operands = spelled.map((s, i) => [
    ...s.before,
    ...(s.dots ? numbered(Math.max(0, dotted[i]!)) : []),
    ...s.after,
  ]);
  const extents = new Map<string, number>();
  operands.forEach((labels, i) => {
    const shape = shapes[i]!;
    node.require(labels.length === shape.length, `equation ${text.slice(0, 60)} for shape [${shape}]`);
    labels.forEach((label, d) => {
      const known = extents.get(label) ?? 1;
      // Dimensions of one element broadcast.
      node.require(
        known === 1 || shape[d] === 1 || known === shape[d],
        `label ${label} of ${known} and ${shape[d]}`,
      );
      extents.set(label, Math.max(known, shape[d]!));
    });
  });
  return { operands, result: resultLabels(node, right, operands.flat(), numbered(longest)), extents };
}

function resultLabels(node: NodeView, right: string | undefined, used: string[], dots: string[]): string[] {
  if (right === undefined) {
    // Left out, it is what occurs once, in order of the alphabet.
    const once = used.filter((l) => !/\d/.test(l) && used.indexOf(l) === used.lastIndexOf(l));
    return [...dots, ...once.sort()];
  }
  const parts = /^([A-Za-z]*)(\.\.\.)?([A-Za-z]*)$/.exec(right);
  if (!parts) throw node.unsupported('equation');
  const labels = [...parts[1]!, ...(parts[2] ? dots : []), ...parts[3]!];
  node.require(labels.every((l) => used.includes(l)) && new Set(labels).size === labels.length, 'equation');
  return labels;
}

export const einsum: OpRule = {
  infer(node) {
    const { dtype } = node.type(0);
    node.require(dtypes[dtype].kind !== 'bool', `element type ${dtype}`);
    for (const t of node.inputTypes) node.require(t.dtype === dtype, `element types ${dtype} and ${t.dtype}`);
    const { result, extents } = parse(node);
    return [{ dtype, shape: result.map((l) => extents.get(l)!) }];
  },
  lower(node, out) {
    const { operands, result, extents } = parse(node);
    out.emit(node, 'einsum', node.inputs, [node.output(0)], (xs, [y]) => {
      const indices = new Map<string, Index>(
        [...extents].map(([l, extent]) => [l, index(/\d/.test(l) ? `e${l}` : l, extent)]),
      );
      const factors = xs.map((x, i) =>
        widen(
          load(
            x,
            operands[i]!.map((l, d) => (x.shape[d] === 1 ? 0 : indices.get(l)!)),
          ),
        ),
      );
      const domain = result.map((l) => indices.get(l)!);
      const over = [...indices.values()].filter((i) => !domain.includes(i));
      const sum = reduce(
        'sum',
        over,
        factors.reduce((a, b) => op('mul', a, b)),
      );
      return { domain, stores: [store(y!, domain, cast(y!.dtype, sum))] };
    });
  },
};
