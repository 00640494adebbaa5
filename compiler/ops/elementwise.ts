/**
 * @file Operators that work element by element on numbers of one type, with ONNX's (numpy's) broadcasting.
 */
import { cast, computeType, constant, load, op, widen } from '../../ir/build.ts';
import type { Expr } from '../../ir/kernel.ts';
import { opInfo, type ScalarOp, takes } from '../../ir/ops.ts';
import { reader } from '../../ir/tensor.ts';
import { type DType, dtypes, type TensorType } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import type { Lowering, OpFamily, OpRule } from '../rules.ts';
import { broadcastAt, broadcastShape, operandShapes } from './broadcast.ts';
import { emitMap } from './map.ts';
import {
  addTo,
  gelu,
  geluTanh,
  hardSigmoid,
  integerPower,
  isNegative,
  like,
  powerOf,
  sigmoid,
  softplus,
  times,
} from './scalar.ts';

type Value = (node: NodeView, ...args: Expr[]) => Expr;
/** Refuses what the operator does not take; gives the output's type if it is not the first input's. */
type Check = (node: NodeView) => DType | undefined;

/** Emits one kernel that computes `value` of its inputs' elements (widened) at every output element. */
export function lowerElementwise(
  node: NodeView,
  out: Lowering,
  name: string,
  value: (...args: Expr[]) => Expr,
): void {
  const shapes = operandShapes(node);
  emitMap(
    node,
    out,
    name,
    node.inputs,
    (xs, at) => value(...xs.map((x) => widen(load(x, broadcastAt(x.shape, at))))),
    { shapes: Object.fromEntries(node.inputs.map((input, i) => [input, shapes[i]!])) },
  );
}

/** A rule for an operator whose output has its first input's type (or the given one) and broadcast shape. */
export function elementwise(name: string, value: Value, check: Check, arity = 1): OpRule {
  return {
    infer(node): TensorType[] {
      node.ignore('consumed_inputs');
      const count = node.inputs.length;
      node.require(count === arity && node.node.inputs.length === arity, `${count} inputs`);
      return [{ dtype: check(node) ?? node.type(0).dtype, shape: broadcastShape(node, operandShapes(node)) }];
    },
    lower: (node, out) => lowerElementwise(node, out, name, (...args) => value(node, ...args)),
  };
}

/** Checks that all inputs have the first's type, which must be of one of the kinds. */
export const allOf =
  (...kinds: readonly ('float' | 'int' | 'bool')[]): Check =>
  (node) => {
    const { dtype } = node.type(0);
    node.require(kinds.includes(dtypes[dtype].kind), `element type ${dtype}`);
    for (const type of node.inputTypes) {
      node.require(type.dtype === dtype, `element types ${dtype} and ${type.dtype}`);
    }
    return undefined;
  };

/** The operator of scalar op `name`, refused for element types that it does not take. */
const scalar = (name: ScalarOp, gives?: DType): OpRule =>
  elementwise(
    name,
    (_, ...args) => op(name, ...args),
    (node) => {
      allOf('float', 'int', 'bool')(node);
      node.require(takes(name, node.type(0).dtype), `element type ${node.type(0).dtype}`);
      return gives;
    },
    opInfo(name).arity,
  );

/** An operator on floats, given as an expression. */
const float = (name: string, value: Value): OpRule => elementwise(name, value, allOf('float'));

/** A comparison written with another: swapped, negated. */
const compare = (name: string, value: (a: Expr, b: Expr) => Expr): OpRule =>
  elementwise(
    name,
    (_, a, b) => value(a!, b!),
    (node) => {
      allOf('float', 'int')(node);
      return 'i1';
    },
    2,
  );

/** An operator that joins any number of inputs pair by pair. */
const nary = (
  name: string,
  join: ScalarOp,
  finish: (node: NodeView, x: Expr) => Expr = (_, x) => x,
): OpRule => ({
  infer(node) {
    node.ignore('consumed_inputs');
    allOf('float', 'int')(node);
    return [{ dtype: node.type(0).dtype, shape: broadcastShape(node, operandShapes(node)) }];
  },
  lower(node, out) {
    // More inputs than a kernel has room for are joined in rounds.
    const { dtype, shape } = out.type(node.output(0));
    let inputs = node.inputs;
    while (inputs.length > 12) {
      const part = inputs.slice(0, 12);
      const output = out.temporary(node.output(0), { dtype, shape });
      emitMap(
        node,
        out,
        name,
        part,
        (xs, at) =>
          joined(
            join,
            xs.map((x) => widen(load(x, broadcastAt(x.shape, at)))),
          ),
        {
          output,
        },
      );
      inputs = [output, ...inputs.slice(12)];
    }
    emitMap(node, out, name, inputs, (xs, at) =>
      finish(
        node,
        joined(
          join,
          xs.map((x) => widen(load(x, broadcastAt(x.shape, at)))),
        ),
      ),
    );
  },
});

const joined = (join: ScalarOp, args: readonly Expr[]): Expr => args.reduce((a, b) => op(join, a, b));

/** Negation of a value that is a bool. */
const not = (x: Expr): Expr => op('not', x);

