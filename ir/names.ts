/**
 * @file How names are spelled in the text of the IR: bare where they look like a name, else quoted, so that whatever a model calls
 * its nodes and values reads back.
 */

/** Words with a meaning of their own where a bare name may stand. */
export const keywords = [
  'arena',
  'at',
  'blocks',
  'call',
  'class',
  'const',
  'constant',
  'elided',
  'floordiv',
  'for',
  'generic',
  'index',
  'from',
  'inf',
  'input',
  'kernel',
  'load',
  'loc',
  'mod',
  'model',
  'module',
  'nan',
  'of',
  'output',
  'over',
  'pad',
  'parallel',
  'program',
  'range',
  'reduce',
  'schedule',
  'scratch',
  'sizes',
  'slot',
  'specialised',
  'store',
  'target',
  'task',
  'tenant',
  'value',
  'weights',
  'word',
  'yield',
] as const;

export type Keyword = (typeof keywords)[number];

const reserved: ReadonlySet<string> = new Set(keywords);
const bareWord = /^[A-Za-z_]\w*$/;
const bareSymbol = /^[A-Za-z_][\w.$]*$/;
// Control and format characters (a right-to-left mark, say) and line separators would change how a dump looks.
const unprintable = /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu;

/** A string as a JSON literal on one line, in printable characters. */
export const quote = (text: string): string =>
  JSON.stringify(text).replace(unprintable, (c) =>
    [...Array(c.length).keys()].map((n) => `\\u${c.charCodeAt(n).toString(16).padStart(4, '0')}`).join(''),
  );

/** `@conv`, `%x0`, or with quotes: `%"a/b:0"`. */
export const symbol = (sigil: '@' | '%', name: string): string =>
  sigil + (bareSymbol.test(name) ? name : quote(name));

/** An index's name: bare, unless it is a keyword or no word. */
export const word = (name: string): string =>
  bareWord.test(name) && !reserved.has(name) ? name : quote(name);

/** Names that occur once stay; others get #1, #2, …, but for those that something else is called. */
export function numbered(names: readonly string[]): string[] {
  const total = new Map<string, number>();
  for (const name of names) total.set(name, (total.get(name) ?? 0) + 1);
  const taken = new Set(names.filter((name) => total.get(name) === 1));
  const last = new Map<string, number>();
  return names.map((name) => {
    if (total.get(name) === 1) return name;
    let n = (last.get(name) ?? 0) + 1;
    while (taken.has(`${name}#${n}`)) n++;
    last.set(name, n);
    taken.add(`${name}#${n}`);
    return `${name}#${n}`;
  });
}

/** Gives each thing a name of its own: as it is called, with a number where another had the name before. */
export function uniqueNames<T extends object>(nameOf: (thing: T) => string): (thing: T) => string {
  const names = new Map<T, string>();
  const taken = new Set<string>();
  return (thing) => {
    let name = names.get(thing);
    if (name === undefined) {
      const base = nameOf(thing);
      name = base;
      for (let n = 2; taken.has(name); n++) name = `${base}_${n}`;
      taken.add(name);
      names.set(thing, name);
    }
    return name;
  };
}
