/**
 * @file Random kernels that the verifier accepts, over every operation and every kind of expression. Each is built from a recipe, a
 * plain tree of choices, so that fast-check can shrink what fails.
 */
import fc from 'fast-check';
import {
  type Affine,
  add,
  affine,
  floordiv,
  type Index,
  index,
  intervalOf,
  mod,
  mul,
} from '../../ir/affine.ts';
import { linearOffset, provedInside } from '../../ir/bounds.ts';
import { buffer, constant, indexValue, op, reduce } from '../../ir/build.ts';
import { contractionOf } from '../../ir/contraction.ts';
import { ElidedTensor } from '../../ir/data.ts';
import type { Buffer, Call, Coordinate, Expr, Kernel, Schedule, Store } from '../../ir/kernel.ts';
import type { Module } from '../../ir/module.ts';
import { type Combiner, combiners, opInfo, type ScalarOp, scalarOps, takes } from '../../ir/ops.ts';
import { randomInput } from '../../ir/random.ts';
import { targetOf } from '../../ir/target.ts';
import { roundTo, type Tensor } from '../../ir/tensor.ts';
import { type DType, dtypes, elementCount, type TensorType } from '../../ir/types.ts';
import { verifyKernel } from '../../ir/verify.ts';
import { freeIndices } from '../../ir/walk.ts';
import { scheduleKernel } from '../../passes/schedule.ts';
import { convKernel, matmulKernel } from '../codegen/kernels.ts';

/** Which kernels to make. */
export interface KernelOptions {
  /** Element types of buffers and values; all where nothing is said. */
  readonly dtypes?: readonly DType[];
  /** Operations; all where nothing is said. */
  readonly ops?: readonly ScalarOp[];
  /** Literals such as NaN and infinities among the constants. Default true. */
  readonly specials?: boolean;
  /** Whose schedules to choose from. Default `host` and `sm_90`. */
  readonly targets?: readonly string[];
}

interface AffineRecipe {
  readonly constant: number;
  readonly terms: readonly {
    readonly pick: number;
    readonly coeff: number;
    readonly quotient?: { readonly kind: 'floordiv' | 'mod'; readonly by: number } | undefined;
  }[];
}

type ExprRecipe =
  | { readonly kind: 'const'; readonly dtype: DType; readonly value: number }
  | { readonly kind: 'index'; readonly at: AffineRecipe }
  | { readonly kind: 'share'; readonly pick: number }
  | {
      readonly kind: 'load';
      readonly dtype: DType;
      readonly at: readonly AffineRecipe[];
      /** Extents of a buffer that may be left, and what is then read; a buffer that is never left without. */
      readonly pad?: { readonly extents: readonly number[]; readonly value: number } | undefined;
      /** An expression in place of the first coordinate. */
      readonly gather?: ExprRecipe | undefined;
      /** Which of the buffers so far to load from, if one fits. */
      readonly reuse: number;
    }
  | {
      readonly kind: 'op';
      readonly dtype: DType;
      readonly op: ScalarOp;
      readonly args: readonly ExprRecipe[];
    }
  | { readonly kind: 'cast'; readonly dtype: DType; readonly arg: ExprRecipe }
  | {
      readonly kind: 'reduce';
      readonly dtype: DType;
      readonly combine: Combiner;
      readonly over: readonly LoopRecipe[];
      readonly body: ExprRecipe;
    };

interface LoopRecipe {
  readonly name: string;
  readonly extent: number;
}

interface StoreRecipe {
  readonly dtype: DType;
  readonly over: readonly LoopRecipe[];
  /** Sorts the indices of the domain and of `over` into the order of the output's dimensions. */
  readonly order: readonly number[];
  /** For each index, whether it shares a dimension with the one before it. */
  readonly joined: readonly boolean[];
  /** An extra dimension of one at the front. */
  readonly unit: boolean;
  readonly value: ExprRecipe;
}

interface KernelRecipe {
  readonly name: string;
  readonly loc: readonly string[];
  readonly domain: readonly LoopRecipe[];
  readonly stores: readonly StoreRecipe[];
}

