/**
 * @file The channel order pass, for contractions on tensor cores: sums over the taps of a window outside and over channels inside, and
 * lays constant weights out in that order. A step of k then keeps to one tap, so where it reads, and whether that is inside the picture,
 * is worked out once a step and not once an element.
 */
import { asIndex, type Index } from '../ir/affine.ts';
import { contractionOf } from '../ir/contraction.ts';
import type { Buffer, Call } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import type { Target } from '../ir/target.ts';
import { rewriter } from '../ir/walk.ts';
import { convolutionOf } from './convolution.ts';
import { relayWeights } from './relay.ts';

/** Fewer channels than this do not fill a copy of 16 bytes. */
const leastChannels = 8;

export const orderChannels = (module: Module, target: Target): Module =>
  relayWeights(module, (call) => {
    const order = planOrder(call, module, target);
    return order && { ...order, call: reordered(call, order) };
  });

interface Order {
  /** The constant, its buffer in the kernel, and the order of its dimensions. */
  readonly value: string;
  readonly weights: Buffer;
  readonly dims: readonly number[];
  /** Taps first, then channels. */
  readonly over: readonly Index[];
}

/** What to change in a call; undefined if nothing is to be gained. */
function planOrder(call: Call, module: Module, target: Target): Order | undefined {
  const convolution = convolutionOf(call, module, target);
  if (!convolution) return undefined;
  const { contraction, weights, weightsValue: value, taps, channels } = convolution;
  const over = [...taps, ...channels];
  if (channels.reduce((n, i) => n * i.extent, 1) < leastChannels) return undefined;
  if (taps.every((i) => i.extent === 1) || over.every((i, n) => i === contraction.k[n])) return undefined;
  // Each dimension of the weights must be one index; those of k go last, in their new order.
  const indices = weights.at.map((a) => (a.terms.length === 0 ? undefined : asIndex(a)));
  if (weights.at.some((a, d) => a.terms.length > 0 && indices[d] === undefined)) return undefined;
  const place = (d: number): number => (indices[d] ? over.indexOf(indices[d]) : -1);
  const dims = indices.map((_, d) => d).sort((p, q) => place(p) - place(q) || p - q);
  return { value, weights: weights.load.buffer, dims, over };
}

function reordered(call: Call, { over }: Order): Call {
  const { sum } = contractionOf(call.kernel)!;
  const go = rewriter({
    node: (e, original) => (original === sum && e.kind === 'reduce' ? { ...e, over } : e),
  });
  const stores = call.kernel.stores.map((s) => ({ ...s, value: go(s.value) }));
  return { ...call, kernel: { ...call.kernel, stores } };
}
