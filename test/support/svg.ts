/** @file What tests of pictures share. */

/** Throws unless every element of an SVG is closed in order, attributes are quoted and text is escaped. */
export function checkWellFormed(svg: string): void {
  const open: string[] = [];
  const tag = /<(\/?)([a-z]+)((?: [a-zA-Z0-9-]+="[^"<]*")*)(\/?)>|([^<]+)/gy;
  while (tag.lastIndex < svg.length) {
    const at = tag.lastIndex;
    const found = tag.exec(svg);
    if (!found) throw new Error(`no XML: ${svg.slice(at, at + 60)}`);
    const [, closes, name, , empty, text] = found;
    if (text !== undefined) {
      // biome-ignore lint/suspicious/noControlCharactersInRegex: those that XML has no place for.
      if (/&(?!#\d+;)|>|[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|\p{Surrogate}/u.test(text))
        throw new Error(`not escaped: ${text}`);
    } else if (closes) {
      if (open.pop() !== name) throw new Error(`</${name}> closes another element`);
    } else if (!empty) open.push(name!);
  }
  if (open.length > 0) throw new Error(`not closed: ${open.join(', ')}`);
}
