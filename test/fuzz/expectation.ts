/**
 * @file What a module should give, and how exactly. The interpreter's result is the expected one; the same with noise where devices may
 * differ (order of sums, last places of functions) shows how much each element hangs on that. An element that noise throws far about, or
 * into another class (a NaN, another integer), says nothing and is left open.
 */

import type { Noise, Roundings } from '../../ir/interpret.ts';
import { interpretModule } from '../../ir/interpret_module.ts';
import type { Module } from '../../ir/module.ts';
import { reader, type Tensor } from '../../ir/tensor.ts';
import { type DType, dtypes } from '../../ir/types.ts';
import { generator } from '../support/random.ts';

type Tensors = ReadonlyMap<string, Tensor>;

/** How far a device may be off in one step, as a part of the value (or of the least normal number): some units in the last place. */
const step: { readonly [T in DType]?: number } = { f32: 2 ** -20, f16: 2 ** -10, bf16: 2 ** -7 };
/** An element that noise moves by more than this part of itself is left open. */
const mostSpread = 0.05;

/** All up, all down, and at random. */
function noises(count: number): Noise[] {
  return Array.from({ length: count }, (_, n): Noise => {
    const next = generator(n);
    const direction = n === 0 ? () => 1 : n === 1 ? () => -1 : () => next() * 2 - 1;
    return (value, dtype) => {
      const size = step[dtype];
      if (size === undefined) return value + Math.floor(direction() * 2 ** 20);
      const least = leastNormal(dtype);
      return Math.abs(value) < least ? value + least * size * direction() : value * (1 + size * direction());
    };
  });
}

/** What came of a comparison. */
export interface Verdict {
  /** Elements that were compared, and that were left open. */
  readonly compared: number;
  readonly open: number;
  /** The first element that is wrong. */
  readonly wrong?: string;
}

export class Expectation {
  readonly #plain: Tensors;
  #noisy: Tensors[];

  constructor(
    private readonly module: Module,
    private readonly inputs: Tensors,
    /** Roundings to 16 bits that the module has and the device may leave out. */
    private readonly disturbRoundings?: Roundings,
  ) {
    this.#plain = interpretModule(module, inputs);
    this.#noisy = this.#disturb(6);
  }

  #disturb(count: number): Tensors[] {
    return noises(count).map((noise) =>
      interpretModule(this.module, this.inputs, { noise, disturbRoundings: this.disturbRoundings }),
    );
  }

  check(got: Tensors): Verdict {
    const verdict = this.#check(got);
    if (verdict.wrong === undefined || this.#noisy.length > 6) return verdict;
    // Perhaps on the edge of something: looks again, more closely.
    this.#noisy = this.#disturb(60);
    return this.#check(got);
  }

  #check(got: Tensors): Verdict {
    let compared = 0;
    let open = 0;
    for (const [name, expected] of this.#plain) {
      const plain = reader(expected);
      const noisy = this.#noisy.map((tensors) => reader(tensors.get(name)!));
      const result = reader(got.get(name)!);
      const ulp = 2 * (step[expected.dtype] ?? 0);
      for (let i = 0; i < expected.data.length; i++) {
        const value = plain(i);
        const spread = spreadOf(
          value,
          noisy.map((read) => read(i)),
        );
        if (spread === undefined || spread > mostSpread * Math.abs(value) + Number.MIN_VALUE) {
          open++;
          continue;
        }
        compared++;
        if (
          same(value, result(i)) ||
          Math.abs(result(i) - value) <= 4 * spread + ulp * Math.abs(value) + tiny(expected.dtype)
        )
          continue;
        return { compared, open, wrong: `${name}[${i}] is ${result(i)}, expected ${value}` };
      }
    }
    return { compared, open };
  }
}

const same = (a: number, b: number): boolean => a === b || (Number.isNaN(a) && Number.isNaN(b));

/** Of f16, where small values lose whole digits; other types hold smaller ones than matter. */
const leastNormal = (dtype: DType): number => (dtype === 'f16' ? 2 ** -14 : 0);

/** Results below the least normal number of a type have fewer digits. */
const tiny = (dtype: DType): number =>
  dtypes[dtype].kind !== 'float' ? 0 : dtype === 'f16' ? 2 ** -23 : dtype === 'bf16' ? 2 ** -132 : 2 ** -147;

/** How far noise moves a value; undefined if out of its class. */
function spreadOf(value: number, noisy: readonly number[]): number | undefined {
  if (!Number.isFinite(value)) return noisy.every((n) => same(n, value)) ? 0 : undefined;
  if (!noisy.every(Number.isFinite)) return undefined;
  return Math.max(...noisy.map((n) => Math.abs(n - value)));
}
