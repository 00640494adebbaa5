/**
 * @file A module: one model as kernel calls in order, over named values. What lowering gives and passes rewrite.
 */
import type { Call } from './kernel.ts';
import type { Tensor } from './tensor.ts';
import type { TensorType } from './types.ts';

/** An output of a module: what the model calls it, and the value that holds it. */
export interface ModuleOutput {
  readonly name: string;
  readonly value: string;
}

/**
 * Each value has storage of its own: an input, a constant, or what one call makes. A kernel's buffer has its
 * value's element type and element count, but may see it under another shape. Output values are made by calls, and
 * no two outputs share one; only an output without elements is made by nobody.
 */
export interface Module {
  readonly name: string;
  /** The type of every value: inputs, constants and what calls make. */
  readonly types: ReadonlyMap<string, TensorType>;
  readonly constants: ReadonlyMap<string, Tensor>;
  readonly inputs: readonly string[];
  readonly outputs: readonly ModuleOutput[];
  /** In an order in which every value is made before it is read. */
  readonly calls: readonly Call[];
}
