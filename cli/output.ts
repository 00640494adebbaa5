/**
 * @file What the command prints: progress, tables, errors in one line, and JSON for machines.
 */
import { writeFile } from 'node:fs/promises';
import cliProgress from 'cli-progress';
import { CommanderError } from 'commander';
import { InputError } from '../compiler/errors.ts';
import type { Progress } from '../driver/code.ts';
import { TargetError } from '../ir/target.ts';
import { PassError } from '../passes/index.ts';
import { CacheError } from '../runtime/cache.ts';
import { RequestError } from '../runtime/tenants.ts';
import { MissingToolchain } from '../runtime/toolchain.ts';

export { median } from '../runtime/turns.ts';

/** Exit codes: the input or its use was at fault; or the work itself failed. */
export const exitCodes = { ok: 0, failure: 1, badUse: 2 } as const;

/** A progress bar on a terminal, nothing elsewhere (logs stay readable). Goes to stderr, so that stdout is the result alone. */
export function progressBar(label: string): {
  readonly update: (p: Progress) => void;
  readonly stop: () => void;
} {
  if (!process.stderr.isTTY) return { update: () => {}, stop: () => {} };
  let bar: cliProgress.SingleBar | undefined;
  return {
    update({ done, total, cached, name }) {
      if (!bar) {
        bar = new cliProgress.SingleBar({
          format: `${label} {bar} {value}/{total} ({cached} cached) {name}`,
          stream: process.stderr,
          hideCursor: true,
          clearOnComplete: true,
        });
        bar.start(total, 0, { cached, name });
      }
      bar.update(done, { cached, name });
    },
    stop: () => bar?.stop(),
  };
}

/** Writes a file that was asked for: a text, or one in pieces. Throws InputError if it cannot be written. */
export async function writeResult(path: string, content: string | Iterable<string>): Promise<void> {
  try {
    await writeFile(path, content);
  } catch (error) {
    throw new InputError(`cannot write ${path}: ${(error as NodeJS.ErrnoException).code ?? error}`);
  }
}

/** Aligned columns; numbers to the right. */
export function table(rows: readonly (readonly (string | number)[])[]): string {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, c) => void (widths[c] = Math.max(widths[c] ?? 0, String(cell).length)));
  return rows
    .map((row) =>
      row
        .map((cell, c) =>
          typeof cell === 'number' ? String(cell).padStart(widths[c]!) : cell.padEnd(widths[c]!),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Milliseconds with as many digits as mean something. */
export function formatMs(ms: number): string {
  if (ms < 0.1) return `${(ms * 1000).toFixed(1)} µs`;
  return `${ms < 999.5 ? ms.toPrecision(3) : ms.toFixed(0)} ms`;
}

/** Work that failed for the reasons that the message gives, a line each. */
export class Failure extends Error {
  override readonly name = 'Failure';
}

const badUses = [InputError, RequestError, PassError, TargetError];
const failures = [Failure, MissingToolchain, CacheError];

const isStackOverflow = (e: Error): boolean =>
  e instanceof RangeError && e.message === 'Maximum call stack size exceeded';
const tooDeep =
  'a kernel is nested too deeply: too many of its operations need one another, in one long chain';

/** Prints an error as one clear line (each refused node on its own), with the stack if asked, and gives the exit code. */
export function reportError(error: unknown, verbose: boolean): number {
  // Commander has already printed its own message, and help is no error.
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.badUse;
  const e = error instanceof Error ? error : new Error(String(error));
  // Not every RangeError: the engine throws its own, for a full stack and for lengths that no array has.
  const isBadUse = badUses.some((kind) => e instanceof kind);
  const isExpected = isBadUse || failures.some((kind) => e instanceof kind) || isStackOverflow(e);
  const [first, ...rest] = (isStackOverflow(e) ? tooDeep : e.message).split('\n');
  const hint = isExpected || verbose ? '' : ' (--verbose shows where)';
  console.error(`wideword: ${first}${hint}`);
  for (const line of isExpected || verbose ? rest : []) console.error(`          ${line}`);
  if (verbose && e.stack) console.error(e.stack);
  return isBadUse ? exitCodes.badUse : exitCodes.failure;
}
