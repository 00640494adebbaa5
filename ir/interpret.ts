/**
 * @file The meaning of a kernel: runs it on tensors, index by index, rounding every step to its type. Slow and
 * obvious. The oracle of every test, and what folds constants.
 *
 * Integers are computed as doubles, so i64 arithmetic is exact up to 2^53 in size.
 */
import { type Affine, type Index, isQuotient } from './affine.ts';
import { blockOf } from './blocks.ts';
import type { Buffer, Cast, Expr, Kernel, Load } from './kernel.ts';
import { combiners, opInfo } from './ops.ts';
import type { BlockRange } from './program.ts';
import { castValue, makeTensor, reader, roundTo, type Tensor, writer } from './tensor.ts';
import { type DType, dtypes, elementCount, rowMajorStrides } from './types.ts';
import { childrenOf, freeIndices } from './walk.ts';

type Thunk = () => number;

/**
 * What to make of a result that devices may give otherwise: of an `approximate` operation, a step of a float sum or product (whose order
 * is the schedule's), the sign of a zero that is the greater or lesser of two, an integer beyond 2^53, and what hangs on its low bits alone.
 */
export type Noise = (value: number, dtype: DType) => number;

export type Roundings = 'all' | 'stored';

export interface InterpretOptions {
  /** Where results go, one for each of `kernel.outputs`; new tensors by default. They may share memory with inputs. */
  readonly outputs?: readonly Tensor[];
  /** Runs only the points of these virtual blocks; the kernel then needs a schedule. */
  readonly blocks?: BlockRange;
  /** Disturbs what devices need not agree on: shows how far results depend on it. */
  readonly noise?: Noise | undefined;
  /**
   * Disturbs what is rounded to 16 bits as well, where that changes it: shows how far results depend on roundings that a pass may take
   * away. `stored`: only as a kernel stores it.
   */
  readonly disturbRoundings?: Roundings | undefined;
}

/**
 * Runs one kernel.
 * @param inputs one tensor for each of `kernel.inputs`, of its type and element count (a view may differ in shape).
 * @returns one tensor for each of `kernel.outputs`.
 */
export function interpretKernel(
  kernel: Kernel,
  inputs: readonly Tensor[],
  { outputs: given, blocks, ...disturbance }: InterpretOptions = {},
): Tensor[] {
  const tensors = new Map<Buffer, Tensor>();
  kernel.inputs.forEach((b, i) => {
    const tensor = inputs[i];
    if (!tensor || tensor.dtype !== b.dtype || tensor.data.length !== elementCount(b.shape)) {
      throw new TypeError(`kernel ${kernel.name}: input %${b.name} does not fit its argument`);
    }
    tensors.set(b, tensor);
  });
  const outputs = kernel.outputs.map((b, i) => given?.[i] ?? makeTensor(b.dtype, b.shape));
  kernel.outputs.forEach((b, i) => tensors.set(b, outputs[i]!));

  const machine = new Machine(tensors, kernel, disturbance);
  const stores = kernel.stores.map((s) => {
    const value = machine.compile(s.value);
    const offset = machine.offset(s.at, rowMajorStrides(s.buffer.shape));
    const write = writer(tensors.get(s.buffer)!);
    return machine.loop(s.over, () => write(offset(), value()));
  });
  const block = blocks ? machine.affine(blockOf(kernel)) : undefined;
  const isWanted = (at: number): boolean => !blocks || (at >= blocks.from && at < blocks.to);
  machine.loop(kernel.domain, () => {
    if (block && !isWanted(block())) return;
    for (const run of stores) run();
  })();
  return outputs;
}

/** A result that may hang on the low bits of its operands, disturbed if one is beyond 2^53: doubles hold it without them. */
const ofLowBits = (result: number, dtype: DType, noise: Noise, operands: readonly number[]): number =>
  operands.every((x) => Math.abs(x) <= Number.MAX_SAFE_INTEGER)
    ? result
    : roundTo(dtype, noise(result, dtype));