/** Names plain and odd: keywords, quotes, spaces, other scripts, what turns text around. */
const oddName = fc.constantFrom(
  'i',
  'j',
  'k',
  'x0',
  'mod',
  'pad',
  'a/b:0',
  'Слой 1',
  'say "x"',
  '\u202Ei',
  '7',
  'a.b',
  '',
);
const dim = fc.integer({ min: 1, max: 5 });
const loop = fc.record({ name: oddName, extent: dim });
/** Some as long as vectors. */
const domainLoop = fc.record({
  name: oddName,
  extent: fc.oneof({ weight: 2, arbitrary: dim }, fc.constantFrom(4, 8)),
});

const affineRecipe: fc.Arbitrary<AffineRecipe> = fc.record({
  constant: fc.integer({ min: -4, max: 6 }),
  terms: fc.array(
    fc.record({
      pick: fc.nat(20),
      coeff: fc.constantFrom(1, -1, 2, 3, -2),
      quotient: fc.option(
        fc.record({ kind: fc.constantFrom('floordiv' as const, 'mod' as const), by: dim }),
        { nil: undefined, freq: 3 },
      ),
    }),
    { maxLength: 3 },
  ),
});

/** Numbers that a type holds, the ends and the odd ones often. */
function literal(dtype: DType, specials: boolean): fc.Arbitrary<number> {
  const { kind, min, max } = dtypes[dtype];
  if (kind === 'bool') return fc.constantFrom(0, 1);
  if (kind === 'int') {
    const size = dtype === 'i64' ? 2 ** 53 : max;
    return fc.oneof(fc.integer({ min: dtype === 'u8' ? 0 : -9, max: 9 }), fc.constantFrom(min, size));
  }
  const plain = fc.double({ min: -8, max: 8, noNaN: true });
  const odd = fc.constantFrom(Number.NaN, Infinity, -Infinity, -0, min, max, 1e-7, -1e-40, 1e15, 0.1);
  return (specials ? fc.oneof({ weight: 4, arbitrary: plain }, odd) : plain).map((v) => roundTo(dtype, v));
}

function exprRecipe(options: KernelOptions): fc.Arbitrary<ExprRecipe> {
  const { specials = true } = options;
  const dtype = fc.constantFrom(...(options.dtypes ?? (Object.keys(dtypes) as DType[])));
  const ops = fc.constantFrom(...(options.ops ?? (Object.keys(scalarOps) as ScalarOp[])));
  const constant = dtype.chain((d) =>
    literal(d, specials).map((value): ExprRecipe => ({ kind: 'const', dtype: d, value })),
  );
  const load = (gather: fc.Arbitrary<ExprRecipe | undefined>): fc.Arbitrary<ExprRecipe> =>
    dtype.chain((d) =>
      fc.record({
        kind: fc.constant('load' as const),
        dtype: fc.constant(d),
        at: fc.array(affineRecipe, { maxLength: 3 }),
        pad: fc.option(
          fc.record({
            extents: fc.array(dim, { minLength: 3, maxLength: 3 }),
            value: literal(d, specials),
          }),
          { nil: undefined },
        ),
        gather,
        reuse: fc.nat(20),
      }),
    );
  const { expr } = fc.letrec<{ expr: ExprRecipe }>((tie) => ({
    expr: fc.oneof(
      { maxDepth: 4, depthSize: 'small' },
      constant,
      load(fc.constant(undefined)),
      affineRecipe.map((at): ExprRecipe => ({ kind: 'index', at })),
      fc.nat(20).map((pick): ExprRecipe => ({ kind: 'share', pick })),
      fc.record({
        kind: fc.constant('op' as const),
        dtype,
        op: ops,
        args: fc.array(tie('expr'), { minLength: 3, maxLength: 3 }),
      }),
      fc.record({
        kind: fc.constant('op' as const),
        dtype,
        op: ops,
        args: fc.array(tie('expr'), { minLength: 3, maxLength: 3 }),
      }),
      fc.record({ kind: fc.constant('cast' as const), dtype, arg: tie('expr') }),
      load(tie('expr')),
      fc.record({
        kind: fc.constant('reduce' as const),
        dtype,
        combine: fc.constantFrom(...(Object.keys(combiners) as Combiner[])),
        over: fc.array(loop, { minLength: 1, maxLength: 2 }),
        body: tie('expr'),
      }),
    ),
  }));
  return expr;
}

