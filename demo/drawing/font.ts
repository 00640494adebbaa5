/**
 * @file A stroke font of our own: every glyph is a few pen strokes, so pictures with text can be drawn anywhere
 * without a font file.
 *
 * The grid has y downwards, capitals from 0 to 10, x-height at 3.6, descenders to 13. Strokes are separated by
 * `;`. A stroke is a row of points `x,y` and arcs `@cx,cy,rx,ry,from,to` (degrees, 0 right, 90 down), which the
 * pen joins by straight lines.
 */

export type Point = readonly [x: number, y: number];

const lowerBowl = '@2.6,6.8,2.6,3.2,0,360';

const strokesOf: Readonly<Record<string, string>> = {
  A: '0,10 3.5,0 7,10; 1.2,6.6 5.8,6.6',
  B: '0,4.7 3.4,4.7 @3.4,7.35,2.8,2.65,-90,90 0,10 0,0 3.1,0 @3.1,2.35,2.5,2.35,-90,90 0,4.7',
  C: '@3.8,5,3.8,5,-48,-312',
  D: '0,0 0,10 2.6,10 @2.6,5,4,5,90,-90 0,0',
  E: '5.4,0 0,0 0,10 5.4,10; 0,4.8 4.6,4.8',
  F: '5.2,0 0,0 0,10; 0,4.9 4.4,4.9',
  G: '@3.8,5,3.8,5,-48,-318 6.6,5.4 4,5.4',
  H: '0,0 0,10; 6.4,0 6.4,10; 0,4.9 6.4,4.9',
  I: '0,0 0,10',
  J: '4.2,0 4.2,7.4 @2.1,7.4,2.1,2.6,0,165',
  K: '0,0 0,10; 6,0 0,6.2; 2.2,4.2 6.2,10',
  L: '0,0 0,10 5,10',
  M: '0,10 0,0 3.9,7.4 7.8,0 7.8,10',
  N: '0,10 0,0 6.6,10 6.6,0',
  O: '@3.9,5,3.9,5,0,360',
  P: '0,10 0,0 3.1,0 @3.1,2.75,2.7,2.75,-90,90 0,5.5',
  Q: '@3.9,5,3.9,5,0,360; 4.6,7.2 7.8,10.8',
  R: '0,10 0,0 3.1,0 @3.1,2.7,2.7,2.7,-90,90 0,5.4; 3,5.4 6.2,10',
  S: '@3,2.5,2.7,2.5,-30,-270 @3,7.45,3,2.55,-90,150',
  T: '0,0 6.6,0; 3.3,0 3.3,10',
  U: '0,0 0,6.8 @3.3,6.8,3.3,3.2,180,0 6.6,0',
  V: '0,0 3.5,10 7,0',
  W: '0,0 2.5,10 5,1.4 7.5,10 10,0',
  X: '0,0 6.4,10; 6.4,0 0,10',
  Y: '0,0 3.3,5.2 6.6,0; 3.3,5.2 3.3,10',
  Z: '0.2,0 6,0 0,10 6.2,10',
  a: '@2.6,6.8,2.6,3.2,0,360; 5.2,3.6 5.2,10',
  b: `0,0 0,10; ${lowerBowl}`,
  c: '@2.7,6.8,2.7,3.2,-45,-315',
  d: `5.2,0 5.2,10; ${lowerBowl}`,
  e: '0.1,6.5 5.2,6.5 @2.6,6.8,2.6,3.2,-5,-315',
  f: '3.4,0.2 @3.2,2,1.8,1.9,-85,-180 1.4,10; 0,3.7 3.2,3.7',
  g: `${lowerBowl}; 5.2,3.6 5.2,10.6 @2.7,10.6,2.5,2.4,0,150`,
  h: '0,0 0,10; 0,6.2 @2.4,6.2,2.4,2.6,-180,0 4.8,10',
  i: '0,3.7 0,10; 0,1 0,1.2',
  j: '1.6,3.7 1.6,11 @0,11,1.6,2,0,110; 1.6,1 1.6,1.2',
  k: '0,0 0,10; 4.4,3.7 0,7.6; 1.6,6.2 4.8,10',
  l: '0,0 0,10',
  m: '0,3.7 0,10; 0,5.8 @1.9,5.8,1.9,2.2,-180,0 3.8,10; 3.8,5.8 @5.7,5.8,1.9,2.2,-180,0 7.6,10',
  n: '0,3.7 0,10; 0,6.2 @2.4,6.2,2.4,2.6,-180,0 4.8,10',
  o: '@2.7,6.8,2.7,3.2,0,360',
  p: `0,3.6 0,13; ${lowerBowl}`,
  q: `5.2,3.6 5.2,13; ${lowerBowl}`,
  r: '0,3.7 0,10; 0,6 @2.2,6,2.2,2.3,-180,-60',
  s: '@2.2,5.2,2,1.6,-25,-270 @2.2,8.4,2.2,1.6,-90,155',
  t: '1.4,1.2 1.4,8 @3,8,1.6,2,-180,-280; 0,3.7 3.2,3.7',
  u: '0,3.7 0,7.4 @2.4,7.4,2.4,2.6,180,0 4.8,3.7; 4.8,7.4 4.8,10',
  v: '0,3.7 2.5,10 5,3.7',
  w: '0,3.7 1.9,10 3.8,4.4 5.7,10 7.6,3.7',
  x: '0,3.7 4.6,10; 4.6,3.7 0,10',
  y: '0,3.7 2.5,10; 5,3.7 2.5,10 1.2,13',
  z: '0.1,3.7 4.4,3.7 0,10 4.6,10',
  '0': '@2.9,5,2.9,5,0,360',
  '1': '0,2.2 2.6,0 2.6,10',
  '2': '@2.8,2.8,2.7,2.8,-170,35 0,10 5.8,10',
  '3': '@2.7,2.4,2.5,2.4,-155,90 @2.6,7.4,2.9,2.6,-90,150',
  '4': '4.6,10 4.6,0 0,7 6.2,7',
  '5': '5.2,0 0.9,0 0.4,4.6 @2.8,6.7,2.8,3.3,-140,145',
  '6': '@2.9,6.9,2.9,3.1,0,360; @5.6,6.9,5.6,6.9,-180,-100',
  '7': '0,0 5.8,0 2,10',
  '8': '@2.8,2.4,2.4,2.4,0,360; @2.8,7.35,2.8,2.55,0,360',
  '9': '@2.9,3.1,2.9,3.1,0,360; @0.2,3.1,5.6,6.9,0,80',
  '-': '0,5.6 3.4,5.6',
  '.': '0,9.7 0,10',
  ',': '0.5,9.6 0,11.8',
  ':': '0,4 0,4.3; 0,9.7 0,10',
  '/': '0,10.8 4.2,-0.6',
  '!': '0,0 0,6.8; 0,9.7 0,10',
  '?': '@2.4,2.5,2.4,2.5,-170,60 2.4,5.6 2.4,7; 2.4,9.7 2.4,10',
  '+': '0,5.4 5,5.4; 2.5,2.9 2.5,7.9',
};

