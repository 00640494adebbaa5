/**
 * @file The fuse-attention pass, for tensor cores: a matrix product, the softmax of its rows and a matrix product with the result become one
 * kernel, so that scores and weights never lie in memory. What it needs and does:
 *
 *   - scores and weights are read by nobody else, weights at one place, and all that is multiplied is of one 16-bit type;
 *   - what stands between the first product and the softmax (scale, mask, cap) is taken over as it is, and a scaling of queries or keys
 *     before the product is done after it;
 *   - values that were rounded to 16 bits, and clamped to them, only because they lay in memory keep their 32 bits; weights are
 *     rounded before they are divided by their total;
 *   - weights that are replaced by zeros for whole rows (what is hidden entirely, and NaN) become results that are.
 *
 * Results thus differ from those before by roundings.
 */
import { affine, type Index, index } from '../ir/affine.ts';
import { attentionOf } from '../ir/attention.ts';
import { cast, constant, op, reduce, widen } from '../ir/build.ts';
import { type Contraction, contractionOf, multiplies16Bit, volume } from '../ir/contraction.ts';
import { ElidedTensor } from '../ir/data.ts';
import type { Buffer, Call, Expr, Load, Reduce } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import type { Target } from '../ir/target.ts';
import { reader } from '../ir/tensor.ts';
import { dtypes } from '../ir/types.ts';
import { freeIndices, loadsIn, rewriter, visitExprs } from '../ir/walk.ts';
import { attentionSchedule } from './attention_tile.ts';
import { fuse, joined, valueAt } from './fuse.ts';
import { unclamped } from './saturate.ts';

/** Fuses until no attention is left; then the moves that only attention reads (heads split off, slices) become accesses of it. */
export function fuseAttention(module: Module, target: Target): Module {
  if (!target.mma) return module;
  let fused = module;
  for (let next: Module | undefined = module; next; next = fuseOne(fused, target)) fused = next;
  return fused === module ? module : fuse(fused);
}

/** The module with its first attention in one call; undefined if there is none. */
function fuseOne(module: Module, target: Target): Module | undefined {
  const uses = new Uses(module);
  for (const last of module.calls) {
    const product = contractionOf(last.kernel);
    if (!product || !multiplies16Bit(product)) continue;
    for (const weights of [product.a.load, product.b.load]) {
      const softmax = uses.onlyMaker(last, weights.buffer);
      if (!softmax) continue;
      for (const scores of softmax.kernel.inputs) {
        const first = uses.onlyMaker(softmax, scores);
        const match = first && new Match(uses, first, softmax, last, product, weights, scores);
        const call = match?.call();
        if (!call || !isWorthwhile(call, target)) continue;
        return replaced(module, [...match!.scalings, first!, softmax, last], call);
      }
    }
  }
  return undefined;
}

/** Few queries over many keys leave blocks waiting for memory: there the keys are better dealt out. */
function isWorthwhile({ kernel }: Call, target: Target): boolean {
  const a = attentionOf(kernel);
  if (!a || !attentionSchedule(a, target)) return false;
  return volume(a.query) >= 8 || a.key.extent <= 128;
}

/** The module with one call in the place of the last of several, which go where nobody else needs them. */
function replaced(module: Module, taken: readonly Call[], call: Call): Module {
  const last = taken.at(-1);
  const calls = module.calls.map((c) => (c === last ? call : c));
  const needed = new Set(module.outputs.map((o) => o.value));
  for (const c of calls) if (!taken.includes(c)) for (const v of c.inputs) needed.add(v);
  return {
    ...module,
    calls: calls.filter((c) => !taken.includes(c) || c.outputs.some((v) => needed.has(v))),
  };
}

/** Who makes and who reads the values of a module. */
class Uses {
  readonly #makers = new Map<string, Call>();
  readonly #readers = new Map<string, number>();

  constructor(private readonly module: Module) {
    for (const call of module.calls) {
      for (const v of call.outputs) this.#makers.set(v, call);
      for (const v of call.inputs) this.#readers.set(v, (this.#readers.get(v) ?? 0) + 1);
    }
    for (const { value } of module.outputs) this.#readers.set(value, (this.#readers.get(value) ?? 0) + 1);
  }

  /** The call that makes what a call reads as `buffer`, if it makes and stores this one value only. */
  maker(call: Call, buffer: Buffer): Call | undefined {
    const maker = this.#makers.get(valueRead(call, buffer));
    return maker?.kernel.stores.length === 1 ? maker : undefined;
  }

