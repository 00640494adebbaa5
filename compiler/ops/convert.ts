/**
 * @file Operators that choose, limit or convert elements: Where, Clip, casts, quantization.
 */
import { affine } from '../../ir/affine.ts';
import { cast, constant, load, op, widen } from '../../ir/build.ts';
import type { Buffer, Expr } from '../../ir/kernel.ts';
import { converted } from '../../ir/tensor.ts';
import { type DType, dtypes } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import { dtypeOf, elemTypeName } from '../onnx/tensors.ts';
import type { OpFamily, OpRule } from '../rules.ts';
import { broadcastAt, broadcastShape } from './broadcast.ts';
import { emitMap } from './map.ts';
import { clamp } from './scalar.ts';

/** The element type that an attribute names by ONNX's number (in the first opsets, by its name). */
export function dtypeAttribute(node: NodeView, name: string, otherwise?: DType): DType {
  if (node.opset < 6 && typeof node.node.attributes.get(name) === 'string') {
    const byName = {
      FLOAT: 'f32',
      FLOAT16: 'f16',
      INT32: 'i32',
      INT64: 'i64',
      BOOL: 'i1',
      UINT8: 'u8',
      INT8: 'i8',
    };
    const spelled = byName[node.string(name, '') as keyof typeof byName];
    if (!spelled) throw node.unsupported(`element type ${node.string(name, '')}`);
    return spelled as DType;
  }
  const number = node.int(name);
  if (number === undefined && otherwise) return otherwise;
  const dtype = dtypeOf(number ?? 0);
  if (!dtype) throw node.unsupported(`element type ${elemTypeName(number ?? 0)}`);
  return dtype;
}

/** A cast of any kind; `target` says to which type. */
const castTo = (target: (node: NodeView) => DType): OpRule => ({
  infer(node) {
    // Both say how casts to 8-bit floats round, which we do not have.
    node.ignore('saturate', 'round_mode');
    return [{ dtype: target(node), shape: node.shape(0) }];
  },
  fold(node) {
    const x = node.constant(0);
    // Floats to integers round in a way of their own: left to the kernel.
    const simple = x && (dtypes[target(node)].kind === 'float' || dtypes[x.dtype].kind !== 'float');
    return simple ? [converted(x, target(node))] : undefined;
  },
  lower(node, out) {
    if (node.type(0).dtype === target(node)) return out.view(node.output(0), node.input(0));
    emitMap(node, out, 'cast', [node.input(0)], ([x], at) => load(x!, at));
  },
});

const where: OpRule = {
  infer(node) {
    node.require(node.type(0).dtype === 'i1', `a condition of type ${node.type(0).dtype}`);
    node.require(node.type(1).dtype === node.type(2).dtype, 'choices of two types');
    return [
      {
        dtype: node.type(1).dtype,
        shape: broadcastShape(
          node,
          [0, 1, 2].map((i) => node.shape(i)),
        ),
      },
    ];
  },
  lower(node, out) {
    emitMap(node, out, 'where', node.inputs, (xs, at) => {
      const [condition, a, b] = xs.map((x) => load(x, broadcastAt(x.shape, at)));
      return op('select', condition!, a!, b!);
    });
  },
};

/** Clip's limits are attributes before opset 11, optional scalar inputs since. */
const clip: OpRule = {
  infer(node) {
    const { dtype, shape } = node.type(0);
    node.ignore('consumed_inputs');
    node.require(dtypes[dtype].kind !== 'bool', 'element type bool');
    for (const i of [1, 2].filter((n) => node.has(n))) {
      node.require(
        node.type(i).dtype === dtype && node.type(i).shape.length <= 1,
        `a limit that is no ${dtype} scalar`,
      );
      node.require(
        node.type(i).shape.every((d) => d === 1),
        'a limit that is no scalar',
      );
    }
    return [{ dtype, shape }];
  },
  lower(node, out) {
    const limits = [1, 2].filter((i) => node.has(i));
    const fixed = [node.float('min', Number.NEGATIVE_INFINITY), node.float('max', Number.POSITIVE_INFINITY)];
    // A limit that is known is part of the kernel; one that comes at run time is an operand.
    const loaded = limits.filter((i) => !node.constant(i));
    for (const i of limits.filter((n) => !loaded.includes(n))) fixed[i - 1] = node.numbers(i)![0]!;
    const inputs = [node.input(0), ...loaded.map((i) => node.input(i))];
    emitMap(node, out, 'clip', inputs, (buffers, at) => {
      const x = widen(load(buffers[0]!, at));
      const limit = (i: 1 | 2): Expr | undefined => {
        if (loaded.includes(i)) return widen(scalarOf(buffers[1 + loaded.indexOf(i)]!));
        const value = fixed[i - 1]!;
        return Number.isFinite(value) ? constant(x.dtype, value) : undefined;
      };
      const [low, high] = [limit(1), limit(2)];
      const raised = low ? op('max', x, low) : x;
      return high ? op('min', raised, high) : raised;
    });
  },
};

