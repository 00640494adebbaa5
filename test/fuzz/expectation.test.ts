/**
 * @file What the fuzzer holds devices to: values that the interpreter's doubles hold, and not the low bits of integers beyond 2^53.
 */
import { describe, expect, it } from 'vitest';
import { index } from '../../ir/affine.ts';
import { buffer, constant, kernel, op, store } from '../../ir/build.ts';
import type { Roundings } from '../../ir/interpret.ts';
import type { Expr } from '../../ir/kernel.ts';
import type { Module } from '../../ir/module.ts';
import { tensorOf } from '../../ir/tensor.ts';
import type { DType } from '../../ir/types.ts';
import { moduleProblems } from '../../ir/verify_module.ts';
import { Expectation } from './expectation.ts';

/** One kernel that stores the same value four times; what a device gives for it is `given`. */
function check(value: Expr, given: number, roundings?: Roundings) {
  const i = index('i', 4);
  const y = buffer('y', value.dtype, [4]);
  const type = { dtype: value.dtype, shape: [4] };
  const module: Module = {
    name: 'm',
    types: new Map([['y', type]]),
    constants: new Map(),
    inputs: [],
    outputs: [{ name: 'y', value: 'y' }],
    calls: [{ kernel: kernel('k', [], [y], [i], [store(y, [i], value)]), inputs: [], outputs: ['y'] }],
  };
  expect(moduleProblems(module)).toEqual([]);
  const got = tensorOf(value.dtype, [4], new Array<number>(4).fill(given));
  return new Expectation(module, new Map(), roundings).check(new Map([['y', got]]));
}

/** A conversion that is done when the kernel runs, and not when it is built. */
const late = (dtype: DType, arg: Expr): Expr => ({ kind: 'cast', dtype, arg });

describe('integers beyond 2^53', () => {
  // Saturates to 2^63 - 1, of which a double makes 2^63.
  const most = late('i64', constant('bf16', Number.POSITIVE_INFINITY));
  const open = { compared: 0, open: 4 };

  it('leave open what hangs on their low bits', () => {
    expect(check(late('i8', late('i32', op('neg', most))), 1)).toEqual(open);
    expect(check(late('i8', most), -1)).toEqual(open);
    expect(check(late('i32', most), -1)).toEqual(open);
    expect(check(op('bitand', most, constant('i64', 255)), 255)).toEqual(open);
    expect(check(op('rem', most, constant('i64', 16)), 15)).toEqual(open);
  });

  it('are compared where all of their size counts', () => {
    expect(check(late('f32', most), 2 ** 63)).toEqual({ compared: 4, open: 0 });
    expect(check(late('f32', most), 2 ** 62).wrong).toMatch(/y\[0\] is/);
  });

  it('have nothing to do with smaller ones', () => {
    const small = late('i64', constant('f32', 2 ** 40 + 2 ** 20));
    expect(check(late('i32', small), 2 ** 20)).toEqual({ compared: 4, open: 0 });
    expect(check(late('i32', small), 1).wrong).toBe(`y[0] is 1, expected ${2 ** 20}`);
  });
});

describe('roundings to f16 that may be left out', () => {
  const exact = -0.042712386697530746;
  const rounded = Math.fround(-0.042724609375);
  const value = (x: number): Expr => late('f32', late('f16', late('f32', constant('f32', x))));

  it('are those of values that they change', () => {
    expect(check(value(exact), exact, 'all')).toEqual({ compared: 4, open: 0 });
    expect(check(value(exact), exact).wrong).toMatch(/y\[0\] is/);
    expect(check(value(rounded), exact, 'all').wrong).toMatch(/y\[0\] is/);
  });

  it('leave nothing else open', () => {
    expect(check(value(exact), exact * 1.01, 'all').wrong).toMatch(/y\[0\] is/);
    expect(check(value(0), 1e-8, 'all').wrong).toMatch(/y\[0\] is/);
  });

  it('are only those of what is stored, if so asked', () => {
    expect(check(value(exact), exact, 'stored').wrong).toMatch(/y\[0\] is/);
    const stored = late('f16', constant('f32', exact));
    expect(check(stored, rounded + 2 ** -15, 'stored')).toEqual({ compared: 4, open: 0 });
    expect(check(stored, rounded * 1.01, 'stored').wrong).toMatch(/y\[0\] is/);
  });

  it('may make all of a value that is almost zero', () => {
    expect(check(value(1e-8), 1e-8, 'all')).toEqual({ compared: 0, open: 4 });
  });
});
