/**
 * @file Names for emitted C. Those of a kernel may be any text, as whoever wrote the IR or exported the model pleased; what is emitted
 * must be identifiers, and none that the code around them uses.
 */
import type { Index } from '../ir/affine.ts';
import { classOf, type KernelClass } from '../ir/class.ts';
import type { Buffer } from '../ir/kernel.ts';
import { indicesOfKernel } from '../ir/print.ts';
import { memoised, remapKernel } from '../ir/remap.ts';
import { preludeOf } from './prelude.ts';

const keywords = `alignas alignof and asm auto bool break case catch char class concept const consteval constexpr constinit continue
  decltype default delete do double else enum explicit export extern false final float for friend goto if import inline int long module
  mutable namespace new noexcept not nullptr operator or override private protected public register requires return short signed sizeof
  static struct switch template this throw true try typedef typeid typename union unsigned using virtual void volatile wchar while xor`;

let taken: ReadonlySet<string> | undefined;

/** True if emitted code gives the name a meaning of its own: a word of C++, or a name of the prelude or the C library. */
export function isTaken(name: string): boolean {
  if (!taken) {
    const names = (['cuda', 'host'] as const).flatMap((kind) =>
      [...preludeOf(kind).matchAll(/([A-Za-z_]\w*)\s*\(|(k[A-Z]\w*)/g)].map((m) => m[1] ?? m[2]!),
    );
    taken = new Set([...names, ...keywords.split(/\s+/)]);
  }
  // Types of the prelude end in _t, float functions of the C library in f.
  return taken.has(name) || /_t$|^[a-z]{3,5}f$/.test(name);
}

/** A name's letters and digits with single underscores between, from a letter on. */
const cleaned = (name: string): string => {
  const word = name
    .replace(/[^A-Za-z0-9]+/g, '_')
    .slice(0, 40)
    .replace(/_$/, '');
  return /^[A-Za-z]/.test(word) ? word : `i${word}`;
};

/** The same class on a kernel whose buffers are called by their places (`x0`, `y0`), as in the class's text, and indices by identifiers. */
export function withIdentifiers(kernelClass: KernelClass): KernelClass {
  const { kernel, tier } = kernelClass;
  const names = new Map<Buffer, string>([
    ...kernel.inputs.map((b, n) => [b, `x${n}`] as const),
    ...kernel.outputs.map((b, n) => [b, `y${n}`] as const),
  ]);
  // Names that lowering gave need no change, and finding the class again takes as long as it did at first.
  const isClean =
    [...names].every(([b, name]) => b.name === name) &&
    indicesOfKernel(kernel).every((i) => i.name === cleaned(i.name));
  if (isClean) return kernelClass;
  const index = memoised((i: Index): Index => ({ ...i, name: cleaned(i.name) }));
  const buffer = memoised((b: Buffer): Buffer => ({ ...b, name: names.get(b)! }));
  return { ...classOf(remapKernel(kernel, { index, buffer }), tier), key: kernelClass.key };
}
