/**
 * @file The stack pass, for tensor cores: matrix products of one value by constant weights of like shape, and alike in all that is done with
 * the sums, become one product with their columns side by side. Queries, keys and values of attention are such: one launch in place of
 * three in a chain of launches, and three times as many blocks in it.
 *
 * Weights and biases are laid out anew, the result is [..., products, columns], and who read one of the results reads the same places of its
 * part of the whole. Each column is summed as before, so bits stay as they were under an equal schedule. The product stands where the
 * first one stood: all of them read the same values besides constants. Left alone is what
 *
 *   - a model gives as an output, or a kernel sees under a shape that mixes columns with rows;
 *   - has constants that others read too, which would then be there twice;
 *   - has columns that do not fill copies of 16 bytes: accesses of a part are as wide as they were only where each part begins aligned.
 */
import { type Affine, affine, asIndex, type Index, indicesOf } from '../ir/affine.ts';
import { buffer as makeBuffer } from '../ir/build.ts';
import { classOf } from '../ir/class.ts';
import type { Buffer, Call, Coordinate, Kernel, Load } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import { memoised, remapKernel } from '../ir/remap.ts';
import type { Target } from '../ir/target.ts';
import { makeArray, makeTensor, type Tensor } from '../ir/tensor.ts';
import { dtypes, elementCount, maxElements, sameShape, type TensorType } from '../ir/types.ts';
import { loadsIn, rewriter, visitExprs } from '../ir/walk.ts';
import { convolutionOf } from './convolution.ts';

/** Stacks until no two products are left that could be. */
export function stack(module: Module, target: Target): Module {
  if (!target.mma) return module;
  const textOf = memoised((kernel: Kernel) => classOf(kernel, 'specialised').text);
  let stacked = module;
  for (let group = groupIn(module, target, textOf); group; group = groupIn(stacked, target, textOf))
    stacked = stackedModule(stacked, group);
  return stacked;
}

/** A product that can be one of several side by side. */
interface Product {
  readonly call: Call;
  /** Its columns: positions of the weights, and the innermost of the output. */
  readonly column: Index;
  /** Buffers that differ from product to product, weights and biases, and which dimension of them is the column. */
  readonly parts: ReadonlyMap<Buffer, number>;
}

/** The first products that can be stacked. */
function groupIn(module: Module, target: Target, textOf: (kernel: Kernel) => string): Product[] | undefined {
  const uses = new Map<string, number>();
  for (const { inputs } of module.calls) for (const v of inputs) uses.set(v, (uses.get(v) ?? 0) + 1);
  const outputs = new Set(module.outputs.map((o) => o.value));
  const readers = readersOf(module);
  const groups = new Map<string, Product[]>();
  for (const call of module.calls) {
    const product = productOf(call, module, target);
    if (!product) continue;
    const { kernel, inputs } = call;
    const isOwn = (b: Buffer, n: number): boolean =>
      !product.parts.has(b) || (module.constants.has(inputs[n]!) && uses.get(inputs[n]!) === 1);
    const [value] = call.outputs;
    const isFree = !outputs.has(value!) && kernel.inputs.every(isOwn);
    const seen = (readers.get(value!) ?? []).every((b) => splitOf(b, product.column.extent) !== undefined);
    if (!isFree || !seen) continue;
    const shared = inputs.filter((_, n) => !product.parts.has(kernel.inputs[n]!));
    const key = JSON.stringify([textOf(kernel), ...shared]);
    groups.set(key, [...(groups.get(key) ?? []), product]);
  }
  return [...groups.values()].find((group) => group.length > 1 && fits(group));
}

/** The buffers under which calls read each value. */
function readersOf({ calls }: Module): Map<string, Buffer[]> {
  const buffers = new Map<string, Buffer[]>();
  for (const { kernel, inputs } of calls)
    inputs.forEach((v, n) => void buffers.set(v, [...(buffers.get(v) ?? []), kernel.inputs[n]!]));
  return buffers;
}

/** True if no buffer of the product of all becomes larger than buffers may be. */
const fits = (group: readonly Product[]): boolean => {
  const [{ call, parts }] = group as [Product];
  return [...parts.keys(), ...call.kernel.outputs].every(
    ({ shape }) => elementCount(shape) * group.length <= maxElements,
  );
};

/** The call as a product by constant weights, if one index runs over its columns wherever it tells products apart. */
function productOf(call: Call, module: Module, target: Target): Product | undefined {
  const convolution = convolutionOf(call, module, target);
  if (!convolution) return undefined;
  const { weights, contraction } = convolution;
  const [column, ...others] = weights.positions.filter((i) => i.extent > 1);
  if (!column || others.length > 0) return undefined;
  const { store } = contraction;
  const isAligned = (b: Buffer): boolean => (column.extent * dtypes[b.dtype].bytes) % 16 === 0;
  const last = store.buffer.shape.findLastIndex((extent) => extent > 1);
  if (columnOf(store.buffer, store.at, column) !== last || !isAligned(store.buffer)) return undefined;
  const loads = loadsIn([store.value]);
  const alongColumns = new Set(
    loads.filter((l) => affinesOf(l).some((a) => indicesOf(a).has(column))).map((l) => l.buffer),
  );
  const parts = new Map<Buffer, number>();
  for (const l of loads) {
    if (!alongColumns.has(l.buffer)) continue;
    const d = columnOf(l.buffer, affinesOf(l), column);
    if (d === undefined || (parts.get(l.buffer) ?? d) !== d || !isAligned(l.buffer)) return undefined;
    parts.set(l.buffer, d);
  }
  let isCounted = false;
  visitExprs([store.value], (e) => void (isCounted ||= e.kind === 'index' && indicesOf(e.value).has(column)));
  return isCounted ? undefined : { call, column, parts };
}