function kernelRecipe(options: KernelOptions): fc.Arbitrary<KernelRecipe> {
  const dtype = fc.constantFrom(...(options.dtypes ?? (Object.keys(dtypes) as DType[])));
  const store = fc.record({
    dtype,
    over: fc.oneof(fc.constant([]), fc.array(loop, { maxLength: 2 })),
    order: fc.array(fc.nat(99), { minLength: 6, maxLength: 6 }),
    joined: fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
    unit: fc.boolean(),
    value: exprRecipe(options),
  });
  return fc.record({
    name: oddName,
    loc: fc.array(oddName, { maxLength: 2 }),
    domain: fc.array(domainLoop, { maxLength: 3 }),
    stores: fc.array(store, { minLength: 1, maxLength: 3 }),
  });
}

const maxInputs = 12;
const maxElements = 4096;

/** Follows a recipe. Whatever it says, what comes out is sound: where a choice does not fit, the nearest that does is taken. */
class Cook {
  readonly inputs: Buffer[] = [];
  readonly #made: Expr[] = [];
  readonly #free = freeIndices();

  affine({ constant, terms }: AffineRecipe, bound: readonly Index[]): Affine {
    const parts = terms.map(({ pick, coeff, quotient }): Affine => {
      const i = bound[pick % bound.length];
      if (!i) return affine(coeff);
      if (!quotient) return mul(i, coeff);
      const arg = add(mul(i, 2), constant);
      return mul((quotient.kind === 'mod' ? mod : floordiv)(arg, quotient.by), coeff);
    });
    return add(constant, ...parts);
  }

  expr(r: ExprRecipe, bound: readonly Index[]): Expr {
    const e = this.#expr(r, bound);
    this.#made.push(e);
    return e;
  }

  /** As a value of the type. A cast of a literal stays a cast. */
  as(dtype: DType, r: ExprRecipe, bound: readonly Index[]): Expr {
    const e = this.expr(r, bound);
    return e.dtype === dtype ? e : { kind: 'cast', dtype, arg: e };
  }

  #expr(r: ExprRecipe, bound: readonly Index[]): Expr {
    switch (r.kind) {
      case 'const':
        return { kind: 'const', dtype: r.dtype, value: r.value };
      case 'index':
        return indexValue(this.affine(r.at, bound));
      case 'share': {
        const seen = this.#made.filter((e) => [...this.#free(e)].every((i) => bound.includes(i)));
        return seen[r.pick % seen.length] ?? constant('f32', r.pick);
      }
      case 'cast':
        return { kind: 'cast', dtype: r.dtype, arg: this.expr(r.arg, bound) };
      case 'op': {
        const operand = ([r.dtype, 'f32', 'i32', 'i1'] as const).find((d) => takes(r.op, d))!;
        const args = r.args
          .slice(0, opInfo(r.op).arity)
          .map((a, n) => this.as(r.op === 'select' && n === 0 ? 'i1' : operand, a, bound));
        return op(r.op, ...args);
      }
      case 'reduce': {
        const dtype = takes(combiners[r.combine].op, r.dtype) ? r.dtype : 'i32';
        const over = r.over.map((l) => index(l.name, l.extent));
        return reduce(r.combine, over, this.as(dtype, r.body, [...bound, ...over]));
      }
      case 'load':
        return this.#load(r, bound);
      default:
        return r satisfies never;
    }
  }

  #load(r: Extract<ExprRecipe, { kind: 'load' }>, bound: readonly Index[]): Expr {
    const gather = r.gather && this.expr(r.gather, bound);
    const id = gather && (gather.dtype === 'i64' ? gather : this.#cast('i32', gather));
    const at = r.at.map((a) => this.affine(a, bound));
    if (id && at.length === 0) at.push(affine(0));
    const old = this.inputs.filter((b) => b.dtype === r.dtype && b.shape.length === at.length)[r.reuse];
    if (old) return this.#access(old, at, id, r.pad?.value ?? 1);
    if (this.inputs.length >= maxInputs) return constant('f32', r.reuse);
    // Moved so that the least coordinate is 0; the extent follows from the greatest.
    const moved = r.pad || id ? at : at.map((a) => add(a, -intervalOf(a).min));
    const extents = moved.map((a, d) => (r.pad ? r.pad.extents[d]! : Math.max(1, intervalOf(a).max + 1)));
    const shape = elementCount(extents) > maxElements ? extents.map(() => 2) : extents;
    const made = buffer(`x${this.inputs.length}`, r.dtype, shape);
    this.inputs.push(made);
    return this.#access(made, moved, id, r.pad?.value ?? 1);
  }

  #cast(dtype: DType, arg: Expr): Expr {
    return arg.dtype === dtype ? arg : { kind: 'cast', dtype, arg };
  }

  /** With a pad where one is needed, and sometimes where none is. */
  #access(from: Buffer, affines: readonly Affine[], id: Expr | undefined, pad: number): Expr {
    const at = affines.map((a, d): Coordinate => (id && d === 0 ? { gather: id } : { affine: a }));
    const inside = !id && affines.every((a, d) => provedInside(a, from.shape[d]!));
    const load = { kind: 'load', dtype: from.dtype, buffer: from, at } as const;
    return inside && pad !== 0 ? load : { ...load, pad };
  }

  store(r: StoreRecipe, n: number, domain: readonly Index[]): Store {
    const over = r.over.map((l) => index(l.name, l.extent));
    const all = [...domain, ...over];
    const sorted = all
      .map((i, at) => ({ i, key: r.order[at % r.order.length]! }))
      .sort((a, b) => a.key - b.key);
    const dims: Index[][] = r.unit ? [[]] : [];
    sorted.forEach(({ i }, at) => {
      if (r.joined[at % r.joined.length] && dims.length > 0) dims.at(-1)!.push(i);
      else dims.push([i]);
    });
    const shape = dims.map((group) => group.reduce((p, i) => p * i.extent, 1));
    const at = dims.map((group) => group.reduce<Affine>((sum, i) => add(mul(sum, i.extent), i), affine(0)));
    return { buffer: buffer(`y${n}`, r.dtype, shape), at, over, value: this.as(r.dtype, r.value, all) };
  }
}

