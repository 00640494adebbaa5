/**
 * @file The C of a word: one function per kernel class in it, and an entry whose blocks find their slot in the table.
 */
import { match, P } from 'ts-pattern';
import { attentionOf } from '../ir/attention.ts';
import type { KernelClass } from '../ir/class.ts';
import { contractionOf } from '../ir/contraction.ts';
import type { Kernel } from '../ir/kernel.ts';
import { askedSharedBytes, attentionSharedBytes, mmaSharedBytes } from '../ir/mma.ts';
import type { Target } from '../ir/target.ts';
import { writeAttention } from './attention.ts';
import { writeContraction } from './contraction.ts';
import { writeMma } from './contraction_mma.ts';
import { withIdentifiers } from './identifiers.ts';
import { writeMap } from './map.ts';
import { preludeOf } from './prelude.ts';
import { writeReduction } from './reduction.ts';
import { KernelWriter } from './writer.ts';

/** Source of one word's code. */
export interface WordSource {
  readonly entry: string;
  readonly source: string;
  /** Threads a block. */
  readonly threads: number;
  /** Shared memory that a block asks for, in bytes, beside what the code declares. */
  readonly sharedBytes: number;
}

/** Emits the code of a word whose slots are of the given classes; a slot's `body` is its class's place in the list. */
export function emitWord(classes: readonly KernelClass[], target: Target): WordSource {
  const threads = Math.max(...classes.map((c) => scheduleOf(c.kernel).threads));
  const names = classes.map((c, n) =>
    classes.length === 1 ? identifier(c.kernel.name) : `${identifier(c.kernel.name)}_${n}`,
  );
  const bodies = classes.map((c, n) => emitBody(c, names[n]!));
  const entry = `word_${names.join('_')}`.slice(0, 120);
  const dispatch =
    classes.length === 1
      ? [`    run_${names[0]}(row, block);`]
      : [
          '    switch (row.body) {',
          ...names.map((name, n) => `      case ${n}: run_${name}(row, block); break;`),
          '    }',
        ];
  const main = [
    "// Each block finds its slot in the block map and strides over the slot's virtual blocks.",
    `extern "C" __global__ void __launch_bounds__(${threads}) ${entry}(const SlotRow* rows, const unsigned* block_slot) {`,
    '  const unsigned slot = block_slot[blockIdx.x];',
    '  if (slot == kIdleBlock) return;',
    '  const SlotRow& row = rows[slot];',
    '  for (unsigned block = row.begin + (blockIdx.x - row.first_block); block < row.end; block += row.blocks) {',
    ...dispatch,
    '  }',
    '}',
  ];
  return {
    entry,
    source: [preludeOf(target.kind), ...bodies, main.join('\n'), exported(entry, target), ''].join('\n'),
    threads,
    sharedBytes: Math.max(...classes.map((c) => sharedBytesOf(c.kernel))),
  };
}

/** On the host the pool calls a plain function with a range of blocks. */
function exported(entry: string, target: Target): string {
  if (target.kind === 'cuda') return '';
  return [
    `extern "C" void ${entry}_blocks(const SlotRow* rows, const unsigned* block_slot, unsigned first, unsigned last) {`,
    `  for (blockIdx.x = first; blockIdx.x < last; blockIdx.x++) ${entry}(rows, block_slot);`,
    '}',
  ].join('\n');
}

/** The name under which a word's code is found once loaded. */
export const entrySymbol = (entry: string, target: Target): string =>
  target.kind === 'cuda' ? entry : `${entry}_blocks`;

function emitBody(kernelClass: KernelClass, name: string): string {
  const w = new KernelWriter(withIdentifiers(kernelClass));
  match(scheduleOf(kernelClass.kernel))
    .with({ skeleton: 'map' }, (s) => writeMap(w, s))
    .with({ skeleton: 'reduction' }, (s) => writeReduction(w, s))
    .with({ skeleton: 'contraction' }, (s) => writeContraction(w, s))
    .with({ skeleton: 'mma' }, (s) => writeMma(w, s))
    .with({ skeleton: 'attention' }, (s) => writeAttention(w, s))
    .exhaustive();
  const meaning = kernelClass.text.split('\n').map((line) => `// ${line}`);
  return [
    ...meaning,
    `__device__ void run_${name}(const SlotRow& row, unsigned block) {`,
    ...w.lines,
    '}',
    '',
  ].join('\n');
}

function scheduleOf(kernel: Kernel): NonNullable<Kernel['schedule']> {
  if (!kernel.schedule) throw new Error(`kernel ${kernel.name} has no schedule: run the schedule pass first`);
  return kernel.schedule;
}

const sharedBytesOf = (kernel: Kernel): number =>
  match(scheduleOf(kernel))
    .with({ skeleton: 'mma' }, (s) => askedSharedBytes(mmaSharedBytes(contractionOf(kernel)!, s)))
    .with({ skeleton: 'attention' }, (s) => askedSharedBytes(attentionSharedBytes(attentionOf(kernel)!, s)))
    .with({ skeleton: P.union('map', 'reduction', 'contraction') }, () => 0)
    .exhaustive();

/** A kernel's name as C can have it. */
const identifier = (name: string): string => name.replace(/[^A-Za-z0-9_]/g, '_').slice(0, 60);
