/**
 * @file Models that the project makes itself, by name: the layers of well-known networks with seeded random weights. What they compute
 * means nothing; what it takes to compute it is that of the real ones.
 *
 *     generate('resnet50', 1)                        an ONNX file's bytes
 *     generate('bert-base', 2, { layers: 2 })        scaled down
 */
import { InputError } from '../compiler/errors.ts';
import { buildModel, type GraphSpec } from '../compiler/onnx/writer.ts';
import { bert, bertSizes, mlp, mlpSizes, sgemm, sgemmSizes } from './matrices.ts';
import { mobilenetV2, resnet, squeezenet, vgg11, visionSizes } from './vision.ts';

type SizeValues = { readonly [size: string]: number };

interface Recipe {
  readonly doc: string;
  /** The published network's. */
  readonly sizes: SizeValues;
  readonly graph: (seed: number, sizes: SizeValues) => GraphSpec;
  /** Integer inputs are below this. */
  readonly integers?: (sizes: SizeValues) => number;
}

/** A recipe whose sizes the type checker follows. */
const recipe = <S extends { readonly [K in keyof S]: number }>(
  doc: string,
  sizes: S,
  graph: (seed: number, sizes: S) => GraphSpec,
  integers?: (sizes: S) => number,
): Recipe => ({ doc, sizes, graph, ...(integers && { integers }) }) as unknown as Recipe;

const recipes = {
  resnet18: recipe('ResNet-18', visionSizes, (seed, s) => resnet([2, 2, 2, 2], false, seed, s)),
  resnet34: recipe('ResNet-34', visionSizes, (seed, s) => resnet([3, 4, 6, 3], false, seed, s)),
  resnet50: recipe('ResNet-50', visionSizes, (seed, s) => resnet([3, 4, 6, 3], true, seed, s)),
  mobilenetv2: recipe('MobileNetV2', visionSizes, mobilenetV2),
  'squeezenet1.1': recipe('SqueezeNet 1.1', visionSizes, squeezenet),
  vgg11: recipe('VGG-11', visionSizes, vgg11),
  'bert-base': recipe('BERT-base, sequence 128', bertSizes, bert, (s) => s.vocabulary),
  mlp: recipe('4 fully connected layers of 1024', mlpSizes, mlp),
  sgemm: recipe('a matrix product, 256x128x1152', sgemmSizes, sgemm),
} satisfies { readonly [name: string]: Recipe };

export type ModelName = keyof typeof recipes;

/** The names, each with what it is and its sizes. */
export const generated: { readonly [name: string]: Pick<Recipe, 'doc' | 'sizes'> } = recipes;

/** A generated model as a text names it: `resnet18`, or with other sizes than the published `resnet18:size=64,width=16`. */
export interface ModelRecipe {
  readonly name: ModelName;
  readonly sizes: SizeValues;
  /** Integer inputs are from 0 up to this, not included. */
  readonly integers: number;
}

/** Reads such a text; undefined if it does not begin with a known name. Throws InputError for sizes that the model has not. */
export function parseRecipe(text: string): ModelRecipe | undefined {
  const [name, rest] = text.split(/:(.*)/s) as [string, string?];
  if (!Object.hasOwn(recipes, name)) return undefined;
  const known: Recipe = recipes[name as ModelName];
  const given = (rest ?? '').split(',').filter((part) => part !== '');
  const sizes = { ...known.sizes };
  for (const part of given) {
    const [, size, value] = /^(\w+)=([1-9]\d{0,5})$/.exec(part) ?? [];
    if (size === undefined || !Object.hasOwn(sizes, size))
      throw new InputError(
        `${text}: '${part}' is none of the sizes of ${name}: ${Object.entries(known.sizes)
          .map(([s, n]) => `${s}=${n}`)
          .join(', ')}`,
      );
    sizes[size] = Number(value);
  }
  return { name: name as ModelName, sizes, integers: known.integers?.(sizes) ?? 10 };
}

/** The bytes of a model, the same for the same seed and sizes. Throws InputError for sizes that do not go together. */
export function generate(name: ModelName, seed: number, sizes: SizeValues = {}): Uint8Array {
  const known: Recipe = recipes[name];
  try {
    return buildModel(known.graph(seed, { ...known.sizes, ...sizes }));
  } catch (error) {
    if (error instanceof RangeError) throw new InputError(`${name}: ${error.message}`);
    throw error;
  }
}