  /** Likewise, if nobody else reads it. */
  onlyMaker(call: Call, buffer: Buffer): Call | undefined {
    return this.#readers.get(valueRead(call, buffer)) === 1 ? this.maker(call, buffer) : undefined;
  }

  /** True if what a call reads as `buffer` is a constant of zeros. */
  isZero(call: Call, buffer: Buffer): boolean {
    const tensor = this.module.constants.get(valueRead(call, buffer));
    if (!tensor || tensor instanceof ElidedTensor) return false;
    const read = reader(tensor);
    return tensor.data.length > 0 && [...tensor.data.keys()].every((n) => read(n) === 0);
  }
}

const valueRead = (call: Call, buffer: Buffer): string => call.inputs[call.kernel.inputs.indexOf(buffer)]!;

/** Three calls that may be attention: `first` makes the scores, `softmax` the weights, `last` multiplies them with the values. */
class Match {
  /** Calls that only scale an operand of the first product. */
  readonly scalings: Call[] = [];

  constructor(
    private readonly uses: Uses,
    private readonly first: Call,
    private readonly softmax: Call,
    private readonly last: Call,
    private readonly product: Contraction,
    private readonly weights: Load,
    private readonly scores: Buffer,
  ) {}

  /** The one call in place of them; undefined if they are no attention. */
  call(): Call | undefined {
    const { first, last, product } = this;
    const scoring = contractionOf(first.kernel);
    const [key, ...others] = product.sum.over;
    if (!scoring || !multiplies16Bit(scoring) || !key || others.length > 0) return undefined;
    const reads = loadsIn([product.store.value]).filter((l) => l.buffer === this.weights.buffer);
    if (reads.length !== 1 || this.weights.pad !== undefined) return undefined;
    const rounded = this.#weightsOf(scoring);
    const row = rounded && this.#rowOf(rounded, key);
    const values = this.weights === product.a.load ? product.b : product.a;
    const width = values.positions.filter((i) => i.extent > 1);
    if (!row || width.length !== 1) return undefined;

    const weighted = op('mul', widen(cast(values.load.dtype, row.weight)), widen(values.load));
    const plain = op('div', reduce('sum', [key], weighted), row.total);
    const result = row.hidden.reduce((e, hidden) => op('select', hidden, constant('f32', 0), e), plain);
    const go = rewriter({ node: (e, original) => (original === product.sum ? result : e) });
    const parts = {
      domain: last.kernel.domain.filter((i) => i !== width[0]),
      stores: [{ ...product.store, over: width, value: go(product.store.value) }],
    };
    return joined([...this.scalings, first, this.softmax, last], parts, 'attention');
  }

