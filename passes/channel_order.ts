/**
 * @file The channel order pass, for GPUs with tensor cores: lays constant weights out in the order in which neighbours read them.
 *
 * Contractions on tensor cores sum over the taps of a window outside and over channels inside. A step of k then keeps to one tap, so where
 * it reads, and whether that is inside the picture, is worked out once a step and not once an element. Matrices of weights lie in rows of
 * what is summed over, as warpgroups want them. In maps (depthwise convolutions) neighbouring points read neighbouring weights.
 */
import { type Affine, asIndex, type Index, indicesOf } from '../ir/affine.ts';
import { linearOffset } from '../ir/bounds.ts';
import { contractionOf, volume } from '../ir/contraction.ts';
import type { Buffer, Call } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import type { Target } from '../ir/target.ts';
import { elementCount } from '../ir/types.ts';
import { vectorIndex } from '../ir/vector.ts';
import { loadsIn, rewriter } from '../ir/walk.ts';
import { type Convolution, convolutionOf } from './convolution.ts';
import { type Relay, relayWeights } from './relay.ts';
import { scheduleKernel } from './schedule.ts';

/** Fewer channels than this do not fill a copy of 16 bytes. */
const leastChannels = 8;

/** Orders of sums first: what lies innermost in a step decides how its weights are to lie. */
export function orderChannels(module: Module, target: Target): Module {
  const calls = module.calls.map((call) => {
    const convolution = orderable(call, module, target);
    return convolution ? reordered(call, sumOrder(convolution)) : call;
  });
  return relayWeights({ ...module, calls }, (call) => planOrders(call, module, target));
}

/**
 * The call's matrix product, if its weights lie by columns and the rest by rows of k: warpgroups multiply rows of k alone, and nothing else gains
 * by the other order.
 */
function matrixProduct(call: Call, module: Module, target: Target): Convolution | undefined {
  const convolution = target.wgmma ? convolutionOf(call, module, target) : undefined;
  if (!convolution) return undefined;
  const { picture, weights, weightsValue, taps } = convolution;
  if (taps.some((i) => i.extent > 1) || !weights.positionFast || picture.positionFast) return undefined;
  if (picture.vector < leastChannels || module.outputs.some((o) => o.value === weightsValue))
    return undefined;
  return weights.at.some((a) => a.terms.length > 0 && !asIndex(a)) ? undefined : convolution;
}

/** Taps first, then channels. */
const sumOrder = ({ taps, channels }: Convolution): Index[] => [...taps, ...channels];

/** The call's convolution, if it has a window and channels enough, and weights of which each dimension is one index. */
function orderable(call: Call, module: Module, target: Target): Convolution | undefined {
  const convolution = convolutionOf(call, module, target);
  if (!convolution) return undefined;
  const { weights, weightsValue, taps, channels } = convolution;
  if (volume(channels) < leastChannels || taps.every((i) => i.extent === 1)) return undefined;
  if (module.outputs.some((o) => o.value === weightsValue)) return undefined;
  return weights.at.some((a) => a.terms.length > 0 && !asIndex(a)) ? undefined : convolution;
}

/** What to lay out anew for a call; nothing if nothing is to be gained. */
function planOrders(call: Call, module: Module, target: Target): readonly Relay[] {
  if (!convolutionOf(call, module, target)) return mapOrders(call, module, target);
  const convolution = orderable(call, module, target) ?? matrixProduct(call, module, target);
  if (!convolution) return [];
  const { weights, weightsValue: value } = convolution;
  const over = sumOrder(convolution);
  // The dimensions of k go last, in their order.
  const place = (d: number): number => {
    const i = asIndex(weights.at[d]!);
    return i ? over.indexOf(i) : -1;
  };
  const dims = [...weights.at.keys()].sort((p, q) => place(p) - place(q) || p - q);
  return dims.every((d, n) => d === n) ? [] : [{ value, weights: weights.load.buffer, dims }];
}

/** Constants of a map that neighbouring points, in the order of its outputs, read apart from each other. */
function mapOrders(call: Call, module: Module, target: Target): Relay[] {
  const { kernel, inputs } = call;
  const along = vectorIndex(kernel);
  if (!target.mma || !along || scheduleKernel(kernel, target).schedule?.skeleton !== 'map') return [];
  const step = (buffer: Buffer, at: readonly Affine[]): number =>
    linearOffset(buffer, at)?.coefficients.get(along) ?? 0;
  if (kernel.stores.some((s) => step(s.buffer, s.at) !== 1)) return [];
  const loads = loadsIn(kernel.stores.map((s) => s.value));
  return kernel.inputs.flatMap((weights, n): Relay[] => {
    const value = inputs[n]!;
    if (!module.constants.has(value) || inputs.filter((v) => v === value).length !== 1) return [];
    // One dimension must be the index itself in every load, and no other have it.
    const reads = loads.filter((l) => l.buffer === weights).map((l) => l.at);
    const last = weights.shape.findIndex((_, d) =>
      reads.every((at) =>
        at.every((c, other) => {
          if (!('affine' in c)) return false;
          return other === d ? asIndex(c.affine) === along : !indicesOf(c.affine).has(along);
        }),
      ),
    );
    if (reads.length === 0 || last < 0 || elementCount(weights.shape.slice(last + 1)) === 1) return [];
    return [{ value, weights, dims: [...weights.shape.keys()].filter((d) => d !== last).concat(last) }];
  });
}

/** The call with its sum in another order. */
function reordered(call: Call, over: readonly Index[]): Call {
  const { sum } = contractionOf(call.kernel)!;
  const go = rewriter({
    node: (e, original) => (original === sum && e.kind === 'reduce' ? { ...e, over } : e),
  });
  const stores = call.kernel.stores.map((s) => ({ ...s, value: go(s.value) }));
  return { ...call, kernel: { ...call.kernel, stores } };
}
