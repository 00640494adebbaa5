/**
 * @file Resampling along one dimension, as ONNX's Resize defines it: where an output position falls in the input, and
 * which input positions weigh how much there.
 */

/** Input positions with their weights. */
export type Taps = readonly { readonly at: number; readonly weight: number }[];

/** The input coordinate of an output position. */
export function coordinate(transform: string, o: number, scale: number, from: number, to: number): number {
  switch (transform) {
    case 'asymmetric':
      return o / scale;
    case 'align_corners':
      // As the reference has it: the true length, which need not be a whole number, counts.
      return to === 1 ? 0 : (o * (from - 1)) / (scale * from - 1);
    case 'pytorch_half_pixel':
      return to === 1 ? -0.5 : (o + 0.5) / scale - 0.5;
    case 'half_pixel_symmetric': {
      const adjustment = to / (scale * from);
      const offset = (from / 2) * (1 - adjustment);
      return offset + (o + 0.5) / scale - 0.5;
    }
    default:
      return (o + 0.5) / scale - 0.5;
  }
}

const clamped = (at: number, extent: number): number => Math.min(Math.max(at, 0), extent - 1);

/** The one position that is nearest, by the given way of rounding. */
export function nearestTap(rounding: string, x: number, extent: number): Taps {
  const round: { readonly [way: string]: (v: number) => number } = {
    floor: Math.floor,
    ceil: Math.ceil,
    round_prefer_floor: (v) => Math.ceil(v - 0.5),
    round_prefer_ceil: (v) => Math.floor(v + 0.5),
  };
  return [{ at: clamped(round[rounding]!(x), extent), weight: 1 }];
}

/** Linear interpolation between two neighbours; the border repeats. */
export function linearTaps(x: number, extent: number): Taps {
  const low = Math.floor(x);
  const part = x - low;
  return [
    { at: clamped(low, extent), weight: 1 - part },
    { at: clamped(low + 1, extent), weight: part },
  ];
}

/** Cubic convolution (Keys) over four neighbours; the border repeats, or does not count. */
export function cubicTaps(x: number, extent: number, a: number, excludeOutside: boolean): Taps {
  const low = Math.floor(x);
  const part = x - low;
  const near = (t: number): number => ((a + 2) * t - (a + 3)) * t * t + 1;
  const far = (t: number): number => ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
  const weights = [far(1 + part), near(part), near(1 - part), far(2 - part)];
  const counted = weights.map((w, i) => {
    const at = low - 1 + i;
    return excludeOutside && (at < 0 || at >= extent) ? 0 : w;
  });
  const total = excludeOutside ? counted.reduce((s, w) => s + w, 0) : 1;
  return counted.map((w, i) => ({ at: clamped(low - 1 + i, extent), weight: w / total }));
}
