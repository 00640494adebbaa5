/**
 * @file The pack channels pass, for the first convolution of a model on tensor cores: a picture of few channels (red, green, blue) becomes one
 * whose pixels, or pairs of neighbouring pixels, fill 16 bytes, with zeros for the channels that there are not. The convolution then reads
 * 16 bytes at a time, as those behind it do, in place of single elements.
 *
 * Pairs of pixels are one where the window steps over them as such, which takes an even stride: a window of 7 from pixel -3 on is then
 * four pairs from pair -2 on, with zero weights for the pixel before the first. Nothing is added to a sum but products with zeros (of which
 * one is NaN where that pixel is infinite or NaN: such a picture spoils a column more).
 */
import { add, asIndex, coefficientOf, type Index, index, indicesOf, mul } from '../ir/affine.ts';
import { buffer, indicesFor, kernel, load, store } from '../ir/build.ts';
import type { Buffer, Call, Expr, Load } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import type { Target } from '../ir/target.ts';
import { makeArray, type Tensor } from '../ir/tensor.ts';
import { elementCount, rowMajorStrides, type TensorType } from '../ir/types.ts';
import { loadsIn, rewriter } from '../ir/walk.ts';
import { type Convolution, convolutionOf } from './convolution.ts';

/** Elements of 16 bits that 16 bytes hold. */
const filled = 8;

export function packChannels(module: Module, target: Target): Module {
  return module.calls.reduce((m, call) => {
    const plan = planOf(call, m, target);
    return plan ? apply(m, call, plan) : m;
  }, module);
}

/** How a convolution's picture is packed. */
interface Plan {
  readonly convolution: Convolution;
  /** The call that makes the picture, unless it is an input of the model; and what it is made from. */
  readonly maker: Call | undefined;
  readonly source: string;
  /** Pixels that become one. */
  readonly pixels: 1 | 2;
  /** Pixels that a window now begins earlier. */
  readonly earlier: number;
  readonly channel: Index;
  /** The index of the window along a row, and how many packed pixels the window has. */
  readonly tap: Index;
  readonly taps: number;
}

/** What is to be packed for a call: a picture [n, c, h, w] of few channels that only it reads, and weights of plain indices. */
function planOf(call: Call, module: Module, target: Target): Plan | undefined {
  const convolution = convolutionOf(call, module, target);
  if (!convolution) return undefined;
  const { picture, pictureValue, weights, weightsValue, channels, taps } = convolution;
  const [channel, ...others] = channels.filter((i) => i.extent > 1);
  if (!channel || others.length > 0 || channel.extent >= filled || picture.at.length !== 4) return undefined;
  if (asIndex(picture.at[1]!) !== channel || (picture.load.pad ?? 0) !== 0) return undefined;
  const row = picture.at[3]!;
  const tap = taps.find((i) => indicesOf(row).has(i) && i.extent > 1);
  const positions = [...indicesOf(row)].filter((i) => i !== tap && i.extent > 1);
  if (!tap || positions.length > 1 || coefficientOf(row, tap) !== 1) return undefined;
  const plain = weights.at.map((a) => asIndex(a));
  if (plain.some((i, d) => !i && weights.load.buffer.shape[d] !== 1)) return undefined;
  if ([channel, tap].some((i) => plain.filter((p) => p === i).length !== 1)) return undefined;
  const isKept = [pictureValue, weightsValue].some((v) => module.outputs.some((o) => o.value === v));
  const readers = module.calls.filter((c) => c.inputs.includes(pictureValue));
  if (isKept || readers.length !== 1 || call.inputs.filter((v) => v === pictureValue).length !== 1)
    return undefined;
  const maker = module.calls.find((c) => c.outputs.includes(pictureValue));
  const source = maker ? copiedBy(maker) : pictureValue;
  if (source === undefined || !module.inputs.includes(source)) return undefined;
  const isEven = row.terms.every(({ coeff, atom }) => atom === tap || coeff % 2 === 0);
  const pixels = isEven && channel.extent <= filled / 2 ? 2 : 1;
  const earlier = ((row.constant % pixels) + pixels) % pixels;
  const windows = Math.ceil((tap.extent + earlier) / pixels);
  return { convolution, maker, source, pixels, earlier, channel, tap, taps: windows };
}

