/**
 * @file How errors look, and that no text, however broken, gives anything but errors with a place.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ParseError, parse } from '../../../ir/parse/index.ts';
import { printKernel } from '../../../ir/print.ts';
import { anyKernel } from '../arbitraries.ts';

const messageOf = (text: string): string => {
  try {
    parse(text, 'a.ir');
  } catch (error) {
    return (error as Error).message;
  }
  return '';
};

it('shows the line with a caret under the token', () => {
  const text = [
    'kernel @k(%x0: f32[8]) -> (%y0: f32[8])',
    '    parallel (i: 8) {',
    '\t%0 = load %x0[i] f32',
    '  %1 = frob %0 : f32',
    '  store %y0[i = %0',
    '}',
  ].join('\r\n');
  expect(messageOf(text)).toMatchInlineSnapshot(`
    "a.ir:3:19: error: expected ':', found 'f32'
     3 |  %0 = load %x0[i] f32
       |                   ^^^
    a.ir:5:15: error: expected ']', found '='
     5 |   store %y0[i = %0
       |               ^"
  `);
  expect(messageOf(text.replace('] f32', '] : f32').replace('[i =', '[i] ='))).toMatchInlineSnapshot(`
    "a.ir:4:8: error: there is no operation 'frob'
     4 |   %1 = frob %0 : f32
       |        ^^^^"
  `);
});

it('a text that is cut, or has a token changed, gives errors with places inside of it', () => {
  const tokens = ['kernel', '(', '}', '%0', '->', '1.5', '"', '@', '\\', 'mod', '-', '='];
  fc.assert(
    fc.property(
      anyKernel(),
      fc.nat(),
      fc.constantFrom('', ...tokens),
      fc.boolean(),
      (kernel, at, put, cut) => {
        const text = printKernel(kernel);
        const n = at % text.length;
        const broken = text.slice(0, n) + put + (cut ? '' : text.slice(n + 1));
        const lines = broken.split('\n');
        try {
          parse(broken);
        } catch (error) {
          expect(error).toBeInstanceOf(ParseError);
          for (const { span } of (error as ParseError).diagnostics) {
            expect(span.line >= 1 && span.line <= lines.length).toBe(true);
            expect(span.column >= 1 && span.column <= lines[span.line - 1]!.length + 1).toBe(true);
          }
        }
      },
    ),
    { numRuns: 1500 },
  );
});

it('deep nesting is an error, not the end', () => {
  const deep = `${'('.repeat(20000)}i${' mod 2)'.repeat(20000)}`;
  const text = `kernel @k() -> (%y0: i32[1]) parallel (i: 1) { %0 = index ${deep} : i32 store %y0[0] = %0 }`;
  expect(messageOf(text)).toMatch(/nested too deeply/);
});