function cook({ name, loc, domain: loops, stores: recipes }: KernelRecipe): Kernel {
  const it = new Cook();
  const domain = loops.map((l) => index(l.name, l.extent));
  const stores = recipes.map((s, n) => it.store(s, n, domain));
  return { name, inputs: it.inputs, outputs: stores.map((s) => s.buffer), domain, stores, loc };
}

/** Kernels without a schedule. */
export const unscheduledKernel = (options: KernelOptions = {}): fc.Arbitrary<Kernel> =>
  kernelRecipe(options).map(cook);

/** Convolutions and matrix products: what the contraction skeleton takes. */
export const contractionKernel = (): fc.Arbitrary<Kernel> => {
  const size = fc.integer({ min: 1, max: 9 });
  const dtype = fc.constantFrom<DType>('f32', 'f16', 'bf16');
  return fc.oneof(
    fc
      .tuple(dim, size, size, size, fc.boolean(), dtype)
      .map(([batch, m, n, k, transposed, d]) => matmulKernel(transposed ? 1 : batch, m, n, k, transposed, d)),
    fc
      .record({
        channels: dim,
        outChannels: size,
        size: fc.tuple(size, size).map(([h, w]) => [h + 3, w + 3] as const),
        kernel: fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 })),
        stride: fc.integer({ min: 1, max: 2 }),
        pad: fc.integer({ min: 0, max: 2 }),
        residual: fc.boolean(),
        dtype,
      })
      .map(convKernel),
  );
};

const plainSchedule: fc.Arbitrary<Schedule> = fc.oneof(
  fc.record({
    skeleton: fc.constant('map' as const),
    threads: fc.constantFrom(1, 32, 64, 256),
    perThread: fc.integer({ min: 1, max: 4 }),
    vector: fc.constantFrom(1, 2, 4, 8),
  }),
  fc.record({
    skeleton: fc.constant('reduction' as const),
    threads: fc.constantFrom(32, 64, 256),
    lanes: fc.constantFrom(1, 32),
    vector: fc.constantFrom(1, 2, 4, 8),
    unroll: fc.integer({ min: 1, max: 3 }),
  }),
);