/** The value that a call copies, element by element, if all it does is change the type: zeros then stay zeros. */
function copiedBy({ kernel: { stores, inputs: buffers, domain }, inputs }: Call): string | undefined {
  const [made, ...others] = stores;
  if (!made || others.length > 0 || made.over.length > 0 || buffers.length !== 1) return undefined;
  const isPlain = (e: Expr): boolean =>
    e.kind === 'load' ||
    (e.kind === 'const' && e.value !== 0) ||
    (e.kind === 'cast' && isPlain(e.arg)) ||
    // Clamping to what the type can hold.
    (e.kind === 'op' && (e.op === 'min' || e.op === 'max') && e.args.every(isPlain));
  const inOrder = (at: readonly (Index | undefined)[]): boolean => at.every((i, d) => i === domain[d]);
  const isCopy =
    isPlain(made.value) &&
    inOrder(made.at.map(asIndex)) &&
    loadsIn([made.value]).every((l) =>
      inOrder(l.at.map((c) => ('affine' in c ? asIndex(c.affine) : undefined))),
    );
  return isCopy ? inputs[0] : undefined;
}

function apply(module: Module, call: Call, plan: Plan): Module {
  const { convolution, maker, source } = plan;
  const { pictureValue, weightsValue } = convolution;
  const [packedPicture, packedWeights] = [`${pictureValue}.packed`, `${weightsValue}.packed`];
  const packing = packingCall(module, plan, packedPicture);
  const weights = packWeights(module.constants.get(weightsValue)!, plan);
  const packed = packedCall(call, plan, packing.kernel.outputs[0]!, weights, [packedPicture, packedWeights]);
  const types = new Map<string, TensorType>(module.types);
  const constants = new Map(module.constants);
  types.set(packedPicture, {
    dtype: packing.kernel.outputs[0]!.dtype,
    shape: packing.kernel.outputs[0]!.shape,
  });
  types.set(packedWeights, { dtype: weights.dtype, shape: weights.shape });
  constants.set(packedWeights, weights);
  const calls = module.calls
    .filter((c) => c !== maker)
    .flatMap((c) => (c === call ? [packing, packed] : [c]));
  if (!calls.some((c) => c.inputs.includes(weightsValue))) constants.delete(weightsValue);
  if (maker && source !== pictureValue) types.delete(pictureValue);
  return { ...module, types, constants, calls };
}

/** Makes the packed picture, [n, h, w / pixels, pixels and their channels]. */
function packingCall(module: Module, { convolution, maker, source, pixels }: Plan, value: string): Call {
  const { load: read } = convolution.picture;
  const type = module.types.get(source)!;
  const [n, c, h, w] = read.buffer.shape as [number, number, number, number];
  const channels = filled / pixels;
  const x = buffer('x', type.dtype, [n, c, h, w]);
  const y = buffer('y', read.dtype, [n, h, Math.ceil(w / pixels), filled]);
  const domain = indicesFor([n, h, Math.ceil(w / pixels), pixels, channels], ['n', 'h', 'q', 'p', 'c']);
  const [in_, ih, iq, ip, ic] = domain as [Index, Index, Index, Index, Index];
  const element = load(x, [in_, ic, ih, add(mul(iq, pixels), ip)], 0);
  const copied = maker
    ? rewriter({ node: (e) => (e.kind === 'load' ? element : e) })(maker.kernel.stores[0]!.value)
    : element;
  const at = [in_, ih, iq, add(mul(ip, channels), ic)];
  return {
    kernel: kernel('pack_channels', [x], [y], domain, [store(y, at, copied)], maker?.kernel.loc ?? []),
    inputs: [source],
    outputs: [value],
  };
}