/** Truncated remainder made to have the divisor's sign, as Python's % does. */
function floorMod(a: Expr, b: Expr): Expr {
  const r = op('rem', a, b);
  const unlike = op('xor', isNegative(r), isNegative(b));
  return op('select', op('and', not(op('eq', r, like(r, 0))), unlike), op('add', r, b), r);
}

const pow: OpRule = {
  infer(node) {
    node.require(node.node.inputs.length === 2, `${node.inputs.length} inputs`);
    const base = node.type(0).dtype;
    const kinds = [base, node.type(1).dtype].map((t) => dtypes[t].kind);
    node.require(!kinds.includes('bool'), 'element type bool');
    return [{ dtype: base, shape: broadcastShape(node, operandShapes(node)) }];
  },
  lower(node, out) {
    const known = node.constant(1);
    const exponent = known && known.data.length === 1 ? reader(known)(0) : undefined;
    if (exponent === undefined || node.opset < 7) {
      lowerElementwise(node, out, 'pow', power);
      return;
    }
    // Squares and cubes are common, and much cheaper than powers.
    emitMap(node, out, 'power', [node.input(0)], ([x], at) => {
      const value = widen(load(x!, broadcastAt(x!.shape, at)));
      const byType = constant(computeType(node.type(1).dtype), exponent);
      return powerOf(value, exponent) ?? power(value, byType);
    });
  },
};

/** a to the power b, whatever their types; the result is a number of a's type, or one to be cast to it. */
function power(a: Expr, b: Expr): Expr {
  const floats = [a, b].map((e) => dtypes[e.dtype].kind === 'float');
  if (floats[0]) return op('pow', a, cast(a.dtype, b));
  if (!floats[1]) return integerPower(a, b);
  // An integer power computed in floats may come out just below the integer that it is.
  const p = op('pow', cast('f32', a), cast('f32', b));
  const nearest = op('round', p);
  const off = op('abs', op('sub', p, nearest));
  return op('select', op('lt', off, times(op('abs', p), 1e-5)), nearest, p);
}

const bitShift = elementwise(
  'shift',
  (node, x, by) => {
    // There is no shift in the IR: 2^by by squaring, in i64, which has room for every width below it.
    const wide = cast('i64', x!);
    const amount = cast('i64', by!);
    const bits = dtypes[x!.dtype].bytes * 8;
    const outside = op('or', isNegative(amount), op('le', like(amount, bits), amount));
    const two = integerPower(like(wide, 2), amount);
    if (node.string('direction', '') === 'LEFT') {
      return cast(x!.dtype, op('select', outside, like(wide, 0), op('mul', wide, two)));
    }
    const rest = op('rem', wide, two);
    const quotient = op('div', wide, two);
    const floor = op('select', isNegative(rest), addTo(quotient, -1), quotient);
    return cast(
      x!.dtype,
      op('select', outside, op('select', isNegative(wide), like(wide, -1), like(wide, 0)), floor),
    );
  },
  (node) => {
    allOf('int')(node);
    node.require(['LEFT', 'RIGHT'].includes(node.string('direction', '')), 'no direction');
    node.require(node.type(0).dtype !== 'i64', 'element type i64');
    return undefined;
  },
  2,
);

const isInf = elementwise(
  'isinf',
  (node, x) => {
    const hit = (sign: 1 | -1) => op('eq', x!, like(x!, sign * Number.POSITIVE_INFINITY));
    const positive = node.int('detect_positive', 1) !== 0;
    const negative = node.int('detect_negative', 1) !== 0;
    if (positive && negative) return op('or', hit(1), hit(-1));
    return positive ? hit(1) : negative ? hit(-1) : like(hit(1), 0);
  },
  (node) => {
    allOf('float')(node);
    return 'i1';
  },
);

/** x where positive, else f(x): the shape of most activations. */
const negativePart = (x: Expr, f: Expr): Expr => op('select', isNegative(x), f, x);
const expm1 = (x: Expr): Expr => addTo(op('exp', x), -1);

/** PRelu's slope in ONNX before opset 7 is one number or one a channel. */
const prelu: OpRule = {
  infer(node) {
    allOf('float')(node);
    node.ignore('consumed_inputs');
    const x = node.shape(0);
    const shape = broadcastShape(node, [x, slopeShape(node)]);
    node.require(
      shape.every((d, i) => d === x[i]) && shape.length === x.length,
      'a slope larger than the input',
    );
    return [{ dtype: node.type(0).dtype, shape }];
  },
  lower(node, out) {
    emitMap(
      node,
      out,
      'prelu',
      node.inputs,
      ([x, slope], at) => {
        const value = widen(load(x!, at));
        return negativePart(value, op('mul', value, widen(load(slope!, broadcastAt(slope!.shape, at)))));
      },
      { shapes: node.input(0) === node.input(1) ? {} : { [node.input(1)]: slopeShape(node) } },
    );
  },
};

function slopeShape(node: NodeView): readonly number[] {
  const slope = node.shape(1);
  const x = node.shape(0);
  if (node.opset >= 7 || slope.length !== 1 || slope[0] === 1) return slope;
  return [slope[0]!, ...x.slice(2).map(() => 1)];
}

