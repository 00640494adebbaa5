/**
 * @file The fuse-attention pass on what lowering gives: attention written in many ways becomes one kernel, and means the same but for
 * roundings.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { lowerOnnx } from '../../compiler/index.ts';
import { buildModel, type GraphSpec, type NodeSpec } from '../../compiler/onnx/writer.ts';
import { attentionOf } from '../../ir/attention.ts';
import { interpretModule } from '../../ir/interpret_module.ts';
import type { Module } from '../../ir/module.ts';
import { targetOf } from '../../ir/target.ts';
import { type Tensor, tensorOf } from '../../ir/tensor.ts';
import { moduleProblems } from '../../ir/verify_module.ts';
import { fuse } from '../../passes/fuse.ts';
import { fuseAttention } from '../../passes/fuse_attention.ts';
import { saturate } from '../../passes/saturate.ts';
import { schedule } from '../../passes/schedule.ts';
import { randomTensor, relativeError } from '../support/random.ts';

const target = targetOf('sm_90');
const half = (bytes: Uint8Array): Module => lowerOnnx(bytes, { name: 'm', shapes: {}, precision: 'fp16' });
const fused16 = (bytes: Uint8Array): Module => fuse(saturate(half(bytes)));

const node = (op: string, inputs: string[], output: string, attributes = {}): NodeSpec => ({
  op,
  inputs,
  outputs: [output],
  name: output,
  attributes,
});

const [heads, queries, keys, size] = [2, 12, 20, 16];
const f32 = (shape: readonly number[], ...values: number[]): Tensor => tensorOf('f32', shape, values);
const inputs = [
  { name: 'q', shape: [1, heads, queries, size] },
  { name: 'k', shape: [1, heads, keys, size] },
  { name: 'v', shape: [1, heads, keys, size] },
];
const flat = [
  { name: 'q', shape: [1, queries, heads * size] },
  { name: 'k', shape: [1, keys, heads * size] },
  { name: 'v', shape: [1, keys, heads * size] },
];
/** Hides every third key, and all of them from one query perhaps. */
const maskHiding = (hiddenQuery: number): Tensor =>
  tensorOf(
    'f32',
    [queries, keys],
    Array.from({ length: queries * keys }, (_, n) =>
      n % 3 === 0 || Math.floor(n / keys) === hiddenQuery ? Number.NEGATIVE_INFINITY : (n % 7) / 7,
    ),
  );
const mask = maskHiding(1);
const kt = node('Transpose', ['k'], 'kt', { perm: [0, 1, 3, 2] });
const y = node('MatMul', ['p', 'v'], 'y');
const graphs: Record<string, GraphSpec> = {
  'product, softmax, product': {
    inputs,
    outputs: ['y'],
    nodes: [kt, node('MatMul', ['q', 'kt'], 's'), node('Softmax', ['s'], 'p', { axis: -1 }), y],
  },
  'scaled and masked scores': {
    inputs,
    outputs: ['y'],
    constants: { c: f32([], 4), mask: maskHiding(-1) },
    nodes: [
      kt,
      node('MatMul', ['q', 'kt'], 's'),
      node('Div', ['s', 'c'], 'sc'),
      node('Add', ['sc', 'mask'], 'sm'),
      node('Softmax', ['sm'], 'p', { axis: -1 }),
      y,
    ],
  },
  'scaled queries and keys, hidden rows are zeros': {
    inputs,
    outputs: ['y'],
    constants: { c: f32([], 0.5), mask, zero: f32([], 0) },
    nodes: [
      kt,
      node('Mul', ['q', 'c'], 'qs'),
      node('Mul', ['c', 'kt'], 'ks'),
      node('MatMul', ['qs', 'ks'], 's'),
      node('Add', ['s', 'mask'], 'sm'),
      node('Softmax', ['sm'], 'w', { axis: -1 }),
      node('IsNaN', ['w'], 'n'),
      node('Where', ['n', 'zero', 'w'], 'p'),
      y,
    ],
  },
  'Attention of flat heads, masked, capped': {
    inputs: flat,
    outputs: ['y'],
    constants: { mask },
    nodes: [
      node('Attention', ['q', 'k', 'v', 'mask'], 'y', {
        q_num_heads: heads,
        kv_num_heads: heads,
        softcap: 2.5,
      }),
    ],
  },
  'Attention, causal': {
    inputs,
    outputs: ['y'],
    nodes: [node('Attention', ['q', 'k', 'v'], 'y', { is_causal: 1 })],
  },
};

const run = (module: Module, seed: number): Tensor[] => {
  const given = new Map(
    module.inputs.map((name, i) => {
      const { dtype, shape } = module.types.get(name)!;
      return [name, randomTensor(dtype, shape, seed + i)];
    }),
  );
  return [...interpretModule(module, given).values()];
};

describe('fuse-attention', () => {
  for (const [name, graph] of Object.entries(graphs)) {
    it(name, () => {
      const bytes = buildModel(graph, 24);
      const exact = lowerOnnx(bytes, { name: 'm', shapes: {}, precision: 'fp32' });
      // Without saturation, which makes a great number of what was -inf before the softmax.
      const before = fuse(half(bytes));
      for (const start of [before, fused16(bytes)]) {
        const after = schedule(fuseAttention(start, target), target);
        expect(moduleProblems(after, target)).toEqual([]);
        const attention = after.calls.filter((c) => c.kernel.schedule!.skeleton === 'attention');
        expect(attention).toHaveLength(1);
        expect(after.calls.filter((c) => /softmax|matmul|einsum/.test(c.kernel.name))).toEqual([]);
        const [got, was, wanted] = [run(after, 1), run(before, 1), run(exact, 1)];
        for (const [n, tensor] of got.entries()) {
          expect(relativeError(tensor, was[n]!)).toBeLessThan(3e-3);
          expect(relativeError(tensor, wanted[n]!)).toBeLessThan(3e-3);
        }
      }
    });
  }

  it('leaves a module without attention as it is', () => {
    const plain = fused16(
      buildModel({ inputs, outputs: ['s'], nodes: [kt, node('MatMul', ['q', 'kt'], 's')] }),
    );
    expect(fuseAttention(plain, target)).toBe(plain);
  });

  for (const model of ['bert_tiny', 'gpt2_tiny', 'vit_tiny']) {
    it(`finds both layers of ${model}, and takes their heads apart as it reads them`, () => {
      const url = new URL(`../../../shared/models/${model}/model.onnx`, import.meta.url);
      const before = fused16(readFileSync(url));
      const { calls } = fuseAttention(before, target);
      expect(calls.filter((c) => attentionOf(c.kernel))).toHaveLength(2);
      expect(
        calls.filter((c) => /^(split|transpose|slice)(?!_gemm)(?!.*attention)/.test(c.kernel.name)),
      ).toEqual([]);
    });
  }
});
