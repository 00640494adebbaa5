/**
 * @file Messages of syntax errors: what was expected, what stands there.
 */
import { EOF, type IParserErrorMessageProvider, type IToken, type TokenType } from 'chevrotain';

const label = (t: TokenType): string =>
  t === EOF ? "'kernel', 'module', 'program' or the end of the text" : (t.LABEL ?? t.name);

const found = (t: IToken | undefined): string =>
  !t || t.image === ''
    ? 'the end of the text'
    : `'${t.image.length > 40 ? `${t.image.slice(0, 40)}…` : t.image}'`;

/** `a, b or c` of the distinct first tokens of some paths. */
function alternatives(paths: readonly (readonly TokenType[])[]): string {
  const names = [...new Set(paths.map((path) => path[0]).flatMap((t) => (t ? [label(t)] : [])))];
  const last = names.pop();
  return names.length > 0 ? `${names.join(', ')} or ${last}` : (last ?? 'something else');
}

export const messages: IParserErrorMessageProvider = {
  buildMismatchTokenMessage: ({ expected, actual }) => `expected ${label(expected)}, found ${found(actual)}`,
  buildNotAllInputParsedMessage: ({ firstRedundant }) =>
    `expected ${label(EOF)}, found ${found(firstRedundant)}`,
  buildNoViableAltMessage: ({ expectedPathsPerAlt, actual }) =>
    `expected ${alternatives(expectedPathsPerAlt.flat())}, found ${found(actual[0])}`,
  buildEarlyExitMessage: ({ expectedIterationPaths, actual }) =>
    `expected ${alternatives(expectedIterationPaths)}, found ${found(actual[0])}`,
};
