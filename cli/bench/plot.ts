/**
 * @file A line chart as SVG text: throughput against tenants, a line a mode; or time against blocks, a line a kernel.
 */
import { colourOf, formatTick, svgFile, svgText as text, ticks } from '../svg.ts';

export interface Series {
  readonly name: string;
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

export interface Chart {
  readonly title: string;
  readonly subtitle: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly series: readonly Series[];
  /** Default `linear`, from 0. On `log` axes, which take values above 0, powers look like straight lines. */
  readonly scale?: 'linear' | 'log';
}

const size = { width: 720, height: 440 };
const area = { left: 80, right: 30, top: 64, bottom: 84 };

/** Values of 1, 2 or 5 times a power of ten, from at most `least` to at least `most`; powers of ten alone where those are many. */
export function logTicks(least: number, most: number): number[] {
  // A power more at either end, as a logarithm may be rounded to the wrong side of a whole number.
  const [first, last] = [Math.floor(Math.log10(least)) - 1, Math.ceil(Math.log10(most)) + 1];
  const steps = last - first > 6 ? [1] : [1, 2, 5];
  const all = Array.from({ length: last - first + 1 }, (_, n) =>
    steps.map((s) => Number((s * 10 ** (first + n)).toPrecision(3))),
  ).flat();
  const from = all.findLastIndex((t) => t <= least);
  const to = all.findIndex((t) => t >= most);
  // One value alone would be an axis of no length.
  return all.slice(from, Math.max(to, from + 1) + 1);
}

/** The part (0 to 1) of an axis from `least` to `most` at which a value stands. */
function along(scale: 'linear' | 'log', least: number, most: number): (value: number) => number {
  if (scale === 'linear') return (value) => (value - least) / (most - least);
  const [from, to] = [Math.log(least), Math.log(most)];
  return (value) => (to > from ? (Math.log(value) - from) / (to - from) : 0);
}

/** The chart as the text of an SVG file. */
export function lineChart({ title, subtitle, xLabel, yLabel, series, scale = 'linear' }: Chart): string {
  const points = series.flatMap((s) => s.points);
  const xs = [...new Set(points.map((p) => p.x))].sort((a, b) => a - b);
  const ys = points.map((p) => p.y);
  const yTicks = scale === 'log' ? logTicks(Math.min(...ys), Math.max(...ys)) : ticks(Math.max(...ys));
  const right = size.width - area.right;
  const bottom = size.height - area.bottom;
  const alongX = along(scale, scale === 'log' ? xs[0]! : 0, xs.at(-1)!);
  const alongY = along(scale, yTicks[0]!, yTicks.at(-1)!);
  const x = (v: number): string => (area.left + alongX(v) * (right - area.left)).toFixed(1);
  const y = (v: number): string => (bottom - alongY(v) * (bottom - area.top)).toFixed(1);
  return svgFile({ ...size, title }, [
    text(
      `x="${area.left}" y="26"`,
      title.length > 68 ? `${title.slice(0, 67)}…` : title,
      'font-size="16" font-weight="bold"',
    ),
    text(`x="${area.left}" y="46"`, subtitle, 'fill="#555"'),
    ...yTicks.flatMap((v) => [
      `<line x1="${area.left}" x2="${right}" y1="${y(v)}" y2="${y(v)}" stroke="${v === yTicks[0] ? '#222' : '#ddd'}"/>`,
      text(`x="${area.left - 8}" y="${y(v)}"`, formatTick(v), 'text-anchor="end" dominant-baseline="middle"'),
    ]),
    `<line x1="${area.left}" x2="${area.left}" y1="${area.top}" y2="${bottom}" stroke="#222"/>`,
    ...labelled(xs, (v) => Number(x(v))).flatMap((v) => [
      `<line x1="${x(v)}" x2="${x(v)}" y1="${bottom}" y2="${bottom + 5}" stroke="#222"/>`,
      text(`x="${x(v)}" y="${bottom + 20}"`, formatTick(v), 'text-anchor="middle"'),
    ]),
    text(`x="${(area.left + right) / 2}" y="${bottom + 40}"`, xLabel, 'text-anchor="middle"'),
    text(`transform="translate(18 ${(area.top + bottom) / 2}) rotate(-90)"`, yLabel, 'text-anchor="middle"'),
    ...series.flatMap((s, n) => {
      const colour = colourOf(n);
      const path = s.points.map((p) => `${x(p.x)},${y(p.y)}`).join(' ');
      const legend = area.left + n * 190;
      const at = size.height - 18;
      return [
        `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`,
        ...s.points.map((p) => mark(n, Number(x(p.x)), Number(y(p.y)), colour)),
        `<line x1="${legend}" x2="${legend + 28}" y1="${at}" y2="${at}" stroke="${colour}" stroke-width="2"/>`,
        mark(n, legend + 14, at, colour),
        text(`x="${legend + 36}" y="${at}"`, s.name, 'dominant-baseline="middle"'),
      ];
    }),
  ]);
}

/** Those of the places whose labels do not run into the one before. */
function labelled(values: readonly number[], place: (v: number) => number): number[] {
  const kept: number[] = [];
  for (const v of values) {
    const last = kept.at(-1);
    if (last === undefined || place(v) - place(last) >= 24) kept.push(v);
  }
  return kept;
}

/** A circle, a square, a triangle or a diamond. */
function mark(n: number, x: number, y: number, colour: string): string {
  const polygon = (...corners: readonly (readonly [number, number])[]): string =>
    `<polygon points="${corners.map(([dx, dy]) => `${x + dx},${y + dy}`).join(' ')}" fill="${colour}"/>`;
  switch (n % 4) {
    case 0:
      return `<circle cx="${x}" cy="${y}" r="4.5" fill="${colour}"/>`;
    case 1:
      return polygon([-4, -4], [4, -4], [4, 4], [-4, 4]);
    case 2:
      return polygon([0, -5], [5, 4], [-5, 4]);
    default:
      return polygon([0, -5], [5, 0], [0, 5], [-5, 0]);
  }
}