/** The kernel with the schedule, or with the widest vectors up to its own that the verifier accepts. */
function fitting(kernel: Kernel, schedule: Schedule): Kernel {
  if (schedule.skeleton === 'reduction') {
    const scheduled = { ...kernel, schedule };
    if (schedule.vector * schedule.unroll === 1 || verifyKernel(scheduled).length === 0) return scheduled;
    const { vector } = schedule;
    return fitting(kernel, { ...schedule, ...(vector > 1 ? { vector: vector / 2 } : { unroll: 1 }) });
  }
  if (schedule.skeleton !== 'map' || schedule.vector === 1) return { ...kernel, schedule };
  // In the order of an output's memory, so that neighbouring points can be neighbours there.
  const { buffer: made, at } = kernel.stores[0]!;
  const offset = linearOffset(made, at);
  const step = (i: Index): number => offset?.coefficients.get(i) ?? 0;
  const scheduled = { ...kernel, schedule, domain: [...kernel.domain].sort((a, b) => step(b) - step(a)) };
  if (verifyKernel(scheduled).length === 0) return scheduled;
  return fitting(kernel, { ...schedule, vector: schedule.vector / 2 });
}

/** Kernels with a schedule or without: chosen by the schedule pass, or any that fits. */
export const anyKernel = (options: KernelOptions = {}): fc.Arbitrary<Kernel> =>
  fc.oneof(
    { weight: 1, arbitrary: unscheduledKernel(options) },
    { weight: 1, arbitrary: scheduledKernel(options) },
  );

/** Kernels with a schedule. */
export const scheduledKernel = (options: KernelOptions = {}): fc.Arbitrary<Kernel> =>
  fc
    .tuple(
      fc.oneof({ weight: 5, arbitrary: unscheduledKernel(options) }, contractionKernel()),
      fc.option(plainSchedule, { nil: undefined }),
      fc.constantFrom(...(options.targets ?? ['host', 'sm_90'])),
    )
    .map(([kernel, schedule, target]) =>
      schedule && !contractionOf(kernel)
        ? fitting(kernel, schedule)
        : scheduleKernel(kernel, targetOf(target)),
    );

/** How a module gets a value for a kernel's input where no earlier value fits. */
type Source = 'input' | 'constant' | 'elided';

/** Modules of a few kernels: each reads inputs, constants, or what kernels before it made. */
export const anyModule = (kernels: fc.Arbitrary<Kernel> = anyKernel()): fc.Arbitrary<Module> =>
  fc
    .record({
      name: oddName,
      prefix: oddName,
      kernels: fc.array(kernels, { minLength: 1, maxLength: 4 }),
      reuse: fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
      sources: fc.array(fc.constantFrom<Source>('input', 'constant', 'elided'), {
        minLength: 8,
        maxLength: 8,
      }),
      seed: fc.integer({ min: 0, max: 999 }),
    })
    .map(({ name, prefix, kernels: ks, reuse, sources, seed }): Module => {
      const types = new Map<string, TensorType>();
      const constants = new Map<string, Tensor>();
      const inputs: string[] = [];
      const made: string[] = [];
      const fresh = (type: TensorType): string => {
        const value = `${prefix}${types.size}`;
        types.set(value, { dtype: type.dtype, shape: type.shape });
        return value;
      };
      const calls = ks.map((kernel, n): Call => {
        const given = kernel.inputs.map((b, i) => {
          const fits = made.find((v) => {
            const t = types.get(v)!;
            return t.dtype === b.dtype && elementCount(t.shape) === elementCount(b.shape);
          });
          if (fits !== undefined && reuse[(n + i) % 8]) return fits;
          const value = fresh(b);
          const source = sources[(n + i) % 8]!;
          if (source === 'input') inputs.push(value);
          else if (source === 'elided')
            constants.set(value, new ElidedTensor(types.get(value)!, `${seed}-${i}`));
          else constants.set(value, randomInput(types.get(value)!, seed + i));
          return value;
        });
        const outputs = kernel.outputs.map(fresh);
        made.push(...outputs);
        return { kernel, inputs: given, outputs };
      });
      const outputs = calls.at(-1)!.outputs.map((value, i) => ({ name: `${prefix}out${i}`, value }));
      return { name, types, constants, inputs, outputs, calls };
    });