/** The coordinates of a load; a gathered one stands as a constant. */
const affinesOf = ({ at }: Load): Affine[] => at.map((c) => ('affine' in c ? c.affine : affine(0)));

/** The dimension whose coordinate is the index, which runs over all of it; undefined if there is none, or another has it too. */
function columnOf(buffer: Buffer, at: readonly Affine[], column: Index): number | undefined {
  const having = at.flatMap((a, d) => (indicesOf(a).has(column) ? [d] : []));
  const [d] = having;
  const isColumn = d !== undefined && having.length === 1 && asIndex(at[d]!) === column;
  return isColumn && buffer.shape[d] === column.extent ? d : undefined;
}

/** The dimension of a view from which on it holds the columns and nothing else. */
function splitOf({ shape }: TensorType, columns: number): number | undefined {
  const d = shape.findLastIndex((_, from) => elementCount(shape.slice(from)) === columns);
  return d < 0 ? undefined : d;
}

/** The module with one call in the place of the first of the group, and all readers of the results reading that. */
function stackedModule(module: Module, group: readonly Product[]): Module {
  const [first] = group as [Product];
  const { call, column, parts } = first;
  const types = new Map<string, TensorType>(module.types);
  const constants = new Map(module.constants);
  const added = (base: string, { dtype, shape }: TensorType): string => {
    let name = base;
    while (types.has(name)) name += "'";
    types.set(name, { dtype, shape });
    return name;
  };

  const columns: Index = { ...column, extent: column.extent * group.length };
  const wide = (b: Buffer, d: number): Buffer =>
    makeBuffer(
      b.name,
      b.dtype,
      b.shape.map((extent, n) => (n === d ? extent * group.length : extent)),
    );
  const [output] = call.kernel.outputs as [Buffer];
  const last = output.shape.findLastIndex((extent) => extent > 1);
  const kernel = remapKernel(call.kernel, {
    index: (i) => (i === column ? columns : i),
    buffer: memoised((b) => (b === output ? wide(b, last) : parts.has(b) ? wide(b, parts.get(b)!) : b)),
  });
  const inputs = call.inputs.map((value, n) => {
    const d = parts.get(call.kernel.inputs[n]!);
    if (d === undefined) return value;
    const values = group.map((p) => p.call.inputs[n]!);
    const { shape } = call.kernel.inputs[n]!;
    const tensor = sideBySide(
      values.map((v) => constants.get(v)!),
      shape,
      d,
    );
    for (const v of values) {
      constants.delete(v);
      types.delete(v);
    }
    const name = added(`${value}.stacked`, tensor);
    constants.set(name, tensor);
    return name;
  });
  const made = group.map((p) => p.call.outputs[0]!);
  for (const v of made) types.delete(v);
  const result = added(`${made[0]}.stacked`, kernel.outputs[0]!);
  const loc = [...new Set(group.flatMap((p) => p.call.kernel.loc))];
  const product: Call = {
    kernel: { ...kernel, name: `${kernel.name}_x${group.length}`, loc },
    inputs,
    outputs: [result],
  };
  const calls = module.calls.flatMap((c) => {
    if (c === call) return [product];
    return group.some((p) => p.call === c) ? [] : [readingParts(c, made, result, column.extent)];
  });
  return { ...module, types, constants, calls };
}

/** Constants, each seen under `shape`, joined along a dimension. */
function sideBySide(tensors: readonly Tensor[], shape: readonly number[], d: number): Tensor {
  const [{ dtype }] = tensors as [Tensor];
  const run = elementCount(shape.slice(d));
  const data = makeArray(dtype, elementCount(shape) * tensors.length);
  const from = tensors.map((t) => t.data);
  for (let start = 0, to = 0; to < data.length; start += run)
    for (const source of from) {
      data.set(source.subarray(start, start + run) as never, to);
      to += run;
    }
  return makeTensor(
    dtype,
    shape.map((extent, n) => (n === d ? extent * tensors.length : extent)),
    data,
  );
}

/** The call with what it reads of `made` read from `result`, whose rows have those of all of them side by side, `columns` each. */
function readingParts(call: Call, made: readonly string[], result: string, columns: number): Call {
  if (!call.inputs.some((v) => made.includes(v))) return call;
  // Parts that are seen under one shape are one buffer.
  const views: Buffer[] = [];
  const inputs: { value: string; buffer: Buffer }[] = [];
  const moved = new Map<Buffer, { view: Buffer; split: number; part: number }>();
  call.kernel.inputs.forEach((b, n) => {
    const value = call.inputs[n]!;
    const part = made.indexOf(value);
    if (part < 0) {
      inputs.push({ value, buffer: b });
      return;
    }
    const split = splitOf(b, columns)!;
    const shape = b.shape.toSpliced(split, 0, made.length);
    let view = views.find((v) => sameShape(v.shape, shape));
    if (!view) {
      views.push((view = makeBuffer(b.name, b.dtype, shape)));
      inputs.push({ value: result, buffer: view });
    }
    moved.set(b, { view, split, part });
  });
  const partOf = (load: Load): Load => {
    const to = moved.get(load.buffer);
    if (!to) return load;
    const part: Coordinate = { affine: affine(to.part) };
    return { ...load, buffer: to.view, at: load.at.toSpliced(to.split, 0, part) };
  };
  const go = rewriter({ node: (e) => (e.kind === 'load' ? partOf(e) : e) });
  const { kernel } = call;
  return {
    ...call,
    inputs: inputs.map((i) => i.value),
    kernel: {
      ...kernel,
      inputs: inputs.map((i) => i.buffer),
      stores: kernel.stores.map((s) => ({ ...s, value: go(s.value) })),
    },
  };
}
