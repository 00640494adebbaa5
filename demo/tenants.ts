/**
 * @file The demo's tenants: who asks for what, and how to say what a tenant was answered.
 */
import { compileModel, type Model, type Tensor } from '../index.ts';
import { type GalleryPicture, gallery, picturePath } from './gallery.ts';
import { directionFile, recogniserFile, wakeModelFile } from './models.ts';
import {
  directionWidth,
  lineHeight,
  lineTensor,
  type Picture,
  readPicture,
  recogniserWidth,
} from './pictures.ts';
import { type WakeWord, wakeWords } from './wake_words.ts';

interface TenantBase {
  readonly name: string;
  readonly model: Model;
}

/** One picture's text, and which way up it lies. */
export interface Reader extends TenantBase {
  readonly kind: 'reader';
  readonly shown: GalleryPicture;
  readonly picture: Picture;
}
export interface Classifier extends TenantBase {
  readonly kind: 'direction';
  readonly shown: GalleryPicture;
  readonly picture: Picture;
}
/** One wake word. */
export interface Listener extends TenantBase {
  readonly kind: 'wake word';
  readonly word: WakeWord;
}
export type DemoTenant = Reader | Classifier | Listener;

export interface Cast {
  readonly readers: readonly Reader[];
  readonly classifiers: readonly Classifier[];
  readonly listeners: readonly Listener[];
}

/** Reads the models and gives every picture a reader and a direction classifier, every wake word a listener. */
export async function castTenants(): Promise<Cast> {
  const [reading, directing] = await Promise.all([
    compileModel(recogniserFile(), { shapes: { x: [1, 3, lineHeight, recogniserWidth] } }),
    compileModel(directionFile(), { shapes: { x: [1, 3, lineHeight, directionWidth] } }),
  ]);
  const pictures = gallery.map((shown) => ({ shown, picture: readPicture(picturePath(shown)) }));
  return {
    readers: pictures.map((p) => ({ kind: 'reader', name: `read ${p.shown.name}`, model: reading, ...p })),
    classifiers: pictures.map((p) => ({
      kind: 'direction',
      name: `turn ${p.shown.name}`,
      model: directing,
      ...p,
    })),
    listeners: await Promise.all(
      wakeWords.map(async (word): Promise<Listener> => {
        const model = await compileModel(wakeModelFile(word.model));
        return { kind: 'wake word', name: `hear ${word.name}`, model, word };
      }),
    ),
  };
}

/** A request as Wideword takes it: every model of the demo has one input. */
export const request = ({ model }: TenantBase, input: Tensor): Record<string, Tensor> => ({
  [model.inputs[0]!.name]: input,
});

/** The answer: every model of the demo has one output. */
export function answer(
  { name, model }: TenantBase,
  outputs: Readonly<Record<string, Tensor>> | undefined,
): Tensor {
  const tensor = outputs?.[model.outputs[0]!.name];
  if (!tensor) throw new Error(`no output for the tenant '${name}'`);
  return tensor;
}

export const readerInput = (picture: Picture): Tensor => lineTensor(picture, recogniserWidth);
export const classifierInput = (picture: Picture): Tensor => lineTensor(picture, directionWidth);