/** The weights as [others, taps of rows, packed taps, pixels and their channels], zeros where there are none. */
function packWeights(tensor: Tensor, plan: Plan): Tensor {
  const { convolution, pixels, earlier, channel, tap, taps } = plan;
  const { load: read, at } = convolution.weights;
  const from = rowMajorStrides(read.buffer.shape);
  const dims = at.map((a, d) => ({ index: asIndex(a), extent: read.buffer.shape[d]!, step: from[d]! }));
  const outer = dims.filter(({ index: i }) => i !== channel && i !== tap);
  const [ofChannel, ofTap] = [channel, tap].map((i) => dims.find((d) => d.index === i)!.step) as [
    number,
    number,
  ];
  const shape = [...outer.map((d) => d.extent), taps, filled];
  const data = makeArray(tensor.dtype, elementCount(shape));
  let to = 0;
  const walk = (d: number, start: number): void => {
    if (d < outer.length) {
      for (let i = 0; i < outer[d]!.extent; i++) walk(d + 1, start + i * outer[d]!.step);
      return;
    }
    for (let q = 0; q < taps; q++)
      for (let e = 0; e < filled; e++, to++) {
        const [p, c] = [Math.floor(e / (filled / pixels)), e % (filled / pixels)];
        const t = q * pixels + p - earlier;
        if (t >= 0 && t < tap.extent && c < channel.extent)
          data[to] = tensor.data[start + c * ofChannel + t * ofTap]!;
      }
  };
  walk(0, 0);
  return { dtype: tensor.dtype, shape, data };
}

/** The convolution over the packed picture. */
function packedCall(
  call: Call,
  { convolution, pixels, earlier, channel, tap, taps }: Plan,
  pictureBuffer: Buffer,
  packedWeights: Tensor,
  [pictureValue, weightsValue]: readonly [string, string],
): Call {
  const { picture, weights, contraction } = convolution;
  const x: Buffer = { ...pictureBuffer, name: picture.load.buffer.name };
  const w: Buffer = { ...weights.load.buffer, shape: packedWeights.shape };
  const [q, e] = [index(tap.name, taps), index(channel.name, filled)];
  const row = picture.at[3]!;
  const rest = row.terms.filter((t) => t.atom !== tap);
  const alongRow = rest.reduce(
    (sum, { coeff, atom }) => add(sum, mul({ terms: [{ coeff: 1, atom }], constant: 0 }, coeff / pixels)),
    add(q, (row.constant - earlier) / pixels),
  );
  const newPicture = load(x, [picture.at[0]!, picture.at[2]!, alongRow, e], 0) as Load;
  const others = weights.at.filter((a) => asIndex(a) !== channel && asIndex(a) !== tap);
  const newWeights = load(w, [...others, q, e]) as Load;
  const go = rewriter({
    node: (expr, original) => {
      if (original === picture.load) return newPicture;
      if (original === weights.load) return newWeights;
      if (original !== contraction.sum || expr.kind !== 'reduce') return expr;
      return { ...expr, over: [...contraction.sum.over.filter((i) => i !== channel && i !== tap), q, e] };
    },
  });
  const exchanged = new Map([
    [picture.load.buffer, { buffer: x, value: pictureValue }],
    [weights.load.buffer, { buffer: w, value: weightsValue }],
  ]);
  const { kernel: k } = call;
  return {
    ...call,
    inputs: call.inputs.map((v, n) => exchanged.get(k.inputs[n]!)?.value ?? v),
    kernel: {
      ...k,
      inputs: k.inputs.map((b) => exchanged.get(b)?.buffer ?? b),
      stores: k.stores.map((s) => ({ ...s, value: go(s.value) })),
    },
  };
}
