/**
 * @file What can be wrong with a text, and how it is shown: the place, the line, a caret under the token.
 */

/** A place in a text; lines and columns count from 1. */
export interface Span {
  readonly line: number;
  readonly column: number;
  readonly length: number;
}

export interface Diagnostic {
  readonly message: string;
  readonly span: Span;
}

/** `file:3:12: error: message`, then the line with a caret under the place. */
export function formatDiagnostic({ message, span }: Diagnostic, source: string, file: string): string {
  const { line, column } = span;
  // Tabs would put the caret elsewhere than it points.
  const text = (source.split('\n')[line - 1] ?? '').replace(/\r$/, '').replaceAll('\t', ' ');
  const number = String(line);
  const carets = '^'.repeat(Math.max(1, Math.min(span.length, text.length - column + 1)));
  return [
    `${file}:${line}:${column}: error: ${message}`,
    ` ${number} | ${text}`,
    ` ${' '.repeat(number.length)} | ${' '.repeat(column - 1)}${carets}`,
  ].join('\n');
}

/** In reading order. */
export const byPlace = (a: Diagnostic, b: Diagnostic): number =>
  a.span.line - b.span.line || a.span.column - b.span.column;

/** A text that is not the IR, with every error found in it. */
export class ParseError extends Error {
  override readonly name = 'ParseError';

  constructor(
    readonly diagnostics: readonly Diagnostic[],
    readonly source: string,
    readonly file: string,
  ) {
    super(diagnostics.map((d) => formatDiagnostic(d, source, file)).join('\n'));
  }
}
