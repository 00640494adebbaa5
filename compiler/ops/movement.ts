/**
 * @file Operators that move elements by index arithmetic alone: each output element is one input element, or none.
 */
import { type AffineLike, add, affine, floordiv, mod, mul } from '../../ir/affine.ts';
import { indexValue, load, op } from '../../ir/build.ts';
import type { Expr } from '../../ir/kernel.ts';
import { makeTensor, type Tensor } from '../../ir/tensor.ts';
import { elementCount, rowMajorStrides } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import type { OpFamily, OpRule } from '../rules.ts';
import { emitMap } from './map.ts';
import { like } from './scalar.ts';

/** How many inputs one kernel joins. */
const maxJoined = 12;

const permutation = (node: NodeView): number[] => {
  const rank = node.shape(0).length;
  const perm = [...(node.ints('perm') ?? node.shape(0).map((_, d) => rank - 1 - d))];
  node.require(
    perm.length === rank && new Set(perm).size === rank && perm.every((d) => d >= 0 && d < rank),
    `perm [${perm}]`,
  );
  return perm;
};

const transpose: OpRule = {
  infer(node) {
    const { dtype, shape } = node.type(0);
    return [{ dtype, shape: permutation(node).map((d) => shape[d]!) }];
  },
  fold(node) {
    const x = node.constant(0);
    return x && [transposed(x, permutation(node))];
  },
  lower(node, out) {
    const perm = permutation(node);
    const moved = perm.filter((d) => node.shape(0)[d] !== 1);
    // Moving dimensions of one element moves nothing.
    if (moved.every((d, i) => i === 0 || d > moved[i - 1]!)) return out.view(node.output(0), node.input(0));
    emitMap(node, out, 'transpose', [node.input(0)], ([x], at) => {
      const from: AffineLike[] = new Array(perm.length);
      perm.forEach((d, i) => void (from[d] = at[i]!));
      return load(x!, from);
    });
  },
};

/** Transposes in one pass over typed arrays: weights are too large to interpret a kernel for. */
function transposed(x: Tensor, perm: readonly number[]): Tensor {
  const from = rowMajorStrides(x.shape);
  const shape = perm.map((d) => x.shape[d]!);
  const out = makeTensor(x.dtype, shape);
  const strides = perm.map((d) => from[d]!);
  const at = new Array<number>(shape.length).fill(0);
  let source = 0;
  for (let i = 0; i < out.data.length; i++) {
    out.data[i] = x.data[source]!;
    for (let d = shape.length - 1; d >= 0; d--) {
      source += strides[d]!;
      if (++at[d]! < shape[d]!) break;
      source -= strides[d]! * shape[d]!;
      at[d] = 0;
    }
  }
  return out;
}

/** Concat: each output element selects between padded loads, one an input. */
const concat: OpRule = {
  infer(node) {
    const types = node.inputTypes;
    node.require(types.length > 0, 'no inputs');
    const { dtype, shape } = types[0]!;
    const axis = concatAxis(node);
    for (const t of types) {
      node.require(t.dtype === dtype, `element types ${dtype} and ${t.dtype}`);
      const fits = t.shape.length === shape.length && t.shape.every((d, i) => i === axis || d === shape[i]);
      node.require(fits, `shapes [${shape}] and [${t.shape}]`);
    }
    return [
      { dtype, shape: shape.map((d, i) => (i === axis ? types.reduce((n, t) => n + t.shape[i]!, 0) : d)) },
    ];
  },
  lower(node, out) {
    const axis = concatAxis(node);
    let parts = node.inputs.filter((name) => elementCount(out.type(name).shape) > 0);
    const { dtype, shape } = out.type(node.output(0));
    while (parts.length > maxJoined) {
      parts = Array.from({ length: Math.ceil(parts.length / maxJoined) }, (_, g) => {
        const group = parts.slice(g * maxJoined, (g + 1) * maxJoined);
        const extent = group.reduce((n, name) => n + out.type(name).shape[axis]!, 0);
        const output = out.temporary(node.output(0), { dtype, shape: shape.with(axis, extent) });
        join(group, output);
        return output;
      });
    }
    join(parts, node.output(0));

    function join(inputs: readonly string[], output: string): void {
      if (inputs.length === 1) {
        out.view(output, inputs[0]!);
        return;
      }
      emitMap(
        node,
        out,
        'concat',
        inputs,
        (xs, at) => {
          let end = out.type(output).shape[axis]!;
          return xs.reduceRight<Expr | undefined>((rest, x) => {
            const start = end - x.shape[axis]!;
            end = start;
            const part = load(
              x,
              at.map((a, d) => (d === axis ? add(a, -start) : a)),
              0,
            );
            if (!rest) return part;
            const limit = start + x.shape[axis]!;
            const here = indexValue(at[axis]!);
            return op('select', op('lt', here, like(here, limit)), part, rest);
          }, undefined)!;
        },
        { output },
      );
    }
  },
};