/** The element of a buffer that has only one. */
export const scalarOf = (x: Buffer): Expr =>
  load(
    x,
    x.shape.map(() => affine(0)),
  );

/**
 * Coordinates of a scale or zero point: one for all, or one for each place along the axis.
 */
function parameterAt(
  node: NodeView,
  x: readonly number[],
): (p: Buffer, at: readonly Parameters<typeof affine>[0][]) => Expr {
  const axis = node.int('axis', 1);
  return (p, at) => {
    if (p.shape.every((d) => d === 1)) return scalarOf(p);
    return load(p, [at[node.axis(axis, x.length)]!]);
  };
}

function checkQuantization(node: NodeView): void {
  const axis = node.int('axis', 1);
  node.ignore('saturate');
  node.require(node.int('block_size', 0) === 0, 'blocked quantization');
  const x = node.shape(0);
  const scale = node.shape(1);
  const scalar = scale.every((d) => d === 1) && scale.length <= 1;
  node.require(
    scalar || (scale.length === 1 && x[node.axis(axis, x.length)] === scale[0]),
    `scale of shape [${scale}]`,
  );
  node.require(dtypes[node.type(1).dtype].kind === 'float', `scale of type ${node.type(1).dtype}`);
  if (node.has(2)) {
    const zero = node.shape(2);
    node.require(
      zero.length === scale.length && zero.every((d, i) => d === scale[i]),
      'zero point unlike the scale',
    );
  }
}

const quantize: OpRule = {
  infer(node) {
    checkQuantization(node);
    node.require(node.int('precision', 0) === 0, 'precision');
    const attribute = dtypeAttribute(node, 'output_dtype', node.has(2) ? node.type(2).dtype : 'u8');
    const dtype = node.has(2) ? node.type(2).dtype : attribute;
    node.require(dtype === attribute && (dtype === 'u8' || dtype === 'i8'), `output type ${dtype}`);
    node.require(
      node.type(0).dtype !== 'i1' && node.type(0).dtype !== 'i64',
      `element type ${node.type(0).dtype}`,
    );
    return [{ dtype, shape: node.shape(0) }];
  },
  lower(node, out) {
    const parameter = parameterAt(node, node.shape(0));
    const { min, max } = dtypes[out.type(node.output(0)).dtype];
    emitMap(node, out, 'quantize', node.inputs, ([x, scale, zero], at) => {
      const ratio = op('div', cast('f32', load(x!, at)), cast('f32', parameter(scale!, at)));
      const rounded = op('round', ratio);
      return clamp(zero ? op('add', rounded, cast('f32', parameter(zero, at))) : rounded, min, max);
    });
  },
};

const dequantize: OpRule = {
  infer(node) {
    checkQuantization(node);
    const attribute = dtypeAttribute(node, 'output_dtype', node.type(1).dtype);
    node.require(attribute === node.type(1).dtype, 'output_dtype unlike the scale');
    node.require(['u8', 'i8', 'i32'].includes(node.type(0).dtype), `element type ${node.type(0).dtype}`);
    if (node.has(2)) node.require(node.type(2).dtype === node.type(0).dtype, 'zero point of another type');
    return [{ dtype: attribute, shape: node.shape(0) }];
  },
  lower(node, out) {
    const parameter = parameterAt(node, node.shape(0));
    emitMap(node, out, 'dequantize', node.inputs, ([x, scale, zero], at) => {
      const value = cast('i32', load(x!, at));
      const centred = zero ? op('sub', value, cast('i32', parameter(zero, at))) : value;
      return op('mul', cast('f32', centred), cast('f32', parameter(scale!, at)));
    });
  },
};

export const convertOps: OpFamily = {
  Cast: castTo((node) => dtypeAttribute(node, 'to')),
  CastLike: castTo((node) => node.type(1).dtype),
  Where: where,
  Clip: clip,
  QuantizeLinear: quantize,
  DequantizeLinear: dequantize,
};
