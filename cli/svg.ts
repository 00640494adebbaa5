/**
 * @file What pictures written as SVG share.
 */

/** Told apart also by those who see no red and green (Okabe and Ito). */
const colours = ['#d55e00', '#0072b2', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#8c6bb1', '#5b5b5b'];

/** The n-th colour; those after the first few go round the circle of hues. */
export const colourOf = (n: number): string =>
  colours[n] ?? `hsl(${Math.round(n * 137.508) % 360},${n % 2 === 0 ? 75 : 45}%,${[38, 52, 64][n % 3]}%)`;

/** Round numbers from 0 to at least `most`, some five steps apart. */
export function ticks(most: number): number[] {
  // So little that a fifth of it may be nothing, too.
  if (!(most > 1e-300)) return [0, 1];
  const rough = most / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((s) => s * power >= rough)!;
  const count = Math.ceil(most / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, n) => Number((n * step).toPrecision(12)));
}

/** Text as XML holds it; what XML has no place for is left out. */
const escaped = (text: string): string =>
  text
    .replace(/[\p{Control}\p{Surrogate}\ufffe\uffff]/gu, '')
    .replace(/[&<>"']/g, (c) => `&#${c.codePointAt(0)};`);

export const formatTick = (n: number): string => n.toLocaleString('en-US', { maximumFractionDigits: 6 });

/** A text element; `at` and `more` are its attributes. */
export const svgText = (at: string, content: string, more = ''): string =>
  `<text ${at}${more && ` ${more}`}>${escaped(content)}</text>`;

/** A file of these elements on white. The title is for those who do not see it. */
export const svgFile = (
  { width, height, title }: { readonly width: number; readonly height: number; readonly title: string },
  elements: readonly string[],
): string =>
  [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13" fill="#222">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    ...elements,
    '</svg>',
    '',
  ].join('\n');