function concatAxis(node: NodeView): number {
  const axis = node.opset < 4 ? node.int('axis', 1) : node.int('axis');
  if (axis === undefined) throw node.unsupported('no axis');
  return node.axis(axis, node.inputTypes[0]!.shape.length);
}

/** Sizes of a Split's outputs: given as an attribute, as an input, or as equal as can be. */
function splitSizes(node: NodeView): { axis: number; sizes: readonly number[] } {
  const shape = node.shape(0);
  const axis = node.axis(node.int('axis', 0), shape.length);
  const given = node.opset < 13 ? node.ints('split') : node.numbers(1);
  const outputs = node.node.outputs.length;
  node.require(node.int('num_outputs', outputs) === outputs, 'num_outputs unlike the number of outputs');
  const each = Math.ceil(shape[axis]! / outputs);
  const sizes =
    given ?? node.node.outputs.map((_, i) => Math.max(0, Math.min(each, shape[axis]! - i * each)));
  node.require(
    sizes.length === outputs && sizes.reduce((a, b) => a + b, 0) === shape[axis],
    `sizes [${sizes}]`,
  );
  node.require(
    sizes.every((s) => s >= 0),
    `sizes [${sizes}]`,
  );
  return { axis, sizes };
}

const split: OpRule = {
  infer(node) {
    const { dtype, shape } = node.type(0);
    const { axis, sizes } = splitSizes(node);
    return sizes.map((size) => ({ dtype, shape: shape.with(axis, size) }));
  },
  lower(node, out) {
    const { axis, sizes } = splitSizes(node);
    // One kernel an output, so that each can fuse into what reads it.
    let start = 0;
    node.node.outputs.forEach((output, i) => {
      const from = start;
      start += sizes[i]!;
      if (output === '' || sizes[i] === 0) return;
      emitMap(
        node,
        out,
        'split',
        [node.input(0)],
        ([x], at) =>
          load(
            x!,
            at.map((a, d) => (d === axis ? add(a, from) : a)),
          ),
        { output },
      );
    });
  },
};

interface SliceDim {
  readonly start: number;
  readonly step: number;
  readonly length: number;
}

/** What a Slice takes of each dimension. */
function sliceDims(node: NodeView): SliceDim[] {
  const shape = node.shape(0);
  const read = (name: string, i: number) => (node.opset < 10 ? node.ints(name) : node.numbers(i));
  const starts = read('starts', 1);
  const ends = read('ends', 2);
  if (!starts || !ends) throw node.unsupported('no starts or ends');
  const axes = (read('axes', 3) ?? starts.map((_, i) => i)).map((a) => node.axis(a, shape.length));
  const steps = (node.opset < 10 ? undefined : node.numbers(4)) ?? starts.map(() => 1);
  node.require(
    [ends, axes, steps].every((l) => l.length === starts.length),
    'starts, ends, axes and steps of unlike lengths',
  );
  node.require(new Set(axes).size === axes.length && !steps.includes(0), `axes [${axes}], steps [${steps}]`);
  const dims = shape.map((length): SliceDim => ({ start: 0, step: 1, length }));
  axes.forEach((axis, i) => {
    const extent = shape[axis]!;
    const step = steps[i]!;
    const [low, high] = step > 0 ? [0, extent] : [-1, extent - 1];
    const bound = (v: number): number => Math.min(Math.max(v < 0 ? v + extent : v, low), high);
    const start = bound(starts[i]!);
    dims[axis] = { start, step, length: Math.max(0, Math.ceil((bound(ends[i]!) - start) / step)) };
  });
  return dims;
}

const slice: OpRule = {
  infer: (node) => [{ dtype: node.type(0).dtype, shape: sliceDims(node).map((d) => d.length) }],
  lower(node, out) {
    const dims = sliceDims(node);
    if (dims.every((d, i) => d.length === node.shape(0)[i] && d.step === 1)) {
      return out.view(node.output(0), node.input(0));
    }
    emitMap(node, out, 'slice', [node.input(0)], ([x], at) =>
      load(
        x!,
        at.map((a, d) => add(mul(a, dims[d]!.step), dims[d]!.start)),
      ),
    );
  },
};

