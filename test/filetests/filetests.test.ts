/**
 * @file Runs every test/filetests/**.ir and every example of docs/ir.md. The first lines of a file say what to do:
 *
 *     ; run: opt --pass fuse,coalesce     or  ; run: run --interpret --seed 3
 *     ; target: sm_90                     (optional)
 *     ; check: text that must occur, or /a regular expression/; several, in this order
 *     ; check-not: text that must not occur
 *
 * The whole output may stand at the end of the file instead, after a line `; expect:`; `BLESS=1 npx vitest run test/filetests` writes
 * it. With neither, the output must be the input, byte for byte, comments aside. An error stands on the line that it is reported on
 * (`… ; error: text`), or on a line by itself if it has no place; then nothing else may be wrong.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { lines as formatResults, interpretItem } from '../../cli/interpret.ts';
import { readItems, TextError } from '../../cli/ir_text.ts';
import { optText } from '../../cli/opt.ts';
import { scalarOps } from '../../ir/ops.ts';

const folder = import.meta.dirname;
const expectMark = '; expect:\n';

interface FileTest {
  readonly input: string;
  readonly run: readonly string[];
  readonly target?: string;
  readonly checks: readonly { readonly text: string; readonly line: string }[];
  readonly checksNot: readonly string[];
  readonly errors: readonly { readonly text: string; readonly line?: number }[];
  readonly expected?: string;
}

function parseTest(source: string): FileTest {
  const at = source.indexOf(`\n${expectMark}`);
  const input = at < 0 ? source : source.slice(0, at + 1);
  const inputLines = input.split('\n');
  const header = (name: string): string[] =>
    inputLines.flatMap((l) => (l.startsWith(`; ${name}: `) ? [l.slice(name.length + 4)] : []));
  const [run = 'opt'] = header('run');
  const [target] = header('target');
  const errors = inputLines.flatMap((l, n) =>
    l
      .split(/; error: /)
      .slice(1)
      .map((text) => ({ text: text.trim(), ...(l.startsWith(';') ? {} : { line: n + 1 }) })),
  );
  return {
    input,
    run: run.split(' ').filter((word) => word !== ''),
    ...(target !== undefined && { target }),
    checks: header('check').map((text) => ({ text, line: `; check: ${text}` })),
    checksNot: header('check-not'),
    errors,
    ...(at >= 0 && { expected: source.slice(at + 1 + expectMark.length) }),
  };
}

/** Runs what the file says, on its text without the expected output. */
function output(test: FileTest, file: string): string {
  const [command, ...args] = test.run;
  const option = (name: string, otherwise: string): string => {
    const n = args.indexOf(name);
    return n < 0 ? otherwise : args[n + 1]!;
  };
  if (command === 'run') {
    const items = readItems(test.input, file);
    const results = items.flatMap((item, n) => interpretItem(item, Number(option('--seed', '1')) + n));
    return `${formatResults(results, Number(option('--top', '5')))}\n`;
  }
  if (command !== 'opt') throw new Error(`; run: ${command}: expected opt or run --interpret`);
  const printed: string[] = [];
  optText(
    test.input,
    file,
    {
      pass: option('--pass', ''),
      ...(test.target !== undefined && { target: test.target }),
      printAfterAll: args.includes('--print-after-all'),
      verifyEach: true,
      time: false,
      list: false,
    },
    { out: (text) => void printed.push(text), err: (text) => void printed.push(text) },
  );
  return printed.join('');
}

/** The input without what is for this test only. */
const withoutComments = (input: string): string =>
  input
    .split('\n')
    .filter((l) => !l.trimStart().startsWith(';'))
    .join('\n')
    .replace(/^\n+/, '');

function checkErrors(test: FileTest, file: string): void {
  let found: readonly { readonly message: string; readonly line?: number }[] = [];
  try {
    output(test, file);
  } catch (error) {
    found =
      error instanceof TextError
        ? error.errors.map(({ message, span }) => ({ message, ...(span && { line: span.line }) }))
        : [{ message: (error as Error).message }];
  }
  const left = [...found];
  for (const { text, line } of test.errors) {
    const n = left.findIndex((f) => f.message.includes(text) && (line === undefined || f.line === line));
    expect(n, `expected on line ${line ?? '?'}: ${text}\ngot: ${JSON.stringify(found, null, 1)}`).not.toBe(
      -1,
    );
    left.splice(n, 1);
  }
  expect(left, 'errors that the file does not expect').toEqual([]);
}

function checkOutput(test: FileTest, got: string): void {
  let from = 0;
  for (const { text, line } of test.checks) {
    const rest = got.slice(from);
    const pattern = /^\/(.*)\/$/.exec(text)?.[1];
    const found = pattern === undefined ? rest.indexOf(text) : rest.search(new RegExp(pattern, 'm'));
    expect(found, `${line}\nnot found in\n${rest}`).not.toBe(-1);
    const length = pattern === undefined ? text.length : new RegExp(pattern, 'm').exec(rest)![0].length;
    from += found + length;
  }
  for (const text of test.checksNot) expect(got).not.toContain(text);
}

function runTest(source: string, file: string): void {
  const test = parseTest(source);
  if (test.errors.length > 0) return checkErrors(test, file);
  const got = output(test, file);
  checkOutput(test, got);
  if (test.expected !== undefined) expect(got).toBe(test.expected);
  else if (test.checks.length + test.checksNot.length === 0)
    expect(withoutComments(got)).toBe(withoutComments(test.input));
}

describe('filetests', () => {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.ir'));
  for (const file of files.sort()) {
    it(file, () => {
      const path = join(folder, file);
      const source = readFileSync(path, 'utf8');
      const test = parseTest(source);
      if (process.env.BLESS && test.expected !== undefined && test.errors.length === 0)
        writeFileSync(path, test.input + expectMark + output(test, file));
      runTest(readFileSync(path, 'utf8'), file);
    });
  }
});

describe('docs/ir.md', () => {
  const path = join(folder, '../../docs/ir.md');
  const page = readFileSync(path, 'utf8');
  const examples = [...page.matchAll(/^```ir\n([\s\S]*?)^```$/gm)];
  it('has examples', () => expect(examples.length).toBeGreaterThan(10));
  for (const example of examples) {
    const line = page.slice(0, example.index).split('\n').length;
    it(`line ${line}`, () => runTest(example[1]!, `docs/ir.md:${line}`));
  }

  it('lists the operations', () => {
    const rows = Object.entries(scalarOps).map(
      ([name, { arity, takes, gives, doc }]) =>
        `| \`${name}\` | ${arity} | ${takes} | ${gives === 'same' ? 'that type' : gives} | ${doc} |`,
    );
    const table = [
      '| operation | operands | of type | gives | |',
      '| --- | --- | --- | --- | --- |',
      ...rows,
    ];
    const section = /(?<=<!-- operations -->\n)[\s\S]*?(?=\n<!-- end of operations -->)/;
    if (process.env.BLESS)
      writeFileSync(
        path,
        page.replace(section, () => table.join('\n')),
      );
    expect(section.exec(readFileSync(path, 'utf8'))?.[0]).toBe(table.join('\n'));
  });
});
