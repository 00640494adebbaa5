/**
 * @file What the demo prints: progress while kernels compile, tables, times.
 */
import { SingleBar } from 'cli-progress';
import type { ProgramStats, Progress } from '../index.ts';

/** Shows how compiling goes on: a bar on a terminal, otherwise a line every few seconds. */
export interface ProgressDisplay {
  readonly onProgress: (p: Progress) => void;
  stop(): void;
}

export function showProgress(label: string): ProgressDisplay {
  return process.stderr.isTTY ? progressBar(label) : progressLines(label);
}

function progressBar(label: string): ProgressDisplay {
  const bar = new SingleBar({
    format: `${label} {bar} {value}/{total} kernels, {cached} from the cache`,
    clearOnComplete: true,
    stream: process.stderr,
  });
  let started = false;
  return {
    onProgress({ done, total, cached }) {
      if (!started) bar.start(total, done, { cached });
      started = true;
      bar.update(done, { cached });
    },
    stop() {
      if (started) bar.stop();
    },
  };
}

function progressLines(label: string): ProgressDisplay {
  let last = Date.now();
  return {
    onProgress({ done, total, cached }) {
      if (Date.now() - last < 5000) return;
      last = Date.now();
      console.log(`${label}: ${done}/${total} kernels, ${cached} from the cache`);
    },
    stop() {},
  };
}

/** Where a program's kernels came from. */
export function describeCode({ compiled, cached, shipped }: ProgramStats): string {
  const parts = [`${compiled} compiled now`, `${cached} from the cache`];
  if (shipped > 0) parts.push(`${shipped} shipped with their models`);
  return parts.join(', ');
}

/** Rows in columns; numbers belong on the right, so those columns are named in `right`. */
export function table(rows: readonly (readonly string[])[], right: readonly number[] = []): string {
  const columns = rows[0]?.length ?? 0;
  const widths = Array.from({ length: columns }, (_, c) => Math.max(...rows.map((r) => r[c]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, c) => (right.includes(c) ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!)))
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `  ${line}`)
    .join('\n');
}

export const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
export const milliseconds = (ms: number): string => `${ms.toFixed(ms < 10 ? 2 : 1)} ms`;
export const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
