/**
 * @file The two classification losses, for models that were exported with them.
 */
import type { NodeView } from '../node_view.ts';
import type { Expander, Expansion, ExpansionFamily } from './expander.ts';

/** -weight[t] * x[t] of each position's target t, then summed or averaged by weight. */
function negativeLogLikelihood(node: NodeView, make: Expander, scores: string): string {
  const target = node.input(1);
  const reduction = node.string('reduction', 'mean');
  node.require(['none', 'sum', 'mean'].includes(reduction), `reduction ${reduction}`);
  const picked = make.op('GatherElements', [scores, make.unsqueeze(target, 1)], { axis: 1 });
  const negative = make.op('Neg', [make.squeeze(picked, 1)]);
  const ignored = node.int('ignore_index');
  let weight = node.has(2)
    ? make.op('Gather', [node.input(2), target])
    : make.op('Expand', [make.like(scores, 1), make.ints(...make.shape(target))]);
  if (ignored !== undefined) {
    const skip = make.op('Equal', [target, make.like(target, ignored)]);
    weight = make.where(skip, make.like(weight, 0), weight);
  }
  const loss = make.mul(negative, weight);
  if (reduction === 'none') return loss;
  const axes = make.shape(target).map((_, d) => d);
  const total = make.sum(loss, axes, false);
  return reduction === 'sum' ? total : make.div(total, make.sum(weight, axes, false));
}

const nll: Expansion = (node, make) => [negativeLogLikelihood(node, make, node.input(0))];

const softmaxCrossEntropy: Expansion = (node, make) => {
  const logs = make.op('LogSoftmax', [node.input(0)], { axis: 1 });
  return [negativeLogLikelihood(node, make, logs), logs];
};

export const lossOps: ExpansionFamily = {
  NegativeLogLikelihoodLoss: nll,
  SoftmaxCrossEntropyLoss: softmaxCrossEntropy,
};