/** Unary, binary and n-ary operators whose operands and result share a type. */
export const elementwiseOps: OpFamily = {
  Add: scalar('add'),
  Sub: scalar('sub'),
  Mul: scalar('mul'),
  Div: scalar('div'),
  Pow: pow,
  Mod: elementwise(
    'mod',
    (node, a, b) => (node.int('fmod', 0) !== 0 ? op('rem', a!, b!) : floorMod(a!, b!)),
    allOf('float', 'int'),
    2,
  ),
  Max: nary('max', 'max'),
  Min: nary('min', 'min'),
  Sum: nary('sum', 'add'),
  Mean: nary('mean', 'add', (node, x) => op('div', x, like(x, node.inputs.length))),

  Abs: scalar('abs'),
  Neg: scalar('neg'),
  Sign: scalar('sign'),
  Sqrt: scalar('sqrt'),
  Exp: scalar('exp'),
  Log: scalar('log'),
  Sin: scalar('sin'),
  Cos: scalar('cos'),
  Tan: scalar('tan'),
  Asin: scalar('asin'),
  Acos: scalar('acos'),
  Atan: scalar('atan'),
  Sinh: scalar('sinh'),
  Cosh: scalar('cosh'),
  Tanh: scalar('tanh'),
  Asinh: scalar('asinh'),
  Acosh: scalar('acosh'),
  Atanh: scalar('atanh'),
  Erf: scalar('erf'),
  Floor: scalar('floor'),
  Ceil: scalar('ceil'),
  Round: scalar('round'),
  Reciprocal: float('reciprocal', (_, x) => op('div', like(x!, 1), x!)),

  Equal: scalar('eq', 'i1'),
  Less: compare('lt', (a, b) => op('lt', a, b)),
  LessOrEqual: compare('le', (a, b) => op('le', a, b)),
  Greater: compare('gt', (a, b) => op('lt', b, a)),
  GreaterOrEqual: compare('ge', (a, b) => op('le', b, a)),
  And: scalar('and'),
  Or: scalar('or'),
  Xor: scalar('xor'),
  Not: scalar('not'),
  BitwiseAnd: scalar('bitand'),
  BitwiseOr: scalar('bitor'),
  BitwiseXor: scalar('bitxor'),
  BitwiseNot: scalar('bitnot'),
  BitShift: bitShift,
  IsNaN: scalar('isnan', 'i1'),
  IsInf: isInf,

  Relu: elementwise('relu', (_, x) => op('max', x!, like(x!, 0)), allOf('float', 'int')),
  PRelu: prelu,
  Sigmoid: float('sigmoid', (_, x) => sigmoid(x!)),
  HardSigmoid: float('hard_sigmoid', (node, x) =>
    hardSigmoid(x!, node.float('alpha', 0.2), node.float('beta', 0.5)),
  ),
  HardSwish: float('hard_swish', (_, x) => op('mul', x!, hardSigmoid(x!, 1 / 6, 0.5))),
  LeakyRelu: float('leaky_relu', (node, x) => negativePart(x!, times(x!, node.float('alpha', 0.01)))),
  Elu: float('elu', (node, x) => negativePart(x!, times(expm1(x!), node.float('alpha', 1)))),
  Celu: float('celu', (node, x) => {
    const alpha = node.float('alpha', 1);
    return negativePart(x!, times(expm1(op('div', x!, like(x!, alpha))), alpha));
  }),
  Selu: float('selu', (node, x) =>
    times(
      negativePart(x!, times(expm1(x!), node.float('alpha', 1.6732631921768188))),
      node.float('gamma', 1.0507010221481323),
    ),
  ),
  Softplus: float('softplus', (_, x) => softplus(x!)),
  Softsign: float('softsign', (_, x) => op('div', x!, addTo(op('abs', x!), 1))),
  Gelu: elementwise(
    'gelu',
    (node, x) => (node.string('approximate', 'none') === 'tanh' ? geluTanh(x!) : gelu(x!)),
    (node) => {
      const approximate = node.string('approximate', 'none');
      node.require(approximate === 'none' || approximate === 'tanh', `approximate ${approximate}`);
      return allOf('float')(node);
    },
  ),
  Mish: float('mish', (_, x) => op('mul', x!, op('tanh', softplus(x!)))),
  Swish: float('swish', (node, x) => op('mul', x!, sigmoid(times(x!, node.float('alpha', 1))))),
  ThresholdedRelu: float('thresholded_relu', (node, x) =>
    op('select', op('lt', like(x!, node.float('alpha', 1)), x!), x!, like(x!, 0)),
  ),
  Shrink: elementwise(
    'shrink',
    (node, x) => {
      const lambda = node.float('lambd', 0.5);
      const bias = node.float('bias', 0);
      const above = op('select', op('lt', like(x!, lambda), x!), addTo(x!, -bias), like(x!, 0));
      return op('select', op('lt', x!, like(x!, -lambda)), addTo(x!, bias), above);
    },
    allOf('float'),
  ),
};
