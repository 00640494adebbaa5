/**
 * @file The C of a word: one function per kernel class in it, and an entry whose blocks find their slot in the table.
 */
import { match, P } from 'ts-pattern';
import { attentionOf } from '../ir/attention.ts';
import type { KernelClass } from '../ir/class.ts';
import { contractionOf } from '../ir/contraction.ts';
import type { Kernel } from '../ir/kernel.ts';
import { attentionSharedBytes, mmaBlocksHeld, mmaSharedBytes } from '../ir/mma.ts';
import { tileSharedBytes } from '../ir/simt.ts';
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
  /** Shared memory that a block needs at launch, in bytes: the most that a body does. */
  readonly sharedBytes: number;
}

/** Emits the code of a word whose slots are of the given classes; a slot's `body` is its class's place in the list. */
export function emitWord(classes: readonly KernelClass[], target: Target): WordSource {
  const threads = Math.max(...classes.map((c) => scheduleOf(c.kernel).threads));
  const names = classes.map((c, n) =>
    classes.length === 1 ? identifier(c.kernel.name) : `${identifier(c.kernel.name)}_${n}`,
  );
  // The pool of the host runs one word after the other.
  const overlaps = target.kind === 'cuda';
  const bodies = classes.map((c, n) => emitBody(c, names[n]!, overlaps));
  const definitions = new Set(bodies.flatMap((b) => [...b.definitions]));
  const entry = `word_${names.join('_')}`.slice(0, 120);
  const stride = (name: string): string =>
    `for (unsigned block = share.first; block < share.end; block += share.step) run_${name}(row, block);`;
  const dispatch =
    classes.length === 1
      ? [`  ${stride(names[0]!)}`]
      : [
          '  switch (share.body) {',
          ...classes.flatMap((c, n) => [
            `    case ${n}:`,
            ...leaving(c, threads),
            `      ${stride(names[n]!)}`,
            '      break;',
          ]),
          '  }',
        ];
  const main = [
    "// Each block finds its slot and strides over the slot's virtual blocks.",
    `extern "C" __global__ void __launch_bounds__(${boundsOf(classes, threads, target)}) ${entry}(WORD_LAUNCH launch) {`,
    ...(overlaps ? ['  if (launch.eager) let_next_word_begin();'] : []),
    '  const Share share = share_of(launch, blockIdx.x);',
    overlaps
      ? '  if (share.first >= share.end) return await_word_before();'
      : '  if (share.first >= share.end) return;',
    '  const SlotRow& row = launch.rows[share.row];',
    '  note_begin(launch, share.row);',
    ...dispatch,
    '  note_end(launch);',
    '}',
  ];
  return {
    entry,
    source: [
      preludeOf(target.kind),
      ...definitions,
      ...bodies.map((b) => b.text),
      main.join('\n'),
      exported(entry, target),
      '',
    ].join('\n'),
    threads,
    sharedBytes: target.kind === 'host' ? 0 : Math.max(...classes.map((c) => sharedBytesOf(c.kernel))),
  };
}

/** Threads of a block, and blocks that a multiprocessor should hold where the compiler would else take registers for fewer. */
function boundsOf(classes: readonly KernelClass[], threads: number, target: Target): string {
  const [only, ...others] = classes;
  const schedule = scheduleOf(only!.kernel);
  if (others.length > 0 || schedule.skeleton !== 'mma') return `${threads}`;
  const held = mmaBlocksHeld(contractionOf(only!.kernel)!, schedule, target);
  return held > 1 ? `${threads}, ${held}` : `${threads}`;
}

/** Threads that a body has no work for leave; barriers wait for those that are there. */
function leaving({ kernel }: KernelClass, threads: number): string[] {
  const own = scheduleOf(kernel).threads;
  return own < threads ? [`      if (threadIdx.x >= ${own}) return;`] : [];
}

/** On the host the pool calls a plain function with a range of blocks. */
function exported(entry: string, target: Target): string {
  if (target.kind === 'cuda') return '';
  return [
    `extern "C" void ${entry}_blocks(const WordLaunch& launch, unsigned first, unsigned last, unsigned unit) {`,
    '  this_unit = unit;',
    `  for (blockIdx.x = first; blockIdx.x < last; blockIdx.x++) ${entry}(launch);`,
    '}',
  ].join('\n');
}

/** The name under which a word's code is found once loaded. */
export const entrySymbol = (entry: string, target: Target): string =>
  target.kind === 'cuda' ? entry : `${entry}_blocks`;

/** The function of one class, and what it needs before it. */
function emitBody(
  kernelClass: KernelClass,
  name: string,
  overlaps: boolean,
): { readonly text: string; readonly definitions: ReadonlySet<string> } {
  // Products on tensor cores have something to do before they wait.
  const awaits = overlaps && scheduleOf(kernelClass.kernel).skeleton !== 'mma';
  const w = new KernelWriter(withIdentifiers(kernelClass), awaits);
  match(scheduleOf(kernelClass.kernel))
    .with({ skeleton: 'map' }, (s) => writeMap(w, s))
    .with({ skeleton: 'reduction' }, (s) => writeReduction(w, s))
    .with({ skeleton: 'contraction' }, (s) => writeContraction(w, s))
    .with({ skeleton: 'mma' }, (s) => writeMma(w, s))
    .with({ skeleton: 'attention' }, (s) => writeAttention(w, s))
    .exhaustive();
  const meaning = kernelClass.text.split('\n').map((line) => `// ${line}`);
  const text = [
    ...meaning,
    `__device__ void run_${name}(const SlotRow& row, unsigned block) {`,
    ...w.lines,
    '}',
    '',
  ].join('\n');
  return { text, definitions: w.definitions };
}

function scheduleOf(kernel: Kernel): NonNullable<Kernel['schedule']> {
  if (!kernel.schedule) throw new Error(`kernel ${kernel.name} has no schedule: run the schedule pass first`);
  return kernel.schedule;
}

const sharedBytesOf = (kernel: Kernel): number =>
  match(scheduleOf(kernel))
    .with({ skeleton: 'mma' }, (s) => mmaSharedBytes(contractionOf(kernel)!, s))
    .with({ skeleton: 'attention' }, (s) => attentionSharedBytes(attentionOf(kernel)!, s))
    .with({ skeleton: 'contraction' }, (s) => tileSharedBytes(contractionOf(kernel)!, s))
    .with({ skeleton: P.union('map', 'reduction') }, () => 0)
    .exhaustive();

/** A kernel's name as C can have it. */
const identifier = (name: string): string => name.replace(/[^A-Za-z0-9_]/g, '_').slice(0, 60);