/** Turns expressions into closures over one set of current index values. */
class Machine {
  readonly #tensors: ReadonlyMap<Buffer, Tensor>;
  readonly #at = new Map<Index, { value: number }>();
  readonly #compiled = new Map<Expr, Thunk>();
  readonly #parents = new Map<Expr, number>();
  readonly #free = freeIndices();
  readonly #stored: ReadonlySet<Expr>;

  constructor(
    tensors: ReadonlyMap<Buffer, Tensor>,
    kernel: Kernel,
    private readonly disturbance: Pick<InterpretOptions, 'noise' | 'disturbRoundings'>,
  ) {
    this.#tensors = tensors;
    const count = (e: Expr): void => {
      const n = (this.#parents.get(e) ?? 0) + 1;
      this.#parents.set(e, n);
      if (n === 1) childrenOf(e).forEach(count);
    };
    for (const s of kernel.stores) count(s.value);
    this.#stored = new Set(kernel.stores.map((s) => s.value));
  }

  #cell(i: Index): { value: number } {
    let cell = this.#at.get(i);
    if (!cell) this.#at.set(i, (cell = { value: 0 }));
    return cell;
  }

  /** Runs `body` for every point of the box, the last index fastest. */
  loop(over: readonly Index[], body: () => void): () => void {
    return over.reduceRight<() => void>((inner, i) => {
      const cell = this.#cell(i);
      return () => {
        for (cell.value = 0; cell.value < i.extent; cell.value++) inner();
      };
    }, body);
  }

  affine(a: Affine): Thunk {
    const terms = a.terms.map(({ coeff, atom }): Thunk => {
      if (!isQuotient(atom)) {
        const cell = this.#cell(atom);
        return () => coeff * cell.value;
      }
      const arg = this.affine(atom.arg);
      const { by } = atom;
      if (atom.kind === 'floordiv') return () => coeff * Math.floor(arg() / by);
      return () => coeff * (((arg() % by) + by) % by);
    });
    const { constant } = a;
    const [first] = terms;
    if (!first) return () => constant;
    if (terms.length === 1) return () => constant + first();
    return () => terms.reduce((sum, t) => sum + t(), constant);
  }

  offset(at: readonly Affine[], strides: readonly number[]): Thunk {
    const dims = at.map((a) => this.affine(a));
    return () => dims.reduce((sum, d, i) => sum + d() * strides[i]!, 0);
  }

  compile(e: Expr): Thunk {
    const known = this.#compiled.get(e);
    if (known) return known;
    const thunk = this.#shared(e, this.#disturbed(e, this.#build(e)));
    this.#compiled.set(e, thunk);
    return thunk;
  }