const spaceWidth = 6.2;
const gapWidth = 2.5;

/** An ellipse's arc as a polyline, one point every ten degrees. */
function arc(numbers: readonly number[]): Point[] {
  const [cx = 0, cy = 0, rx = 0, ry = 0, from = 0, to = 0] = numbers;
  const steps = Math.ceil(Math.abs(to - from) / 10);
  return Array.from({ length: steps + 1 }, (_, i) => {
    const angle = ((from + ((to - from) * i) / steps) * Math.PI) / 180;
    return [cx + rx * Math.cos(angle), cy + ry * Math.sin(angle)] as const;
  });
}

function parseStroke(stroke: string): Point[] {
  return stroke
    .trim()
    .split(' ')
    .flatMap((item): Point[] => {
      const numbers = item.replace('@', '').split(',').map(Number);
      return item.startsWith('@') ? arc(numbers) : [[numbers[0]!, numbers[1]!]];
    });
}

/** The pen strokes of a line of text, and where its last glyph ends. */
export function layOut(text: string): { strokes: Point[][]; width: number } {
  const strokes: Point[][] = [];
  let x = 0;
  let width = 0;
  for (const character of text) {
    if (character === ' ') {
      x += spaceWidth;
      continue;
    }
    const source = strokesOf[character];
    if (source === undefined) throw new Error(`the stroke font has no glyph for '${character}'`);
    const glyph = source.split(';').map(parseStroke);
    for (const stroke of glyph) strokes.push(stroke.map(([px, py]) => [px + x, py]));
    width = x + Math.max(...glyph.flat().map(([px]) => px));
    x = width + gapWidth;
  }
  return { strokes, width };
}
