/**
 * @file The texts that stand before every emitted kernel, read from codegen/prelude/.
 */
import { readFileSync } from 'node:fs';
import type { Target } from '../ir/target.ts';

const read = (name: string): string => readFileSync(new URL(`./prelude/${name}`, import.meta.url), 'utf8');

let texts: { readonly [K in Target['kind']]: string } | undefined;

/** Everything an emitted kernel needs for a target; it includes no file of CUDA's. */
export function preludeOf(kind: Target['kind']): string {
  if (!texts) {
    const common = [read('slot.h'), read('scalar.h')];
    // The device's own part comes first where it defines what the common part is written with.
    texts = {
      cuda: [
        ...common,
        ...['cuda.h', 'share.h', 'block.h', 'vector.h', 'mma.h', 'warpgroup.h', 'attention.h'].map(read),
      ].join('\n'),
      host: [read('host.h'), ...common, read('share.h')].join('\n'),
    };
  }
  return texts[kind];
}