const tile: OpRule = {
  infer(node) {
    const { dtype, shape } = node.type(0);
    const repeats = node.knownNumbers(1);
    node.require(repeats.length === shape.length && repeats.every((r) => r >= 0), `repeats [${repeats}]`);
    return [{ dtype, shape: shape.map((d, i) => d * repeats[i]!) }];
  },
  lower(node, out) {
    emitMap(node, out, 'tile', [node.input(0)], ([x], at) =>
      load(
        x!,
        at.map((a, d) => mod(a, x!.shape[d]!)),
      ),
    );
  },
};

/** DepthToSpace and SpaceToDepth are transposes of a tensor seen with its blocks as dimensions. */
const depthToSpace: OpRule = {
  infer(node) {
    const { dtype, shape } = node.type(0);
    const block = blockSize(node);
    const mode = node.string('mode', 'DCR');
    node.require(mode === 'DCR' || mode === 'CRD', `mode ${mode}`);
    node.require(shape[1]! % (block * block) === 0, `${shape[1]} channels in blocks of ${block}`);
    return [{ dtype, shape: [shape[0]!, shape[1]! / block ** 2, shape[2]! * block, shape[3]! * block] }];
  },
  lower(node, out) {
    const b = blockSize(node);
    const crd = node.string('mode', 'DCR') === 'CRD';
    emitMap(node, out, 'depth_to_space', [node.input(0)], ([x], [n, c, h, w]) => {
      const inner = add(mul(mod(h!, b), b), mod(w!, b));
      const depth = x!.shape[1]! / b ** 2;
      const channel = crd ? add(mul(c!, b * b), inner) : add(mul(inner, depth), c!);
      return load(x!, [n!, channel, floordiv(h!, b), floordiv(w!, b)]);
    });
  },
};

const spaceToDepth: OpRule = {
  infer(node) {
    const { dtype, shape } = node.type(0);
    const b = blockSize(node);
    const mode = node.string('mode', 'DCR');
    node.require(mode === 'DCR' || mode === 'CRD', `mode ${mode}`);
    node.require(shape[2]! % b === 0 && shape[3]! % b === 0, `[${shape}] in blocks of ${b}`);
    return [{ dtype, shape: [shape[0]!, shape[1]! * b * b, shape[2]! / b, shape[3]! / b] }];
  },
  lower(node, out) {
    const b = blockSize(node);
    const crd = node.string('mode', 'DCR') === 'CRD';
    emitMap(node, out, 'space_to_depth', [node.input(0)], ([x], [n, c, h, w]) => {
      const depth = x!.shape[1]!;
      const inner = crd ? mod(c!, b * b) : floordiv(c!, depth);
      const channel = crd ? floordiv(c!, b * b) : mod(c!, depth);
      return load(x!, [n!, channel, add(mul(h!, b), floordiv(inner, b)), add(mul(w!, b), mod(inner, b))]);
    });
  },
};

function blockSize(node: NodeView): number {
  const block = node.int('blocksize', 0);
  node.require(block > 0 && node.shape(0).length === 4, `blocks of ${block} in [${node.shape(0)}]`);
  return block;
}

/** Trilu: keeps one triangle of each matrix. */
const trilu: OpRule = {
  infer(node) {
    node.require(node.shape(0).length >= 2, `shape [${node.shape(0)}]`);
    triluOffset(node);
    node.int('upper', 1);
    return [node.type(0)];
  },
  lower(node, out) {
    const k = triluOffset(node);
    const upper = node.int('upper', 1) !== 0;
    emitMap(node, out, 'trilu', [node.input(0)], ([x], at) => {
      const [row, column] = [add(at.at(-2)!, k), affine(at.at(-1)!)].map(indexValue);
      const kept = upper ? op('le', row!, column!) : op('le', column!, row!);
      const value = load(x!, at);
      return op('select', kept, value, like(value, 0));
    });
  },
};

const triluOffset = (node: NodeView): number =>
  Math.max(-(2 ** 20), Math.min(2 ** 20, node.numbers(1)?.[0] ?? 0));

export const movementOps: OpFamily = {
  Transpose: transpose,
  Concat: concat,
  Split: split,
  Slice: slice,
  Tile: tile,
  DepthToSpace: depthToSpace,
  SpaceToDepth: spaceToDepth,
  Trilu: trilu,
};
