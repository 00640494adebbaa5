/**
 * @file Fusion and the memory plan on whole modules: the same bits before and after, on models made here.
 */
import { describe, expect, it } from 'vitest';
import { index } from '../../ir/affine.ts';
import { buffer, constant, indicesFor, kernel, load, op, reduce, store } from '../../ir/build.ts';
import { interpretModule } from '../../ir/interpret_module.ts';
import type { Call, Expr } from '../../ir/kernel.ts';
import type { Module } from '../../ir/module.ts';
import { bytesOf } from '../../ir/tensor.ts';
import type { TensorType } from '../../ir/types.ts';
import { verifyKernel } from '../../ir/verify.ts';
import { fuse } from '../../passes/fuse.ts';
import { liveRanges, planMemory } from '../../passes/plan_memory.ts';
import { randomTensor } from '../support/random.ts';

const f32 = (...shape: number[]): TensorType => ({ dtype: 'f32', shape });

/** out = f(inputs), element by element, all of one shape. */
function elementwise(
  name: string,
  inputs: string[],
  output: string,
  shape: number[],
  f: (...xs: Expr[]) => Expr,
): Call {
  const xs = inputs.map((_, i) => buffer(`x${i}`, 'f32', shape));
  const y = buffer('y0', 'f32', shape);
  const at = indicesFor(shape);
  return {
    kernel: kernel(name, xs, [y], at, [store(y, at, f(...xs.map((x) => load(x, at))))], [name]),
    inputs,
    outputs: [output],
  };
}

function matmul(a: string, b: string, output: string, m: number, n: number, k: number): Call {
  const [x, w, y] = [buffer('x0', 'f32', [m, k]), buffer('x1', 'f32', [k, n]), buffer('y0', 'f32', [m, n])];
  const [i, j, l] = [index('m', m), index('n', n), index('k', k)];
  const sum = reduce('sum', [l], op('mul', load(x, [i, l]), load(w, [l, j])));
  return {
    kernel: kernel('matmul', [x, w], [y], [i, j], [store(y, [i, j], sum)], ['mm']),
    inputs: [a, b],
    outputs: [output],
  };
}

function transpose(input: string, output: string, m: number, n: number): Call {
  const [x, y] = [buffer('x0', 'f32', [m, n]), buffer('y0', 'f32', [n, m])];
  const [i, j] = [index('i', n), index('j', m)];
  return {
    kernel: kernel('transpose', [x], [y], [i, j], [store(y, [i, j], load(x, [j, i]))], ['t']),
    inputs: [input],
    outputs: [output],
  };
}

function rowSum(input: string, output: string, m: number, n: number): Call {
  const [x, y] = [buffer('x0', 'f32', [m, n]), buffer('y0', 'f32', [m])];
  const [i, j] = [index('i', m), index('j', n)];
  return {
    kernel: kernel('sum', [x], [y], [i], [store(y, [i], reduce('sum', [j], load(x, [i, j])))], ['s']),
    inputs: [input],
    outputs: [output],
  };
}

const module = (
  types: Record<string, TensorType>,
  inputs: string[],
  outputs: string[],
  calls: Call[],
): Module => ({
  name: 'test',
  types: new Map(Object.entries(types)),
  constants: new Map(),
  inputs,
  outputs: outputs.map((name) => ({ name, value: name })),
  calls,
});

const relu = (x: Expr): Expr => op('max', x, constant('f32', 0));
const types = {
  a: f32(6, 10),
  b: f32(10, 12),
  t: f32(6, 12),
  u: f32(6, 12),
  v: f32(6, 12),
  w: f32(12, 6),
  s: f32(6),
};

const cases: Record<string, [Module, number]> = {
  'a chain into the product before it': [
    module(
      types,
      ['a', 'b'],
      ['v'],
      [
        matmul('a', 'b', 't', 6, 12, 10),
        elementwise('relu', ['t'], 'u', [6, 12], relu),
        elementwise('twice', ['u'], 'v', [6, 12], (x) => op('add', x, x)),
      ],
    ),
    1,
  ],
  'a value used by two, whose uses end in one (x * clip(x))': [
    module(
      types,
      ['a', 'b'],
      ['v'],
      [
        matmul('a', 'b', 't', 6, 12, 10),
        elementwise('clip', ['t'], 'u', [6, 12], relu),
        elementwise('mul', ['t', 'u'], 'v', [6, 12], (x, y) => op('mul', x, y)),
      ],
    ),
    1,
  ],
  'not a value that is an output as well': [
    module(
      types,
      ['a', 'b'],
      ['t', 'u'],
      [matmul('a', 'b', 't', 6, 12, 10), elementwise('relu', ['t'], 'u', [6, 12], relu)],
    ),
    2,
  ],
  'element-wise work into the reduction that reads it once': [
    module(types, ['t'], ['s'], [elementwise('relu', ['t'], 'u', [6, 12], relu), rowSum('u', 's', 6, 12)]),
    1,
  ],
  'a transpose into the product that reads it': [
    module(
      { ...types, bt: f32(12, 10) },
      ['a', 'bt'],
      ['t'],
      [transpose('bt', 'b', 12, 10), matmul('a', 'b', 't', 6, 12, 10)],
    ),
    1,
  ],
  'element-wise work after a transpose': [
    module(
      { ...types, z: f32(12, 6) },
      ['t'],
      ['z'],
      [transpose('t', 'w', 6, 12), elementwise('relu', ['w'], 'z', [12, 6], relu)],
    ),
    1,
  ],
};

describe('fuse takes', () => {
  for (const [name, [before, left]] of Object.entries(cases)) {
    it(name, () => {
      const after = fuse(before);
      expect(after.calls.length).toBe(left);
      for (const call of after.calls) expect(verifyKernel(call.kernel)).toEqual([]);
      const inputs = new Map(
        before.inputs.map((v, i) => [v, randomTensor('f32', before.types.get(v)!.shape, i)]),
      );
      const [expected, got] = [interpretModule(before, inputs), interpretModule(after, inputs)];
      for (const [output, tensor] of expected) expect(bytesOf(got.get(output)!)).toEqual(bytesOf(tensor));
      // Where it came from is kept.
      expect(new Set(after.calls.flatMap((c) => c.kernel.loc))).toEqual(
        new Set(before.calls.flatMap((c) => c.kernel.loc)),
      );
    });
  }
});

it('values that live at the same time never share bytes', () => {
  const shape = [64, 10];
  const names = Array.from({ length: 20 }, (_, n) => `v${n}`);
  const all = Object.fromEntries(['x', ...names].map((n) => [n, f32(...shape)]));
  // Each value is read by the next call and by one some steps later.
  const calls = names.map((name, n) =>
    elementwise('add', [names[n - 1] ?? 'x', names[n - 1 - (n % 5)] ?? 'x'], name, shape, (a, b) =>
      op('add', a, b ?? a),
    ),
  );
  const m = module(all, ['x'], ['v19'], calls);
  const { places, arenaBytes } = planMemory(m);
  const ranges = [...liveRanges(m)];
  for (const [a, ra] of ranges) {
    for (const [b, rb] of ranges) {
      if (a === b || ra.from > rb.to || rb.from > ra.to) continue;
      const [pa, pb] = [places.get(a)!, places.get(b)!];
      expect(pa.offset + pa.bytes <= pb.offset || pb.offset + pb.bytes <= pa.offset).toBe(true);
    }
  }
  expect(arenaBytes).toBeLessThan(0.6 * names.length * 64 * 10 * 4);
});
