/**
 * @file Draws pen strokes anti-aliased: a round pen on a grid four times finer each way, then a box filter.
 */
import { PNG } from 'pngjs';
import type { Point } from './font.ts';

const fine = 4;

export type Colour = readonly [red: number, green: number, blue: number];

export interface Canvas {
  readonly width: number;
  readonly height: number;
  /** RGB, row by row, 0..255, not yet rounded. */
  readonly pixels: Float32Array;
}

export function makeCanvas(width: number, height: number, paint: (x: number, y: number) => Colour): Canvas {
  const pixels = new Float32Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) pixels.set(paint(x, y), (y * width + x) * 3);
  }
  return { width, height, pixels };
}

/** Draws polylines (in pixels) with a round pen. */
export function drawStrokes(canvas: Canvas, strokes: readonly Point[][], radius: number, ink: Colour): void {
  const width = canvas.width * fine;
  const height = canvas.height * fine;
  // One mask for all strokes, so that where two overlap the ink is not laid on twice.
  const mask = new Uint8Array(width * height);
  for (const stroke of strokes) {
    for (let i = 0; i + 1 < stroke.length; i++) {
      markSegment(mask, width, height, stroke[i]!, stroke[i + 1]!, radius * fine);
    }
  }
  for (let y = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      let inside = 0;
      for (let dy = 0; dy < fine; dy++) {
        const row = (y * fine + dy) * width + x * fine;
        for (let dx = 0; dx < fine; dx++) inside += mask[row + dx]!;
      }
      const coverage = inside / (fine * fine);
      for (let c = 0; c < 3; c++) {
        const at = (y * canvas.width + x) * 3 + c;
        canvas.pixels[at]! += coverage * (ink[c]! - canvas.pixels[at]!);
      }
    }
  }
}

/** Marks the fine pixels whose centres lie within `radius` of the segment from `a` to `b`. */
function markSegment(
  mask: Uint8Array,
  width: number,
  height: number,
  a: Point,
  b: Point,
  radius: number,
): void {
  const [ax, ay] = [a[0] * fine, a[1] * fine];
  const [dx, dy] = [b[0] * fine - ax, b[1] * fine - ay];
  const lengthSquared = dx * dx + dy * dy;
  const left = Math.max(0, Math.floor(Math.min(ax, ax + dx) - radius));
  const right = Math.min(width - 1, Math.ceil(Math.max(ax, ax + dx) + radius));
  const top = Math.max(0, Math.floor(Math.min(ay, ay + dy) - radius));
  const bottom = Math.min(height - 1, Math.ceil(Math.max(ay, ay + dy) + radius));
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const [px, py] = [x + 0.5 - ax, y + 0.5 - ay];
      const along = lengthSquared === 0 ? 0 : (px * dx + py * dy) / lengthSquared;
      const t = Math.min(1, Math.max(0, along));
      if (Math.hypot(px - t * dx, py - t * dy) <= radius) mask[y * width + x] = 1;
    }
  }
}

/** Adds grey noise of the given strength from a seed, the same on every machine. */
export function addNoise(canvas: Canvas, strength: number, seed: number): void {
  let state = seed;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  for (let i = 0; i < canvas.pixels.length; i += 3) {
    // The sum of three is near enough to a bell curve.
    const grain = (random() + random() + random() - 1.5) * strength;
    for (let c = 0; c < 3; c++) canvas.pixels[i + c]! += grain;
  }
}

/** Turns the picture by 180 degrees. */
export function turnOver(canvas: Canvas): Canvas {
  const { width, height, pixels } = canvas;
  return makeCanvas(width, height, (x, y) => {
    const from = ((height - 1 - y) * width + (width - 1 - x)) * 3;
    return [pixels[from]!, pixels[from + 1]!, pixels[from + 2]!];
  });
}

/** The picture as the bytes of a PNG file. */
export function encodePng(canvas: Canvas): Uint8Array {
  const { width, height, pixels } = canvas;
  const png = new PNG({ width, height });
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++)
      png.data[i * 4 + c] = Math.min(255, Math.max(0, Math.round(pixels[i * 3 + c]!)));
    png.data[i * 4 + 3] = 255;
  }
  return PNG.sync.write(png, { colorType: 2, deflateLevel: 9 });
}
