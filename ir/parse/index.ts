/**
 * @file Reads the text of the IR. What print gives, this reads back to the same; what is wrong is reported all at once.
 */
import type { IRecognitionException, IToken } from 'chevrotain';
import type { Item } from '../item.ts';
import type { Kernel, Schedules } from '../kernel.ts';
import type { Module } from '../module.ts';
import type { Program } from '../program.ts';
import { buildKernel } from './build_kernel.ts';
import { buildModule } from './build_module.ts';
import { buildProgram } from './build_program.ts';
import { buildSchedules } from './build_schedule.ts';
import { Reader } from './build_types.ts';
import { byPlace, type Diagnostic, ParseError, type Span } from './diagnostics.ts';
import { Grammar } from './grammar_program.ts';
import { lexer } from './lexer.ts';

export { type Diagnostic, formatDiagnostic, ParseError, type Span } from './diagnostics.ts';

export interface ParseResult {
  readonly items: readonly Item[];
  /** Where kernels, nodes, stores, calls, tasks, words and slots stand in the text. */
  readonly spans: ReadonlyMap<object, Span>;
}

let made: Grammar | undefined;

/** The grammar, about to read the tokens. */
function grammarOf(tokens: IToken[]): Grammar {
  made ??= new Grammar();
  made.input = tokens;
  made.tooLarge.length = 0;
  return made;
}

/** Reads a text. Throws ParseError with every error found; `file` stands in messages. */
export function parse(source: string, file = '<text>'): ParseResult {
  const { tokens, errors: lexical } = lexer.tokenize(source);
  const grammar = grammarOf(tokens);
  const diagnostics: Misread[] = lexical.map(({ message, line, column, length }) => ({
    message,
    span: { line: line ?? 1, column: column ?? 1, length },
  }));
  const reader = new Reader();
  const items: Item[] = [];
  try {
    const asts = grammar.file();
    diagnostics.push(...grammar.errors.map((e) => syntaxError(e, source)));
    reader.diagnostics.push(...grammar.tooLarge);
    // Tokens that the lexer dropped would be missed in what is built.
    if (lexical.length === 0) for (const ast of asts ?? []) if (ast) push(items, build(ast, reader));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    diagnostics.push({ message: 'the text is nested too deeply', span: { line: 1, column: 1, length: 1 } });
  }
  const all = [...firstOfEachLine(diagnostics), ...reader.diagnostics];
  if (all.length > 0) throw new ParseError(all.sort(byPlace), source, file);
  return { items, spans: reader.spans };
}

function build(ast: NonNullable<ReturnType<Grammar['file']>[number]>, reader: Reader): Item | undefined {
  switch (ast.kind) {
    case 'kernel': {
      const kernel = buildKernel(ast, reader);
      return kernel && { kind: 'kernel', kernel };
    }
    case 'module': {
      const module = buildModule(ast, reader);
      return module && { kind: 'module', module };
    }
    case 'program': {
      const program = buildProgram(ast, reader);
      return program && { kind: 'program', program };
    }
    default:
      return ast satisfies never;
  }
}

const push = (items: Item[], item: Item | undefined): void => void (item && items.push(item));

/** An error, and the line that the token before it is on. */
interface Misread extends Diagnostic {
  readonly after?: number | undefined;
}

function syntaxError(e: IRecognitionException, source: string): Misread {
  const { token, previousToken } = e as IRecognitionException & { readonly previousToken?: IToken };
  if (token.image !== '') {
    const span = { line: token.startLine!, column: token.startColumn!, length: token.image.length };
    return { message: e.message, span, after: previousToken?.endLine };
  }
  // The end of the text has no place of its own: right after the last token, or the start of an empty text.
  const line = previousToken?.endLine;
  const column = previousToken?.endColumn;
  if (line && column) return { message: e.message, span: { line, column: column + 1, length: 1 } };
  const lines = source.split('\n');
  return { message: e.message, span: { line: lines.length, column: lines.at(-1)!.length + 1, length: 1 } };
}

/**
 * After an error the rest of its line is read in confusion, up to the first token of the next: of what is reported there only the
 * first is told.
 */
function firstOfEachLine(diagnostics: readonly Misread[]): Diagnostic[] {
  const lines = new Set<number>();
  return [...diagnostics].sort(byPlace).filter(({ span, after }) => {
    const isFirst = !lines.has(span.line) && !lines.has(after ?? 0);
    lines.add(span.line);
    return isFirst;
  });
}

/** Reads a text of one kernel. */
export function parseKernel(source: string): Kernel {
  const [item, ...rest] = parse(source).items;
  if (item?.kind !== 'kernel' || rest.length > 0) throw new TypeError('the text is not one kernel');
  return item.kernel;
}

/** Reads a text of one module. */
export function parseModule(source: string): Module {
  const [item, ...rest] = parse(source).items;
  if (item?.kind !== 'module' || rest.length > 0) throw new TypeError('the text is not one module');
  return item.module;
}

/** Reads a text of one program. */
export function parseProgram(source: string): Program {
  const [item, ...rest] = parse(source).items;
  if (item?.kind !== 'program' || rest.length > 0) throw new TypeError('the text is not one program');
  return item.program;
}

/** Reads schedules as `formatSchedules` prints them; undefined if the text is none. */
export function parseSchedules(source: string): Schedules | undefined {
  const { tokens, errors } = lexer.tokenize(`schedule ${source}`);
  const grammar = grammarOf(tokens);
  const ast = grammar.schedules();
  if (errors.length + grammar.errors.length + grammar.tooLarge.length > 0) return undefined;
  const reader = new Reader();
  const schedules = buildSchedules(ast, reader);
  return reader.diagnostics.length > 0 ? undefined : schedules;
}
