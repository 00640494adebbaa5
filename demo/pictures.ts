/**
 * @file Pictures to the tensors that PaddleOCR's models read.
 */
import { readFileSync } from 'node:fs';
import { PNG } from 'pngjs';
import { makeTensor, type Tensor } from '../index.ts';

/** RGB, row by row, 0..255. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly pixels: Float32Array;
}

/** Height of a line of text for both models, and the widths that the demo compiles them for. */
export const lineHeight = 48;
export const recogniserWidth = 320;
export const directionWidth = 192;

/** Reads a PNG; what is transparent is laid on white. */
export function readPicture(file: string): Picture {
  const { width, height, data } = PNG.sync.read(readFileSync(file));
  const pixels = new Float32Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    const alpha = data[i * 4 + 3]! / 255;
    for (let c = 0; c < 3; c++) pixels[i * 3 + c] = 255 + alpha * (data[i * 4 + c]! - 255);
  }
  return { width, height, pixels };
}

/** Turns the picture by 180 degrees. */
export function turned({ width, height, pixels }: Picture): Picture {
  const out = new Float32Array(pixels.length);
  for (let from = 0, to = pixels.length - 3; to >= 0; from += 3, to -= 3) {
    out.set(pixels.subarray(from, from + 3), to);
  }
  return { width, height, pixels: out };
}

/** One output pixel's sources along an axis, and their weights. */
interface Taps {
  readonly first: number;
  readonly weights: readonly number[];
}

/** A triangle filter, as wide as a source pixel when growing and as an output pixel when shrinking. */
function taps(from: number, to: number): Taps[] {
  const scale = from / to;
  const reach = Math.max(1, scale);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale - 0.5;
    const first = Math.max(0, Math.ceil(centre - reach));
    const last = Math.min(from - 1, Math.floor(centre + reach));
    const raw = Array.from({ length: last - first + 1 }, (_, k) => 1 - Math.abs(first + k - centre) / reach);
    const sum = raw.reduce((a, b) => a + b, 0);
    return { first, weights: raw.map((w) => w / sum) };
  });
}

/** The picture at another size, filtered so that shrinking does not alias. */
export function resized(picture: Picture, width: number, height: number): Picture {
  const across = taps(picture.width, width);
  const down = taps(picture.height, height);
  const wide = new Float32Array(width * picture.height * 3);
  for (let y = 0; y < picture.height; y++) {
    across.forEach(({ first, weights }, x) => {
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        weights.forEach((w, k) => {
          sum += w * picture.pixels[(y * picture.width + first + k) * 3 + c]!;
        });
        wide[(y * width + x) * 3 + c] = sum;
      }
    });
  }
  const pixels = new Float32Array(width * height * 3);
  const row = width * 3;
  down.forEach(({ first, weights }, y) => {
    for (let i = 0; i < row; i++) {
      let sum = 0;
      weights.forEach((w, k) => {
        sum += w * wide[(first + k) * row + i]!;
      });
      pixels[y * row + i] = sum;
    }
  });
  return { width, height, pixels };
}

/**
 * A line of text as `f32[1,3,48,width]`: scaled to the height with its aspect kept (squeezed if it is too long),
 * blue first as the models were trained, -1..1, and zeros (middle grey) to the right of it.
 */
export function lineTensor(picture: Picture, width: number): Tensor {
  const used = Math.min(width, Math.ceil((lineHeight * picture.width) / picture.height));
  const { pixels } = resized(picture, used, lineHeight);
  const data = new Float32Array(3 * lineHeight * width);
  for (let y = 0; y < lineHeight; y++) {
    for (let x = 0; x < used; x++) {
      for (let c = 0; c < 3; c++) {
        data[(c * lineHeight + y) * width + x] = (pixels[(y * used + x) * 3 + 2 - c]! / 255 - 0.5) / 0.5;
      }
    }
  }
  return makeTensor('f32', [1, 3, lineHeight, width], data);
}
