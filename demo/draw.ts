/**
 * @file Draws the pictures that the demo reads: `npx tsx demo/draw.ts`. The results are committed, so neither
 * the demo nor its tests draw anything.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  addNoise,
  type Canvas,
  type Colour,
  drawStrokes,
  encodePng,
  makeCanvas,
  turnOver,
} from './drawing/canvas.ts';
import { layOut, type Point } from './drawing/font.ts';
import { type GalleryPicture, gallery } from './gallery.ts';

interface Look {
  /** Height of the capitals in pixels. */
  readonly size: number;
  /** Width of the glyphs against their height; 1 is as designed. */
  readonly stretch: number;
  /** Radius of the pen against the height of the capitals. */
  readonly pen: number;
  /** Shear to the right, as the tangent of its angle. */
  readonly slant: number;
  readonly ink: Colour;
  readonly paper: (x: number, y: number) => Colour;
  readonly noise: number;
}

const plain = (colour: Colour) => (): Colour => colour;

const looks: Readonly<Record<string, Look>> = {
  title: {
    size: 40,
    stretch: 1,
    pen: 0.075,
    slant: 0,
    ink: [20, 20, 30],
    paper: plain([255, 255, 255]),
    noise: 0,
  },
  door: {
    size: 32,
    stretch: 1,
    pen: 0.09,
    slant: 0,
    ink: [240, 240, 235],
    paper: plain([40, 70, 110]),
    noise: 12,
  },
  invoice: {
    size: 26,
    stretch: 0.75,
    pen: 0.06,
    slant: 0,
    ink: [40, 40, 40],
    // Paper with a fold's shadow across it.
    paper: (x) => (x > 180 ? [232, 228, 214] : [246, 243, 232]),
    noise: 10,
  },
  greeting: {
    size: 34,
    stretch: 1,
    pen: 0.065,
    slant: 0.2,
    ink: [150, 20, 40],
    paper: plain([250, 246, 240]),
    noise: 6,
  },
  meter: {
    size: 30,
    stretch: 1.1,
    pen: 0.08,
    slant: 0.08,
    ink: [120, 255, 140],
    paper: (_, y) => [10, 30 + y / 2, 20],
    noise: 14,
  },
  crate: {
    size: 30,
    stretch: 0.9,
    pen: 0.085,
    slant: 0,
    ink: [60, 35, 15],
    // Planks.
    paper: (x, y) => (y % 22 < 2 ? [150, 110, 70] : [200 + 8 * Math.sin(x / 9), 160, 105]),
    noise: 16,
  },
  ticket: {
    size: 28,
    stretch: 1,
    pen: 0.07,
    slant: 0.12,
    ink: [15, 30, 90],
    paper: (x) => [250 - x / 8, 225, 160 + x / 6],
    noise: 8,
  },
  sign: {
    size: 36,
    stretch: 0.9,
    pen: 0.1,
    slant: 0,
    ink: [255, 255, 255],
    paper: plain([170, 30, 30]),
    noise: 20,
  },
};

function draw({ name, text, upsideDown }: GalleryPicture): Canvas {
  const look = looks[name];
  if (!look) throw new Error(`demo/draw.ts has no look for the picture '${name}'`);
  const unit = look.size / 10;
  const margin = look.size * 0.35;
  const { strokes, width } = layOut(text);
  const lean = Math.abs(look.slant) * look.size;
  const place = ([x, y]: Point): Point => [
    margin + x * unit * look.stretch + look.slant * (10 - y) * unit,
    margin + y * unit,
  ];
  const canvas = makeCanvas(
    Math.ceil(width * unit * look.stretch + lean + 2 * margin),
    Math.ceil(look.size + 2 * margin),
    look.paper,
  );
  drawStrokes(
    canvas,
    strokes.map((stroke) => stroke.map(place)),
    look.pen * look.size,
    look.ink,
  );
  addNoise(canvas, look.noise, name.length * 7919);
  return upsideDown ? turnOver(canvas) : canvas;
}

const folder = fileURLToPath(new URL('./pictures/', import.meta.url));
mkdirSync(folder, { recursive: true });
for (const picture of gallery) {
  const bytes = encodePng(draw(picture));
  const file = `${folder}${picture.name}.png`;
  writeFileSync(file, bytes);
  console.log(`${file}: ${bytes.length} bytes`);
}
