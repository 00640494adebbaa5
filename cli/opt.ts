/**
 * @file `wideword opt`: passes on texts of the IR, one by one.
 */
import { InputError } from '../compiler/errors.ts';
import { asRead, type Item, itemProblems, printItems } from '../ir/item.ts';
import { type Target, targetOf } from '../ir/target.ts';
import { type Pass, parsePasses, passes, runPass } from '../passes/index.ts';
import { readItems, readText } from './ir_text.ts';
import { exitCodes, Failure, formatMs, table } from './output.ts';

export interface OptOptions {
  readonly pass: string;
  readonly target?: string;
  readonly printAfterAll: boolean;
  readonly verifyEach: boolean;
  readonly time: boolean;
  readonly list: boolean;
}

/** Where pieces of output go; tests collect them. */
export interface Streams {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

const defaultTarget = 'sm_90';

export async function opt(path: string | undefined, options: OptOptions): Promise<number> {
  const streams: Streams = {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
  };
  if (options.list) {
    streams.out(`${listPasses()}\n`);
    return exitCodes.ok;
  }
  if (path === undefined) throw new InputError('opt needs a file, or - for standard input');
  return optText(await readText(path), path === '-' ? '<stdin>' : path, options, streams);
}

export const listPasses = (): string =>
  table(
    Object.entries<Pass>(passes).map(([name, { argument, doc }]) => [
      argument === undefined
        ? name
        : argument.startsWith('[')
          ? `${name}[=${argument.slice(1)}`
          : `${name}=${argument}`,
      doc,
    ]),
  );

/** Runs passes on a text. The result is verified as the text was; what is printed reads back. */
export function optText(source: string, file: string, options: OptOptions, { out, err }: Streams): number {
  const steps = parsePasses(options.pass);
  const limits = options.target === undefined ? undefined : targetOf(options.target);
  const target = targetOf(options.target ?? defaultTarget);
  let items = readItems(source, file, limits);
  const format = asRead(items);
  const times: [string, string][] = [];
  for (const [n, step] of steps.entries()) {
    const start = performance.now();
    items = runPass(step, items, target);
    times.push([step.name, formatMs(performance.now() - start)]);
    if (options.verifyEach || n === steps.length - 1) verifyAfter(step.name, items, limits);
    if (options.printAfterAll) err(`; after ${step.name}\n${printItems(items, format)}\n`);
  }
  out(printItems(items, format));
  if (options.time) err(`${table(times)}\n`);
  return exitCodes.ok;
}

function verifyAfter(pass: string, items: readonly Item[], target: Target | undefined): void {
  const problems = items.flatMap((item) => itemProblems(item, target)).map((p) => p.text);
  if (problems.length > 0)
    throw new Failure(`the verifier refuses what ${pass} made:\n${problems.join('\n')}`);
}
