/**
 * @file The layout pass, for convolutions on tensor cores: values between kernels are stored with their channels last, [n, h, w, c] in place
 * of [n, c, h, w]. A step of a sum over channels is then contiguous in both operands, and is copied 16 bytes at a time past the
 * registers, taps and padding or not.
 *
 * A change of layout is a change of the buffers' shapes in the kernel that makes a value and in those that read it: no element is moved
 * that was not moved before. Inputs, outputs and constants keep their layout.
 */
import type { Affine, Index } from '../ir/affine.ts';
import { indicesOf } from '../ir/affine.ts';
import { linearOffset } from '../ir/bounds.ts';
import { volume } from '../ir/contraction.ts';
import type { Buffer, Call, Coordinate, Kernel } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import type { Target } from '../ir/target.ts';
import { elementCount } from '../ir/types.ts';
import { loadsIn } from '../ir/walk.ts';
import { convolutionOf, mentions } from './convolution.ts';
import { permute, permuteBuffers } from './permute.ts';

/** Channels that 16 bytes hold: a convolution gains where they are a multiple of it. */
const copied = 8;

export function layOut(module: Module, target: Target): Module {
  const movable = movableValues(module);
  const chosen = new Set(
    module.calls.flatMap((call) => wishesOf(call, module, target)).filter((v) => movable.has(v)),
  );
  if (chosen.size === 0) return module;
  spread(chosen, movable, module);
  return {
    ...module,
    types: new Map(
      [...module.types].map(([value, type]) => {
        if (!chosen.has(value)) return [value, type];
        return [value, { ...type, shape: permute(type.shape, channelsLast(type.shape, type.shape)!) }];
      }),
    ),
    calls: module.calls.map((call) => laidOut(call, chosen, module)),
  };
}

/** Where the channels of a value of the given shape, [n, c, …], lie in a view of it; undefined if the view mixes them with others. */
function channelDims(
  view: readonly number[],
  [n, c]: readonly number[],
): { readonly first: number; readonly last: number } | undefined {
  const dims = [...view.keys(), view.length];
  // The last of several places where the view's dimensions so far make n: those of one may come before or after.
  const first = dims.findLast((d) => elementCount(view.slice(0, d)) === n);
  if (first === undefined) return undefined;
  const last = dims.find((d) => d > first && elementCount(view.slice(first, d)) === c);
  return last === undefined ? undefined : { first, last };
}

/** The order of a view's dimensions that puts the channels last. */
function channelsLast(view: readonly number[], shape: readonly number[]): number[] | undefined {
  const channels = channelDims(view, shape);
  if (!channels) return undefined;
  const { first, last } = channels;
  const dims = [...view.keys()];
  return [...dims.slice(0, first), ...dims.slice(last), ...dims.slice(first, last)];
}

/** The buffers of a call with the values that they are views of. */
const operandsOf = ({ kernel, inputs, outputs }: Call): (readonly [Buffer, string])[] => [
  ...kernel.inputs.map((b, n) => [b, inputs[n]!] as const),
  ...kernel.outputs.map((b, n) => [b, outputs[n]!] as const),
];

/** Values that calls make and only calls read, where channels are dimensions of their own in every view. */
function movableValues(module: Module): Set<string> {
  const values = new Set(module.calls.flatMap((c) => c.outputs));
  for (const { value } of module.outputs) values.delete(value);
  for (const value of values) {
    const { shape } = module.types.get(value)!;
    const [, c = 1, ...pixels] = shape;
    // With one channel or one pixel both layouts are the same.
    if (c === 1 || elementCount(pixels) <= 1) values.delete(value);
  }
  for (const [b, value] of module.calls.flatMap(operandsOf))
    if (values.has(value) && !channelsLast(b.shape, module.types.get(value)!.shape)) values.delete(value);
  return values;
}