  /** Keeps the last value of a node that is expensive or used twice, as long as its indices stand still. */
  #shared(e: Expr, thunk: Thunk): Thunk {
    if (e.kind !== 'reduce' && (this.#parents.get(e) ?? 0) < 2) return thunk;
    const cells = [...this.#free(e)].map((i) => this.#cell(i));
    const seen = cells.map(() => -1);
    let value = Number.NaN;
    let valid = false;
    return () => {
      if (valid && cells.every((c, i) => c.value === seen[i])) return value;
      cells.forEach((c, i) => void (seen[i] = c.value));
      value = thunk();
      valid = true;
      return value;
    };
  }

  #disturbed(e: Expr, thunk: Thunk): Thunk {
    const { noise } = this.disturbance;
    if (!noise || (e.kind !== 'op' && e.kind !== 'cast')) return thunk;
    const { dtype } = e;
    if (dtype === 'i64') {
      return () => {
        const value = thunk();
        return Math.abs(value) > Number.MAX_SAFE_INTEGER ? noise(value, dtype) : value;
      };
    }
    if (dtypes[dtype].kind !== 'float') return thunk;
    if (e.kind === 'cast') {
      if (!this.#isOpen(e)) return thunk;
      const arg = this.compile(e.arg);
      return () => {
        const exact = arg();
        const value = castValue(exact, e.arg.dtype, dtype);
        return value === exact ? value : roundTo(dtype, noise(value, dtype));
      };
    }
    if (opInfo(e.op).approximate) return () => roundTo(dtype, noise(thunk(), dtype));
    if (e.op !== 'max' && e.op !== 'min') return thunk;
    return () => {
      const value = thunk();
      return value === 0 && noise(1, dtype) < 1 ? -value : value;
    };
  }

  /** Whether a cast is a rounding to disturb. */
  #isOpen(e: Cast): boolean {
    const { disturbRoundings } = this.disturbance;
    if (disturbRoundings === undefined || dtypes[e.dtype].bytes !== 2) return false;
    return disturbRoundings === 'all' || this.#stored.has(e);
  }

  #build(e: Expr): Thunk {
    switch (e.kind) {
      case 'const':
        return () => e.value;
      case 'index':
        return this.affine(e.value);
      case 'load':
        return this.#load(e);
      case 'cast': {
        const arg = this.compile(e.arg);
        const { dtype } = e;
        const from = e.arg.dtype;
        const { noise } = this.disturbance;
        if (!noise || from !== 'i64' || dtypes[dtype].kind !== 'int')
          return () => castValue(arg(), from, dtype);
        return () => {
          const value = arg();
          return ofLowBits(castValue(value, from, dtype), dtype, noise, [value]);
        };
      }
      case 'op': {
        const { evaluate } = opInfo(e.op);
        const [a, b, c] = e.args.map((x) => this.compile(x));
        const operandType = e.args.at(-1)!.dtype;
        const { dtype } = e;
        if (e.op === 'select') return () => (a!() !== 0 ? b!() : c!());
        if (!b) return () => roundTo(dtype, evaluate(operandType, a!(), 0, 0));
        const { noise } = this.disturbance;
        if (noise && dtype === 'i64' && (e.op === 'bitand' || e.op === 'rem'))
          return () => {
            const [left, right] = [a!(), b()];
            return ofLowBits(roundTo(dtype, evaluate(operandType, left, right, 0)), dtype, noise, [
              left,
              right,
            ]);
          };
        return () => roundTo(dtype, evaluate(operandType, a!(), b(), 0));
      }
      case 'reduce': {
        const { op, start } = combiners[e.combine];
        const { evaluate } = opInfo(op);
        const body = this.compile(e.body);
        const { dtype } = e;
        const isOrdered = dtypes[dtype].kind === 'float' && (e.combine === 'sum' || e.combine === 'prod');
        const noise = isOrdered ? this.disturbance.noise : undefined;
        let acc = 0;
        const step = (): void => {
          acc = roundTo(dtype, evaluate(dtype, acc, body(), 0));
        };
        const disturbedStep = (): void => {
          acc = roundTo(dtype, noise!(evaluate(dtype, acc, noise!(body(), dtype), 0), dtype));
        };
        const run = this.loop(e.over, noise ? disturbedStep : step);
        return () => {
          acc = start(dtype);
          run();
          return acc;
        };
      }
      default:
        return e satisfies never;
    }
  }

  #load(e: Load): Thunk {
    const tensor = this.#tensors.get(e.buffer);
    if (!tensor) throw new TypeError(`%${e.buffer.name} is not a parameter of the kernel`);
    const read = reader(tensor);
    const { shape } = e.buffer;
    const strides = rowMajorStrides(shape);
    const dims = e.at.map((c) => ('gather' in c ? this.compile(c.gather) : this.affine(c.affine)));
    const { pad } = e;
    return () => {
      let offset = 0;
      for (let d = 0; d < dims.length; d++) {
        const at = dims[d]!();
        if (at < 0 || at >= shape[d]!) {
          if (pad !== undefined) return pad;
          throw new RangeError(`%${e.buffer.name}: coordinate ${d} is ${at} of ${shape[d]}`);
        }
        offset += at * strides[d]!;
      }
      return read(offset);
    };
  }
}
