/**
 * @file The tokens of the IR's text.
 */
import { createToken, Lexer, type TokenType } from 'chevrotain';
import { type Keyword, keywords } from '../names.ts';

const string = '"(?:[^"\\\\\\r\\n]|\\\\.)*"';
const pattern = (source: string): RegExp => new RegExp(source);

export const Identifier = createToken({ name: 'Identifier', label: 'a name', pattern: /[A-Za-z_]\w*/ });
export const Text = createToken({ name: 'Text', label: 'a quoted name', pattern: pattern(string) });
/** A value or a buffer: `%3`, `%x0`, `%"a/b"`. */
export const Value = createToken({
  name: 'Value',
  label: "a value such as '%x0'",
  pattern: pattern(`%(?:\\d+|[A-Za-z_][\\w.$]*|${string})`),
});
/** A kernel, a class or a word: `@conv`. */
export const Symbol_ = createToken({
  name: 'Symbol',
  label: "a name such as '@conv'",
  pattern: pattern(`@(?:[A-Za-z_][\\w.$]*|${string})`),
});
/** A NaN that is not the usual one, by its bits. */
export const NanBits = createToken({ name: 'NanBits', label: 'a number', pattern: /nan:0x[0-9a-f]+/ });
/** The size of a tile. */
export const Extents = createToken({
  name: 'Extents',
  label: "sizes such as '64x64'",
  pattern: /\d+(?:x\d+)+/,
});
export const Float = createToken({
  name: 'Float',
  label: 'a number',
  pattern: /\d+(?:\.\d+(?:[eE][+-]?\d+)?|[eE][+-]?\d+)/,
});
export const Integer = createToken({ name: 'Integer', label: 'a whole number', pattern: /\d+/ });

const punctuation = {
  Arrow: '->',
  Dots: '..',
  LeftParen: '(',
  RightParen: ')',
  LeftSquare: '[',
  RightSquare: ']',
  LeftBrace: '{',
  RightBrace: '}',
  Comma: ',',
  Colon: ':',
  Equals: '=',
  Plus: '+',
  Minus: '-',
  Star: '*',
} as const;

type Punctuation = keyof typeof punctuation;

/** Punctuation by name. */
export const p = Object.fromEntries(
  Object.entries(punctuation).map(([name, text]) => [
    name,
    createToken({ name, label: `'${text}'`, pattern: text }),
  ]),
) as { readonly [P in Punctuation]: TokenType };

/** Keywords by themselves. */
export const k = Object.fromEntries(
  keywords.map((word) => [
    word,
    createToken({ name: `keyword ${word}`, label: `'${word}'`, pattern: word, longer_alt: Identifier }),
  ]),
) as { readonly [W in Keyword]: TokenType };

const space = createToken({ name: 'space', pattern: /\s+/, group: Lexer.SKIPPED, line_breaks: true });
const comment = createToken({ name: 'comment', pattern: /;[^\n]*/, group: Lexer.SKIPPED });

/** Longer tokens stand before those that they begin with. */
export const tokens: TokenType[] = [
  space,
  comment,
  Text,
  Value,
  Symbol_,
  NanBits,
  Extents,
  Float,
  Integer,
  ...Object.values(p),
  // `module` before `mod`, which would otherwise take its first letters.
  ...Object.values(k).sort((a, b) => b.name.length - a.name.length),
  Identifier,
];

export const lexer = new Lexer(tokens, {
  ensureOptimizations: false,
  errorMessageProvider: {
    buildUnexpectedCharactersMessage: (text, offset, length) => {
      const found = text.slice(offset, offset + length).split(/\s/)[0]!;
      return /^[%@]?"/.test(found) ? 'this name has no closing quote' : `unexpected '${found}'`;
    },
    buildUnableToPopLexerModeMessage: () => 'unexpected end of a mode',
  },
});
