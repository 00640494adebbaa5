/**
 * @file The saturate pass, for models that we (not their makers) put into half floats: a value too large for f16 becomes the greatest
 * one instead of infinity, so that one layer's overflow does not turn everything after it into NaN. NaNs stay.
 */
import { constant, op } from '../ir/build.ts';
import type { Expr, Kernel } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import { dtypes } from '../ir/types.ts';

/** Clamps what every kernel computes in f32 and stores as f16. */
export const saturate = (module: Module): Module => ({
  ...module,
  calls: module.calls.map((call) => ({ ...call, kernel: saturateKernel(call.kernel) })),
});

export function saturateKernel(kernel: Kernel): Kernel {
  return { ...kernel, stores: kernel.stores.map((s) => ({ ...s, value: clampCast(s.value) })) };
}

/** What was clamped, of a value that saturate clamped; any other value as it is. */
export function unclamped(value: Expr): Expr {
  const { min, max } = dtypes.f16;
  const inner = bounded(value, 'max', min);
  return (inner && bounded(inner, 'min', max)) ?? value;
}

/** The other operand of a max or min with the bound. */
function bounded(e: Expr, by: 'max' | 'min', bound: number): Expr | undefined {
  if (e.kind !== 'op' || e.op !== by) return undefined;
  const [value, limit] = e.args;
  return limit?.kind === 'const' && limit.value === bound ? value : undefined;
}

function clampCast(value: Expr): Expr {
  if (value.kind !== 'cast' || value.dtype !== 'f16' || value.arg.dtype !== 'f32') return value;
  const { min, max } = dtypes.f16;
  const clamped = op('max', op('min', value.arg, constant('f32', max)), constant('f32', min));
  return { ...value, arg: clamped };
}
