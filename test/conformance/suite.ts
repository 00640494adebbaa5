/**
 * @file ONNX's backend tests: models with inputs and the outputs they must give. Finds them, runs them through the
 * compiler and a runner, and compares.
 */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { lowerOnnx, readModel, readTensor, Unsupported } from '../../compiler/index.ts';
import type { Module } from '../../ir/module.ts';
import { reader, type Tensor } from '../../ir/tensor.ts';
import { formatType, isFloat, sameShape } from '../../ir/types.ts';

/** Runs a module on inputs by name and gives its outputs by name. */
export type Runner = (
  module: Module,
  inputs: ReadonlyMap<string, Tensor>,
) => ReadonlyMap<string, Tensor> | Promise<ReadonlyMap<string, Tensor>>;

export interface ConformanceTest {
  /** node, simple, pytorch-converted, pytorch-operator or light. */
  readonly group: string;
  readonly name: string;
  readonly folder: string;
}

export interface Outcome {
  readonly group: string;
  readonly name: string;
  /** The operator under test, or `(several)`. */
  readonly operator: string;
  readonly status: 'pass' | 'unsupported' | 'wrong';
  /** Why not, in one line. */
  readonly reason?: string;
}

/** Where the archive is looked for, from the repository's root. */
export const archive = join('..', 'shared', 'onnx-backend.tar.xz');
const unpacked = '.onnx-backend';
const groups = ['node', 'simple', 'pytorch-converted', 'pytorch-operator', 'light'];

/** The folder of unpacked tests, unpacking them first if need be; undefined if there is no archive either. */
export async function testFolder(root = process.cwd()): Promise<string | undefined> {
  const target = join(root, unpacked);
  if (existsSync(target)) return target;
  const packed = join(root, archive);
  if (!existsSync(packed)) return undefined;
  // Unpacked aside and renamed, so that a half-unpacked folder is never taken for a whole one.
  const partial = `${target}.${process.pid}`;
  await mkdir(partial, { recursive: true });
  try {
    await promisify(execFile)('tar', ['xJf', packed, '-C', partial]);
    await rename(partial, target);
  } catch (e) {
    await rm(partial, { recursive: true, force: true });
    if (!existsSync(target)) throw e;
  }
  return target;
}

/** All tests below a folder, in order of name. */
export function listTests(folder: string): ConformanceTest[] {
  const inner = existsSync(join(folder, 'node')) ? folder : join(folder, readdirSync(folder)[0] ?? '');
  return groups
    .filter((group) => existsSync(join(inner, group)))
    .flatMap((group) =>
      readdirSync(join(inner, group))
        .sort()
        .map((name) => ({ group, name, folder: join(inner, group, name) })),
    );
}

/** Compiles and runs one test. What is not refused must be right: anything else that goes wrong counts as wrong. */
export async function runTest(test: ConformanceTest, run: Runner): Promise<Outcome> {
  const { group, name, folder } = test;
  const bytes = readFileSync(join(folder, 'model.onnx'));
  let operator = '(several)';
  const outcome = (status: Outcome['status'], reason?: string): Outcome => ({
    group,
    name,
    operator,
    status,
    ...(reason === undefined ? {} : { reason: reason.split('\n')[0]! }),
  });
  try {
    const { nodes, inputs } = readModel(bytes, name);
    if (nodes.length === 1) operator = nodes[0]!.op;
    const names = inputs.map((i) => i.name);
    for (const set of readdirSync(folder).filter((f) => f.startsWith('test_data_set_'))) {
      const problem = await runSet(bytes, name, names, join(folder, set), run);
      if (problem) return outcome('wrong', problem);
    }
    return outcome('pass');
  } catch (e) {
    if (e instanceof Unsupported) return outcome('unsupported', e.message);
    return outcome('wrong', e instanceof Error ? `${e.name}: ${e.message}` : String(e));
  }
}

/** Runs one set of data; gives what is wrong. */
async function runSet(
  bytes: Uint8Array,
  name: string,
  inputNames: readonly string[],
  folder: string,
  run: Runner,
): Promise<string | undefined> {
  const given = tensorsIn(folder, 'input');
  const expected = tensorsIn(folder, 'output');
  // Tensors go to the inputs that they name; files that name nothing, by position.
  const inputs = new Map(
    given.map((t, i) => [inputNames.includes(t.name) ? t.name : (inputNames[i] ?? t.name), t]),
  );
  const module = lowerWith(bytes, name, inputs);
  const outputs = await run(module, inputs);
  for (const [i, want] of expected.entries()) {
    const output = module.outputs.find((o) => o.name === want.name) ?? module.outputs[i];
    const got = output && outputs.get(output.name);
    if (!got) return `output ${i} is missing`;
    const problem = difference(got, want);
    if (problem) return `output ${want.name || i}: ${problem}`;
  }
  return undefined;
}

function tensorsIn(folder: string, kind: 'input' | 'output') {
  const files = readdirSync(folder).filter((f) => f.startsWith(`${kind}_`));
  const numberOf = (file: string): number => Number(/\d+/.exec(file)?.[0]);
  return files
    .sort((a, b) => numberOf(a) - numberOf(b))
    .map((f) => readTensor(readFileSync(join(folder, f))));
}

/**
 * Lowers a model for a test's inputs. Shapes, axes and the like are inputs in these tests; those that the compiler must
 * know are fixed to the test's values, and no others, so that as much as can be is left to run.
 */
function lowerWith(bytes: Uint8Array, name: string, inputs: ReadonlyMap<string, Tensor>): Module {
  const fixed = new Map<string, Tensor>();
  for (;;) {
    const open = [...inputs].filter(([input]) => !fixed.has(input));
    const shapes = Object.fromEntries(open.map(([input, t]) => [input, t.shape]));
    try {
      return lowerOnnx(bytes, { name, shapes, fixed });
    } catch (e) {
      const needed =
        e instanceof Unsupported ? e.refusals.flatMap((r) => ('needs' in r ? [r.needs] : [])) : [];
      const direct = open.filter(([input]) => needed.includes(input));
      // What is needed may be computed from inputs: from shapes and counts, which are integers.
      const more =
        direct.length > 0 ? direct : needed.length > 0 ? open.filter(([, t]) => !isFloat(t.dtype)) : [];
      if (more.length === 0) throw e;
      for (const [input, tensor] of more) fixed.set(input, tensor);
    }
  }
}

/** How far floats may be from what a test says: `absolute + relative * |value|`. */
const tolerances = {
  f32: { relative: 1e-3, absolute: 1e-5 },
  f16: { relative: 2e-3, absolute: 1e-3 },
  bf16: { relative: 1e-2, absolute: 1e-2 },
} as const;

/** What differs between two tensors, in words; undefined if nothing that matters does. */
export function difference(got: Tensor, want: Tensor): string | undefined {
  if (got.dtype !== want.dtype || !sameShape(got.shape, want.shape)) {
    return `is ${formatType(got)}, not ${formatType(want)}`;
  }
  const [a, b] = [reader(got), reader(want)];
  const exact = { relative: 0, absolute: 0 };
  const { relative, absolute } = isFloat(got.dtype)
    ? tolerances[got.dtype as keyof typeof tolerances]
    : exact;
  for (let i = 0; i < got.data.length; i++) {
    const [x, y] = [a(i), b(i)];
    const same = Object.is(x, y) || x === y || Math.abs(x - y) <= absolute + relative * Math.abs(y);
    if (!same) return `element ${i} is ${x}, not ${y}`;
  }
  return undefined;
}
