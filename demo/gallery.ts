/**
 * @file The demo's pictures: what each one says and which way up it lies. What the demo reads is checked
 * against this list.
 */

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InputError } from '../index.ts';

export interface GalleryPicture {
  /** File name in demo/pictures, without `.png`. */
  readonly name: string;
  readonly text: string;
  readonly upsideDown: boolean;
}

export const gallery: readonly GalleryPicture[] = [
  { name: 'title', text: 'WIDE WORD', upsideDown: false },
  { name: 'door', text: 'TENANT 42', upsideDown: false },
  { name: 'invoice', text: 'INVOICE 2026-11-23', upsideDown: false },
  { name: 'greeting', text: 'Hello world', upsideDown: false },
  { name: 'meter', text: '0731.85', upsideDown: false },
  { name: 'crate', text: 'THIS SIDE UP', upsideDown: true },
  { name: 'ticket', text: 'PLATFORM 9', upsideDown: true },
  { name: 'sign', text: 'OPEN 08:30', upsideDown: false },
];

/**
 * The folder with the committed pictures. The build writes no copy of them, so the folder is looked for upwards
 * both from the sources and from `dist`.
 */
export function picturesFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const pictures = join(folder, 'demo', 'pictures');
    if (existsSync(pictures)) return pictures;
    const parent = dirname(folder);
    if (parent === folder)
      throw new InputError('demo/pictures is missing: draw it with npx tsx demo/draw.ts');
    folder = parent;
  }
}

export const picturePath = (picture: GalleryPicture): string => join(picturesFolder(), `${picture.name}.png`);
