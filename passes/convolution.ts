/**
 * @file Convolutions on tensor cores, as the passes that choose layouts see them: a picture, constant weights, and the sum's indices
 * told apart by what they do to the picture.
 */
import { type Affine, type Index, indicesOf } from '../ir/affine.ts';
import { type Contraction, contractionOf, type Operand } from '../ir/contraction.ts';
import type { Call } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import type { Target } from '../ir/target.ts';
import { usesMma } from './mma_tile.ts';

/** A matrix product by constant weights is one, too: without taps. */
export interface Convolution {
  readonly contraction: Contraction;
  /** The operand that is not constant, and its value. */
  readonly picture: Operand;
  readonly pictureValue: string;
  /** The constant, which the call reads once. */
  readonly weights: Operand;
  readonly weightsValue: string;
  /** Indices of the sum that move over the picture as positions do; and the others. */
  readonly taps: readonly Index[];
  readonly channels: readonly Index[];
}

/** The call's convolution; undefined if it is none, or does not run on the target's tensor cores. */
export function convolutionOf(
  { kernel, inputs }: Call,
  module: Module,
  target: Target,
): Convolution | undefined {
  const contraction = contractionOf(kernel);
  if (!contraction || !usesMma(contraction, target)) return undefined;
  const { a, b, k } = contraction;
  const valueRead = (o: Operand): string => inputs[kernel.inputs.indexOf(o.load.buffer)]!;
  for (const [picture, weights] of [
    [a, b],
    [b, a],
  ] as const) {
    const weightsValue = valueRead(weights);
    if (inputs.filter((v) => v === weightsValue).length !== 1 || !module.constants.has(weightsValue))
      continue;
    const moving = new Set(
      picture.at.filter((x) => mentions(x, picture.positions)).flatMap((x) => [...indicesOf(x)]),
    );
    const taps = k.filter((i) => moving.has(i));
    const channels = k.filter((i) => !moving.has(i));
    return { contraction, picture, pictureValue: valueRead(picture), weights, weightsValue, taps, channels };
  }
  return undefined;
}

/** True if an expression has one of the indices in it. */
export const mentions = (a: Affine, indices: readonly Index[]): boolean =>
  [...indicesOf(a)].some((i) => indices.includes(i));
