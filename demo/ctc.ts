/**
 * @file What a text recogniser's output says: greedy CTC decoding.
 */
import { readFileSync } from 'node:fs';
import { type Tensor, toNumbers } from '../index.ts';

/** Class `i` of the recogniser; class 0 is the blank that separates equal characters. */
export type Alphabet = readonly string[];

/** Reads PaddleOCR's list of keys, one a line; the models have a blank before them and a space after. */
export function readAlphabet(file: string): Alphabet {
  const keys = readFileSync(file, 'utf8')
    .replace(/\r?\n$/, '')
    .split(/\r?\n/);
  return ['', ...keys, ' '];
}

export interface Reading {
  readonly text: string;
  /** Mean probability of the characters read, 0..1; 0 if there are none. */
  readonly confidence: number;
}

/** Decodes probabilities `[1, steps, classes]`: the best class of each step, repeats and blanks dropped. */
export function decode(probabilities: Tensor, alphabet: Alphabet): Reading {
  const [, steps = 0, classes = 0] = probabilities.shape;
  if (classes !== alphabet.length) {
    throw new RangeError(`the recogniser has ${classes} classes, the alphabet ${alphabet.length}`);
  }
  const p = toNumbers(probabilities);
  let text = '';
  let sum = 0;
  let count = 0;
  let previous = 0;
  for (let t = 0; t < steps; t++) {
    let best = 0;
    for (let k = 1; k < classes; k++) if (p[t * classes + k]! > p[t * classes + best]!) best = k;
    if (best !== 0 && best !== previous) {
      text += alphabet[best];
      sum += p[t * classes + best]!;
      count++;
    }
    previous = best;
  }
  return { text, confidence: count === 0 ? 0 : sum / count };
}

export interface Direction {
  readonly degrees: 0 | 180;
  readonly confidence: number;
}

/** What a direction classifier's `[1, 2]` says: the probabilities of 0 and of 180 degrees. */
export function direction(probabilities: Tensor): Direction {
  const [upright = 0, over = 0] = toNumbers(probabilities);
  return over > upright ? { degrees: 180, confidence: over } : { degrees: 0, confidence: upright };
}