/** The values that a call would rather have with channels last: the picture and the output of a convolution. */
function wishesOf(call: Call, module: Module, target: Target): string[] {
  const convolution = convolutionOf(call, module, target);
  if (!convolution) return [];
  const { contraction, picture, pictureValue, weights, channels } = convolution;
  const fills = (indices: readonly Index[]): boolean =>
    (indices.findLast((i) => i.extent > 1)?.extent ?? 1) % copied === 0;
  /** True if in this access channels are told by the given indices and pixels by the picture's positions. */
  const isPicture = (buffer: Buffer, at: readonly Affine[], value: string, of: readonly Index[]): boolean => {
    const dims = channelDims(buffer.shape, module.types.get(value)!.shape);
    if (!dims || module.types.get(value)!.shape.length < 3) return false;
    const inside = at.slice(dims.first, dims.last);
    const others = [...at.slice(0, dims.first), ...at.slice(dims.last)];
    return (
      inside.some((a) => mentions(a, of)) &&
      !inside.some((a) => mentions(a, picture.positions)) &&
      !others.some((a) => mentions(a, of)) &&
      others.some((a) => mentions(a, picture.positions)) &&
      fills(of)
    );
  };
  const { store } = contraction;
  const made = call.outputs[0]!;
  return [
    ...(isPicture(picture.load.buffer, picture.at, pictureValue, channels) ? [pictureValue] : []),
    ...(isPicture(store.buffer, store.at, made, weights.positions) ? [made] : []),
  ];
}

/**
 * Adds the values that share their channels with a chosen one in some call: the operands of a sum, what is pooled and the pool. So a
 * chain of kernels keeps to one layout, and each of them reads as it writes.
 */
function spread(chosen: Set<string>, movable: ReadonlySet<string>, module: Module): void {
  const links = module.calls.flatMap((call) => linksOf(call, movable, module));
  for (let size = 0; size !== chosen.size; ) {
    size = chosen.size;
    for (const [a, b] of links) {
      if (chosen.has(a)) chosen.add(b);
      else if (chosen.has(b)) chosen.add(a);
    }
  }
}

/** Pairs of movable values whose channels a call addresses by the same index. */
function linksOf(call: Call, movable: ReadonlySet<string>, module: Module): [string, string][] {
  const { kernel } = call;
  const values = new Map(operandsOf(call));
  const domain = new Set(kernel.domain.filter((i) => i.extent > 1));
  const accesses = [
    ...kernel.stores.map((s) => ({ buffer: s.buffer, at: s.at })),
    ...loadsIn(kernel.stores.map((s) => s.value)).map((l) => ({ buffer: l.buffer, at: affineOf(l.at) })),
  ].flatMap(({ buffer, at }) => {
    const value = values.get(buffer)!;
    if (!movable.has(value)) return [];
    const { first, last } = channelDims(buffer.shape, module.types.get(value)!.shape)!;
    const indices = at.slice(first, last).flatMap((a) => (a ? [...indicesOf(a)] : []));
    return [{ value, channels: indices.filter((i) => domain.has(i)) }];
  });
  return accesses.flatMap((x, n) =>
    accesses
      .slice(n + 1)
      .filter((y) => y.value !== x.value && y.channels.some((i) => x.channels.includes(i)))
      .map((y): [string, string] => [x.value, y.value]),
  );
}

const affineOf = (at: readonly Coordinate[]): (Affine | undefined)[] =>
  at.map((c) => ('affine' in c ? c.affine : undefined));

/** The call with the chosen values' buffers in their new layout. */
function laidOut(call: Call, chosen: ReadonlySet<string>, module: Module): Call {
  const orders = new Map<Buffer, readonly number[]>();
  for (const [b, value] of operandsOf(call))
    if (chosen.has(value)) orders.set(b, channelsLast(b.shape, module.types.get(value)!.shape)!);
  if (orders.size === 0) return call;
  const kernel = permuteBuffers(call.kernel, orders);
  const made = call.outputs.findIndex((v) => chosen.has(v));
  return { ...call, kernel: made < 0 ? kernel : inOrderOf(kernel, kernel.outputs[made]!) };
}

/** The kernel with its domain in the order of an output's memory, so that neighbouring points write neighbouring elements. */
function inOrderOf(kernel: Kernel, output: Buffer): Kernel {
  const store = kernel.stores.find((s) => s.buffer === output)!;
  const offset = linearOffset(output, store.at);
  if (!offset) return kernel;
  const step = (i: Index): number =>
    i.extent === 1 ? volume(kernel.domain) : (offset.coefficients.get(i) ?? 0);
  return { ...kernel, domain: [...kernel.domain].sort((a, b) => step(b) - step(a)) };
}
