/**
 * @file The demo's rounds: what is asked in them, what was answered, and whether that is right.
 */
import type { Program, Tensor } from '../index.ts';
import { type Direction, decode, direction, type Reading, readAlphabet } from './ctc.ts';
import { alphabetFile } from './models.ts';
import { turned } from './pictures.ts';
import { percent } from './report.ts';
import type { Room } from './sound.ts';
import {
  answer,
  type Cast,
  type Classifier,
  classifierInput,
  type Listener,
  type Reader,
  readerInput,
  request,
} from './tenants.ts';
import { headInput, score } from './wake_words.ts';

type Tensors = Readonly<Record<string, Tensor>>;
type ByTenant = Readonly<Record<string, Tensors>>;

/** Everybody's request: pictures as they lie, and what the rooms' microphones heard. */
export function firstRound(cast: Cast, features: ReadonlyMap<Room, Tensor>): ByTenant {
  const { readers, classifiers, listeners } = cast;
  return Object.fromEntries([
    ...readers.map((t) => [t.name, request(t, readerInput(t.picture))] as const),
    ...classifiers.map((t) => [t.name, request(t, classifierInput(t.picture))] as const),
    ...listeners.map((t) => {
      const lookBack = t.model.inputs[0]!.shape[1]!;
      return [t.name, request(t, headInput(features.get(t.word.room)!, lookBack))] as const;
    }),
  ]);
}

/**
 * Asks the readers again whose pictures lie upside down, turned; their requests are submitted one by one and share a
 * round all the same. Gives the readers' outputs, new or from the first round.
 */
export async function turnedRound(
  program: Program,
  cast: Cast,
  outputs: ByTenant,
): Promise<Map<Reader, Tensor>> {
  const results = cast.readers.map(async (reader, i): Promise<[Reader, Tensor]> => {
    const classifier = cast.classifiers[i]!;
    const { degrees } = direction(answer(classifier, outputs[classifier.name]));
    if (degrees === 0) return [reader, answer(reader, outputs[reader.name])];
    const again = await program.submit(reader.name, request(reader, readerInput(turned(reader.picture))));
    return [reader, answer(reader, again)];
  });
  return new Map(await Promise.all(results));
}

/** What a tenant was answered. */
export type Answer =
  | { readonly tenant: Reader; readonly reading: Reading }
  | { readonly tenant: Classifier; readonly direction: Direction }
  | { readonly tenant: Listener; readonly score: number };

export function answers(cast: Cast, outputs: ByTenant, texts: ReadonlyMap<Reader, Tensor>): Answer[] {
  const alphabet = readAlphabet(alphabetFile());
  return [
    ...cast.readers.map((tenant) => ({ tenant, reading: decode(texts.get(tenant)!, alphabet) })),
    ...cast.classifiers.map((tenant) => ({
      tenant,
      direction: direction(answer(tenant, outputs[tenant.name])),
    })),
    ...cast.listeners.map((tenant) => ({ tenant, score: score(answer(tenant, outputs[tenant.name])) })),
  ];
}

/** One row a tenant: kind, name, answer, how sure. */
export function rows(found: readonly Answer[]): string[][] {
  return found.map((a) => {
    const { kind, name } = a.tenant;
    if ('reading' in a) return [kind, name, a.reading.text, percent(a.reading.confidence)];
    if ('direction' in a) return [kind, name, `${a.direction.degrees}°`, percent(a.direction.confidence)];
    return [kind, name, a.score > 0.5 ? 'said' : 'not said', `score ${a.score.toFixed(4)}`];
  });
}

/** What is not as the gallery says, a line each. */
export function failures(found: readonly Answer[]): string[] {
  return found.flatMap((a) => {
    if ('reading' in a) {
      const { name, shown } = a.tenant;
      return a.reading.text === shown.text
        ? []
        : [`${name} says '${a.reading.text}', expected '${shown.text}'`];
    }
    if ('direction' in a) {
      const expected = a.tenant.shown.upsideDown ? 180 : 0;
      const { degrees } = a.direction;
      return degrees === expected ? [] : [`${a.tenant.name} says ${degrees}°, expected ${expected}°`];
    }
    return a.score <= 0.5 ? [] : [`${a.tenant.name} scores ${a.score.toFixed(4)} for a sound without speech`];
  });
}
