/**
 * @file The unround pass, for models that we (not their makers) put into half floats: what a kernel computes and uses itself stays in f32.
 * Before kernels were fused every operation's result lay in memory, so each was clamped and rounded to f16 (passes/saturate.ts); after, only
 * what is stored must be. An epilogue of five operations has a third of the instructions, and fewer roundings are nearer to the model as
 * it was made. Roundings that the model itself asks for have no clamp, and stay.
 *
 * Where all that a kernel stores is 16-bit floats, quotients by one value that is the same for all points become products by its reciprocal, which is
 * then divided out once a thread: off by a unit in the last place of an f32, which those 16 bits do not see.
 */
import { attentionOf } from '../ir/attention.ts';
import { constant, op } from '../ir/build.ts';
import type { Expr, Kernel } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import { isHalf } from '../ir/types.ts';
import { freeIndices, rewriter } from '../ir/walk.ts';
import { unclamped } from './saturate.ts';

export const unround = (module: Module): Module => ({
  ...module,
  calls: module.calls.map((call) => ({ ...call, kernel: unroundKernel(call.kernel) })),
});

export function unroundKernel(kernel: Kernel): Kernel {
  // Attention is recognised by its text; its skeleton keeps scores in f32 anyhow.
  if (attentionOf(kernel)) return kernel;
  const storesHalves = kernel.stores.every((s) => isHalf(s.buffer.dtype));
  const rewrite = rewriter({ node: (e) => (storesHalves ? byReciprocal(kept(e)) : kept(e)) });
  return { ...kernel, stores: kernel.stores.map((s) => ({ ...s, value: rewrite(s.value) })) };
}

/** cast f32 (cast f16 (clamp x)) = x */
function kept(e: Expr): Expr {
  if (e.kind !== 'cast' || e.dtype !== 'f32' || e.arg.kind !== 'cast' || e.arg.dtype !== 'f16') return e;
  const rounded = e.arg.arg;
  const value = unclamped(rounded);
  return value === rounded ? e : value;
}

/** x / c = x * (1 / c), for a c that is read from one place */
function byReciprocal(e: Expr): Expr {
  if (e.kind !== 'op' || e.op !== 'div' || e.dtype !== 'f32') return e;
  const [x, c] = e.args as [Expr, Expr];
  return x.kind !== 'const' && isOnePlace(c) ? op('mul', x, op('div', constant('f32', 1), c)) : e;
}

/** A half float from memory, widened: neither it nor its reciprocal leaves what an f32 can hold. */
const isOnePlace = (c: Expr): boolean =>
  c.kind === 'cast' && c.arg.kind === 'load' && isHalf(c.arg.dtype) && freeIndices()(c.arg).size === 0;
