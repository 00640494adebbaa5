/**
 * @file Texts of the IR as the command reads them: from a file or standard input, checked, with every error at its place.
 */
import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { InputError } from '../compiler/errors.ts';
import { readModelFile } from '../driver/model.ts';
import { type Item, itemProblems } from '../ir/item.ts';
import { formatDiagnostic, ParseError, type ParseResult, parse, type Span } from '../ir/parse/index.ts';
import type { Target } from '../ir/target.ts';

/** Errors in a text: each with its place, its line and a caret. */
export class TextError extends InputError {
  override readonly name = 'TextError';

  constructor(
    readonly errors: readonly { readonly message: string; readonly span?: Span }[],
    source: string,
    file: string,
  ) {
    const lines = errors.map(({ message, span }) =>
      span ? formatDiagnostic({ message, span }, source, file) : `${file}: error: ${message}`,
    );
    super(lines.join('\n'));
  }
}

/** The text of a file; `-` is standard input. Throws InputError for bytes that are no text: to the parser each would be an error. */
export async function readText(path: string): Promise<string> {
  const bytes = path === '-' ? readFileSync(0) : Buffer.from(await readModelFile(path));
  if (bytes.includes(0) || !isUtf8(bytes)) {
    const hint = path.endsWith('.onnx') ? '; give an ONNX model to dump, or to run without --interpret' : '';
    throw new InputError(
      `${path === '-' ? '<stdin>' : path}: not a text: expected the IR, such as dump --stage kernel prints${hint}`,
    );
  }
  return bytes.toString('utf8');
}

/** Reads and verifies a text. Throws TextError with every error of the parser, or else of the verifier. */
export function readItems(source: string, file: string, target?: Target): Item[] {
  let result: ParseResult;
  try {
    result = parse(source, file);
  } catch (error) {
    if (error instanceof ParseError) throw new TextError(error.diagnostics, source, file);
    throw error;
  }
  const errors = result.items.flatMap((item) =>
    itemProblems(item, target).map(({ text, at }) => {
      const span = result.spans.get(at) ?? result.spans.get(contentOf(item));
      return { message: text, ...(span && { span }) };
    }),
  );
  if (errors.length > 0) throw new TextError(errors, source, file);
  return [...result.items];
}

/** What an item is about; a problem without a place of its own is shown there. */
function contentOf(item: Item): object {
  switch (item.kind) {
    case 'kernel':
      return item.kernel;
    case 'module':
      return item.module;
    case 'program':
      return item.program;
    default:
      return item satisfies never;
  }
}