  /** A weight as `last` reads it, as an expression of what `first` reads, without the roundings between. */
  #weightsOf(scoring: Contraction): Expr | undefined {
    const { first, softmax, scores } = this;
    const made = valueAt(softmax.kernel, softmax.kernel.stores[0]!, this.weights);
    if (!made) return undefined;
    const scaled = this.#withScalesOutside(scoring);
    const store = { ...scoring.store, value: scaled };
    let isComplete = true;
    const inlined = rewriter({
      node: (e) => {
        if (e.kind !== 'load' || e.buffer !== scores) return e;
        const plain = e.pad === undefined && e.at.every((c) => 'affine' in c);
        const score = plain ? valueAt(first.kernel, store, e) : undefined;
        if (!score) isComplete = false;
        return score ? renewed(score) : e;
      },
    })(made);
    return isComplete ? unrounded(cast('f32', inlined)) : undefined;
  }

  /** What `first` stores, with factors that its operands were multiplied with before taken out of the sum. */
  #withScalesOutside({ sum, store }: Contraction): Expr {
    const scales: { readonly by: 'mul' | 'div'; readonly scale: Expr }[] = [];
    const factor = (arg: Expr): Expr => {
      const load = arg.kind === 'cast' ? arg.arg : arg;
      if (load.kind !== 'load' || load.pad !== undefined) return arg;
      const maker = this.uses.maker(this.first, load.buffer);
      const made = maker && elementWise(maker) && valueAt(maker.kernel, maker.kernel.stores[0]!, load);
      const scaling = made && scalingOf(unrounded(cast('f32', made)), sum, load.dtype);
      if (!scaling) return arg;
      this.scalings.push(maker);
      scales.push(scaling);
      return scaling.value;
    };
    if (sum.body.kind !== 'op') return store.value;
    const inner: Expr = { ...sum, body: { ...sum.body, args: sum.body.args.map(factor) } };
    const [factors, divisors] = (['mul', 'div'] as const).map((by) =>
      scales.filter((s) => s.by === by).map((s) => s.scale),
    ) as [Expr[], Expr[]];
    // Factors are multiplied first: they are the same for many scores.
    const product =
      factors.length > 0
        ? op(
            'mul',
            inner,
            factors.reduce((a, b) => op('mul', a, b)),
          )
        : inner;
    const whole = divisors.reduce((e, by) => op('div', e, by), product);
    return rewriter({ node: (e, original) => (original === sum ? whole : e) })(store.value);
  }

  /** Takes exp(score - most) / total apart, and what whole rows are replaced by zeros for. */
  #rowOf(weights: Expr, key: Index): { weight: Expr; total: Expr; hidden: Expr[] } | undefined {
    const free = freeIndices();
    const hidden: Expr[] = [];
    let e = weights;
    while (e.kind === 'op' && e.op === 'select') {
      const [condition, zero, otherwise] = e.args as [Expr, Expr, Expr];
      if (!this.#isZero(zero)) return undefined;
      hidden.push(condition);
      e = otherwise;
    }
    if (e.kind !== 'op' || e.op !== 'div') return undefined;
    const [weight, total] = e.args as [Expr, Expr];
    // A weight is NaN if, and only if, the total is: then its row has a NaN, an infinity, or nothing but -inf.
    const ofRow = hidden.map((h) =>
      h.kind === 'op' && h.op === 'isnan' && h.args[0] === e ? op('isnan', total) : h,
    );
    return ofRow.some((h) => free(h).has(key)) ? undefined : { weight, total, hidden: ofRow };
  }

  #isZero(e: Expr): boolean {
    const inner = e.kind === 'cast' ? e.arg : e;
    if (inner.kind === 'const') return inner.value === 0;
    if (inner.kind !== 'load') return false;
    return this.softmax.kernel.inputs.includes(inner.buffer) && this.uses.isZero(this.softmax, inner.buffer);
  }
}

const elementWise = ({ kernel }: Call): boolean => {
  const [made] = kernel.stores;
  let hasReduce = false;
  visitExprs([made!.value], (e) => void (hasReduce ||= e.kind === 'reduce'));
  return !hasReduce && made!.over.length === 0;
};

/** Of value * scale or value / scale: the value, a load of the type, and the scale, which does not change along the sum. */
function scalingOf(e: Expr, sum: Reduce, dtype: Load['dtype']) {
  if (e.kind !== 'op' || (e.op !== 'mul' && e.op !== 'div')) return undefined;
  const free = freeIndices();
  const isFixed = (x: Expr): boolean => !sum.over.some((i) => free(x).has(i));
  const [left, right] = e.args as [Expr, Expr];
  const [value, scale] = e.op === 'mul' && isFixed(left) ? [right, left] : [left, right];
  const isLoad = value.kind === 'cast' && value.arg.kind === 'load' && value.arg.dtype === dtype;
  return isLoad && isFixed(scale) && !isFixed(value) ? { value, by: e.op, scale } : undefined;
}

/** The expression with reductions over indices of its own. */
function renewed(e: Expr): Expr {
  const fresh = new Map<Index, Index>();
  visitExprs([e], (x) => {
    if (x.kind === 'reduce') for (const i of x.over) fresh.set(i, index(i.name, i.extent));
  });
  const indices = new Map([...fresh].map(([i, own]) => [i, affine(own)]));
  const node = (x: Expr): Expr =>
    x.kind === 'reduce' ? { ...x, over: x.over.map((i) => fresh.get(i)!) } : x;
  return rewriter({ indices, node })(e);
}

/** The expression without roundings from f32 to 16 bits and back. */
const unrounded: (e: Expr) => Expr = (root) =>
  rewriter({ node: (e) => (e.kind === 'cast' && e.dtype === 'f32' ? (wide(e.arg) ?? e) : e) })(root);

/** In f32 what an expression rounded to 16 bits; undefined if it was made so. */
function wide(e: Expr): Expr | undefined {
  if (dtypes[e.dtype].bytes !== 2) return undefined;
  if (e.kind === 'cast' && e.arg.dtype === 'f32') return unclamped(e.arg);
  if (e.kind !== 'op' || e.op !== 'select') return undefined;
  const [condition, left, right] = e.args as [Expr, Expr, Expr];
  return op('select', condition, wide(left) ?? cast('f32', left), wide(right) ?? cast('f32', right));
}
