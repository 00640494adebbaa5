/**
 * @file What all builders share: where they report, and types.
 */
import { type DType, dtypes, type TensorType } from '../types.ts';
import type { Name, TypeAst } from './ast.ts';
import type { Diagnostic, Span } from './diagnostics.ts';

/** Where a builder reports errors and notes the places of what it makes. */
export class Reader {
  readonly diagnostics: Diagnostic[] = [];
  /** The places of kernels, nodes, values, tasks, words and slots: where the verifier's errors point. */
  readonly spans = new Map<object, Span>();

  report(span: Span, message: string): void {
    this.diagnostics.push({ span, message });
  }

  /** The result, or undefined if anything was reported in the course of it. */
  whole<T>(build: () => T): T | undefined {
    const before = this.diagnostics.length;
    const result = build();
    return this.diagnostics.length === before ? result : undefined;
  }
}

/** True if the text is a key of the table: one of its own, not `constructor` and the like. */
export const isOneOf = <T extends object>(table: T, text: string): text is Extract<keyof T, string> =>
  Object.hasOwn(table, text);

export function dtypeOf(name: Name, reader: Reader): DType | undefined {
  if (isOneOf(dtypes, name.text)) return name.text;
  reader.report(
    name.span,
    `no element type '${name.text}': expected one of ${Object.keys(dtypes).join(', ')}`,
  );
  return undefined;
}

/** The type; f32 in place of an element type that was reported. */
export const typeOf = (ast: TypeAst, reader: Reader): TensorType => ({
  dtype: dtypeOf(ast.dtype, reader) ?? 'f32',
  shape: ast.shape.map((d) => d.value),
});
