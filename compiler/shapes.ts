/**
 * @file Settles the shapes of a model's inputs: what the model says, what the caller says, and the rule that an open
 * leading dimension is a batch of one.
 */
import { dtypes, elementCount, type TensorType } from '../ir/types.ts';
import { InputError, quoted } from './errors.ts';
import type { Graph, GraphInput } from './graph.ts';

/** Shapes by input name. */
export type InputShapes = { readonly [input: string]: readonly number[] };

/** No tensor has more elements: offsets are 32-bit on devices. */
export const maxElements = 2 ** 31 - 1;

/**
 * The type of every graph input. A dimension that two inputs leave open under one name has one size, so it needs to
 * be given for one of them only.
 */
export function resolveInputs(graph: Graph, given: InputShapes): Map<string, TensorType> {
  const known = new Set(graph.inputs.map((i) => i.name));
  const stray = Object.keys(given).find((name) => !known.has(name));
  if (stray !== undefined) {
    throw new InputError(
      `${quoted(graph.name)} has no input ${quoted(stray)}; its inputs are ${[...known].map(quoted).join(', ')}`,
    );
  }
  const sizes = new Map<string, number>();
  for (const input of graph.inputs) {
    const shape = given[input.name];
    if (shape) bind(input, shape, sizes);
  }
  return new Map(graph.inputs.map((input) => [input.name, resolve(input, given[input.name], sizes)]));
}

/** Checks a given shape against the model's and notes the sizes of named dimensions. */
function bind(input: GraphInput, shape: readonly number[], sizes: Map<string, number>): void {
  const { name } = input;
  const wrong = (why: string) => new InputError(`shape [${shape}] for input ${quoted(name)}: ${why}`);
  if (shape.some((d) => !Number.isInteger(d) || d < 0)) throw wrong('sizes are whole numbers');
  if (input.unranked) return;
  if (shape.length !== input.shape.length) throw wrong(`the model has ${input.shape.length} dimensions`);
  input.shape.forEach((dim, d) => {
    const size = shape[d]!;
    if (typeof dim === 'number') {
      if (dim !== size) throw wrong(`the model fixes dimension ${d} to ${dim}`);
    } else if (dim !== '?') {
      const before = sizes.get(dim);
      if (before !== undefined && before !== size)
        throw wrong(`dimension ${quoted(dim)} is ${before} elsewhere`);
      sizes.set(dim, size);
    }
  });
}

function resolve(
  input: GraphInput,
  given: readonly number[] | undefined,
  sizes: Map<string, number>,
): TensorType {
  const { name, dtype } = input;
  if (input.unranked && !given) {
    throw new InputError(`input ${quoted(name)} has no shape in the model; give it: --shape ${name}=1,...`);
  }
  const dims =
    given ?? input.shape.map((d, i) => (typeof d === 'number' ? d : (sizes.get(d) ?? (i === 0 ? 1 : d))));
  const shape = dims.filter((d) => typeof d === 'number');
  if (shape.length < dims.length) {
    // The option is spelled out, with a letter for what only the user knows.
    const letters = dims.map((d, i) =>
      typeof d === 'number' ? d : `<${/^\w{1,12}$/.test(d) ? d : `size${i}`}>`,
    );
    throw new InputError(
      `input ${quoted(name)} leaves dimensions open: [${input.shape.map((d) => (typeof d === 'number' ? d : '?'))}]; ` +
        `give its shape: --shape ${name}=${letters.join(',')}`,
    );
  }
  if (elementCount(shape) * dtypes[dtype].bytes > maxElements) {
    throw new InputError(`input ${quoted(name)} of shape [${shape}] is too large`);
  }
  return { dtype, shape };
}
