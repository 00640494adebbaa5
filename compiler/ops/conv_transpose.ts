/**
 * @file ConvTranspose, written as what each output element gathers: with o the output's and k the kernel's position, the
 * input position (o + pad - k * dilation) / stride, wherever that is whole and inside.
 */
import { type Affine, add, floordiv, index, mod, mul } from '../../ir/affine.ts';
import { cast, constant, indexValue, load, op, reduce, store, widen } from '../../ir/build.ts';
import type { Expr } from '../../ir/kernel.ts';
import { dtypes } from '../../ir/types.ts';
import type { NodeView } from '../node_view.ts';
import type { OpRule } from '../rules.ts';

interface TransposedDim {
  readonly kernel: number;
  readonly stride: number;
  readonly dilation: number;
  readonly padBegin: number;
  readonly out: number;
}

function transposedWindow(node: NodeView): TransposedDim[] {
  const spatial = node.shape(0).slice(2);
  const kernel = node.ints('kernel_shape') ?? node.shape(1).slice(2);
  const list = (name: string, value: number): readonly number[] =>
    node.ints(name) ?? spatial.map(() => value);
  const [strides, dilations, extra] = [list('strides', 1), list('dilations', 1), list('output_padding', 0)];
  const pads = node.ints('pads') ?? spatial.flatMap(() => [0, 0]);
  const wanted = node.ints('output_shape');
  const autoPad = node.string('auto_pad', 'NOTSET');
  node.require(['NOTSET', 'SAME_UPPER', 'SAME_LOWER', 'VALID'].includes(autoPad), `auto_pad ${autoPad}`);
  const lists = [kernel, strides, dilations, extra, ...(wanted ? [wanted] : [])];
  node.require(
    lists.every((l) => l.length === spatial.length) && pads.length === 2 * spatial.length,
    'lists of another rank',
  );
  node.require(
    [...kernel, ...strides, ...dilations].every((v) => v > 0),
    'a size below 1',
  );
  return spatial.map((extent, d) => {
    const common = { kernel: kernel[d]!, stride: strides[d]!, dilation: dilations[d]! };
    const full = common.stride * (extent - 1) + extra[d]! + (kernel[d]! - 1) * common.dilation + 1;
    const same = autoPad.startsWith('SAME');
    if (wanted || same) {
      const out = wanted ? wanted[d]! : extent * common.stride;
      const total = Math.max(0, full - out);
      // ONNX: only SAME_UPPER puts the greater half at the end.
      const padBegin = autoPad === 'SAME_UPPER' ? Math.floor(total / 2) : total - Math.floor(total / 2);
      node.require(out > 0, `output_shape [${wanted}]`);
      return { ...common, padBegin, out };
    }
    const [padBegin, padEnd] = autoPad === 'VALID' ? [0, 0] : [pads[d]!, pads[d + spatial.length]!];
    const out = full - padBegin - padEnd;
    node.require(out > 0 && padBegin >= 0, `pads [${pads}]`);
    return { ...common, padBegin, out };
  });
}

export const convTranspose: OpRule = {
  infer(node) {
    const { dtype, shape: x } = node.type(0);
    const w = node.shape(1);
    node.require(dtypes[dtype].kind === 'float', `element type ${dtype}`);
    for (const t of node.inputTypes) node.require(t.dtype === dtype, `element types ${dtype} and ${t.dtype}`);
    const groups = node.int('group', 1);
    node.require(x.length >= 3 && w.length === x.length, `shapes [${x}] and [${w}]`);
    node.require(
      groups > 0 && x[1] === w[0] && w[0]! % groups === 0,
      `${x[1]} channels, weights [${w}], ${groups} groups`,
    );
    if (node.has(2)) node.require(node.shape(2)[0] === w[1]! * groups, `bias of shape [${node.shape(2)}]`);
    const kernel = node.ints('kernel_shape') ?? w.slice(2);
    node.require(
      kernel.every((k, i) => k === w[i + 2]),
      `kernel_shape [${kernel}] for weights [${w}]`,
    );
    return [{ dtype, shape: [x[0]!, w[1]! * groups, ...transposedWindow(node).map((d) => d.out)] }];
  },

  lower(node, out) {
    const window = transposedWindow(node);
    const groups = node.int('group', 1);
    out.emit(node, 'conv_transpose', node.inputs, [node.output(0)], ([x, w, bias], [y]) => {
      const [batch] = y!.shape;
      const perGroup = w!.shape[1]!;
      const n = index('n', batch!);
      const g = groups > 1 ? [index('g', groups)] : [];
      const oc = index('oc', perGroup);
      const ic = index('ic', x!.shape[1]! / groups);
      const at = window.map((d, i) => index(`o${i}`, d.out));
      const k = window.map((d, i) => index(`k${i}`, d.kernel));
      const channel = add(...g.map((i) => mul(i, ic.extent)), ic);
      const reach = window.map((d, i): Affine => add(at[i]!, d.padBegin, mul(k[i]!, -d.dilation)));
      const from = reach.map((r, i) => floordiv(r, window[i]!.stride));
      const element = widen(load(x!, [n, channel, ...from], 0));
      // Between the input's positions there is nothing.
      const whole = reach
        .flatMap((r, i) => {
          const { stride } = window[i]!;
          return stride === 1 ? [] : [op('eq', indexValue(mod(r, stride)), constant('i32', 0))];
        })
        .reduce<Expr | undefined>((a, b) => (a ? op('and', a, b) : b), undefined);
      const value = whole ? op('select', whole, element, constant(element.dtype, 0)) : element;
      const sum = reduce('sum', [ic, ...k], op('mul', value, widen(load(w!, [channel, oc, ...k]))));
      const outChannel = add(...g.map((i) => mul(i, perGroup)), oc);
      const result = bias ? op('add', sum, widen(load(bias, [outChannel]))) : sum;
      return {
        domain: [n, ...g, oc, ...at],
        stores: [store(y!, [n, outChannel, ...at], cast(y!.dtype, result))],
      };
    });
  },
};
