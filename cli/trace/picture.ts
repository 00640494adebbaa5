/**
 * @file Rounds as one picture: a panel a mode, a row a unit of the device (or a tenant, where blocks were not noted), a colour a tenant, and
 * one scale of time for all.
 */
import { colourOf, formatTick, svgFile, svgText as text, ticks } from '../svg.ts';
import { endOf, type Group, type Span } from './timeline.ts';

/** A round to draw. */
export interface Panel {
  readonly title: string;
  /** Its tracks of one kind are what is drawn; times count from 0. */
  readonly group: Group;
  readonly kind: 'block' | 'tenant';
  /** The rows: names of tracks. One on which nothing ran is empty. */
  readonly rows: readonly string[];
}

export interface Picture {
  readonly title: string;
  readonly subtitle: string;
  readonly tenants: readonly string[];
  readonly panels: readonly Panel[];
}

const width = 1000;
const area = { left: 84, right: 24 };
const plotWidth = width - area.left - area.right;
const maxTitle = 96;
const maxLabel = 14;
/** Time is cut into pieces of half a pixel; in each a row shows one tenant (see shownOf). */
const piecesPerPixel = 2;
const pieces = plotWidth * piecesPerPixel;
/** How full the colour is, by the part of a piece in which anything ran. */
const strengths = 4;
const maxLegend = 40;

/** The picture as the text of an SVG file. */
export function roundsPicture({ title, subtitle, tenants, panels }: Picture): string {
  const longest = Math.max(1, ...panels.map((p) => endOf([p.group])));
  const [unit, perUnit] = longest < 1e6 ? ['microseconds', 1e3] : ['milliseconds', 1e6];
  const most = longest / perUnit;
  const marks = ticks(most).filter((v) => v <= most);
  const x = (v: number): string => (area.left + (v / most) * plotWidth).toFixed(1);
  const rowHeight = Math.max(
    1,
    Math.min(24, Math.floor(300 / Math.max(...panels.map((p) => p.rows.length)))),
  );
  const legend = legendOf(tenants, 66);
  const elements = [
    text(
      `x="${area.left}" y="26"`,
      title.length > maxTitle ? `${title.slice(0, maxTitle - 1)}…` : title,
      'font-size="16" font-weight="bold"',
    ),
    text(`x="${area.left}" y="46"`, subtitle, 'fill="#555"'),
    ...legend.elements,
  ];
  let y = legend.bottom + 34;
  for (const { title: panelTitle, group, kind, rows } of panels) {
    const top = y + 8;
    const bottom = top + rowHeight * rows.length;
    elements.push(
      text(`x="${area.left}" y="${y}"`, panelTitle),
      `<rect x="${area.left}" y="${top}" width="${plotWidth}" height="${bottom - top}" fill="#f3f3f3"/>`,
      ...marks.map((v) => `<line x1="${x(v)}" x2="${x(v)}" y1="${top}" y2="${bottom}" stroke="#ddd"/>`),
      ...rowLabels(rows, top, rowHeight),
      ...spanPaths(group, kind, rows, tenants.length, top, rowHeight, pieces / longest),
    );
    y = bottom + 30;
  }
  const axis = y - 30;
  elements.push(
    ...marks.flatMap((v) => [
      `<line x1="${x(v)}" x2="${x(v)}" y1="${axis}" y2="${axis + 5}" stroke="#222"/>`,
      text(`x="${x(v)}" y="${axis + 20}"`, formatTick(v), 'text-anchor="middle"'),
    ]),
    text(
      `x="${area.left + plotWidth / 2}" y="${axis + 40}"`,
      `${unit} since the first block of the round began, or the first request came`,
      'text-anchor="middle"',
    ),
  );
  return svgFile({ width, height: axis + 54, title }, elements);
}

/** A swatch and a name for each tenant, in as many lines as they need. */
function legendOf(tenants: readonly string[], top: number): { elements: string[]; bottom: number } {
  const elements: string[] = [];
  let [x, y] = [area.left, top];
  const place = (length: number): void => {
    const wide = 36 + 7.5 * length;
    if (x > area.left && x + wide > width - area.right) [x, y] = [area.left, y + 20];
  };
  const shown = tenants.length > maxLegend ? tenants.slice(0, maxLegend - 1) : tenants;
  for (const [n, tenant] of shown.entries()) {
    const name = tenant.length > 40 ? `${tenant.slice(0, 39)}…` : tenant;
    place(name.length);
    elements.push(
      `<rect x="${x}" y="${y - 6}" width="12" height="12" fill="${colourOf(n)}"/>`,
      text(`x="${x + 18}" y="${y}"`, name, 'dominant-baseline="middle"'),
    );
    x += 36 + Math.ceil(7.5 * name.length);
  }
  if (shown.length < tenants.length) {
    const rest = `and ${tenants.length - shown.length} more`;
    place(rest.length);
    elements.push(text(`x="${x}" y="${y}"`, rest, 'dominant-baseline="middle"'));
  }
  return { elements, bottom: y };
}

/** Names of the rows; of thin ones those that have the place. */
function rowLabels(names: readonly string[], top: number, rowHeight: number): string[] {
  const step = 2 ** Math.ceil(Math.log2(Math.max(1, 14 / rowHeight)));
  return names.flatMap((name, n) =>
    n % step === 0
      ? text(
          `x="${area.left - 8}" y="${top + (n + 0.5) * rowHeight}"`,
          name.length > maxLabel ? `${name.slice(0, maxLabel - 1)}…` : name,
          'text-anchor="end" dominant-baseline="middle" font-size="11"',
        )
      : [],
  );
}

/** One path for each colour and strength: a line as thick as a row wherever they do not change along it. */
function spanPaths(
  { tracks }: Group,
  drawn: Panel['kind'],
  names: readonly string[],
  tenants: number,
  top: number,
  rowHeight: number,
  scale: number,
): string[] {
  const paths = new Map<string, { colour: number; strength: number; lines: string[] }>();
  const inset = rowHeight >= 8 ? 2 : 0;
  const rows = new Map(names.map((name, n) => [name, n]));
  for (const { kind, name, spans } of tracks) {
    const row = rows.get(name);
    if (kind !== drawn || row === undefined) continue;
    const y = top + (row + 0.5) * rowHeight;
    for (const { from, to, tenant, strength } of runsOf(spans, tenants, scale, (row * golden) % 1)) {
      const key = `${tenant} ${strength}`;
      const path = paths.get(key) ?? { colour: tenant, strength, lines: [] };
      paths.set(key, path);
      const [left, long] = [area.left + from / piecesPerPixel, (to - from) / piecesPerPixel];
      path.lines.push(`M${left} ${y}h${long}`);
    }
  }
  return [...paths.values()].map(
    ({ colour, strength, lines }) =>
      `<path stroke="${colourOf(colour)}" stroke-opacity="${strength / strengths}" stroke-width="${rowHeight - inset}" d="${lines.join('')}"/>`,
  );
}

interface Stretch {
  readonly from: number;
  to: number;
  readonly tenant: number;
  readonly strength: number;
}

/** The golden section spreads its multiples evenly over 0 to 1, however many there are. */
const golden = (Math.sqrt(5) - 1) / 2;

/** A row as stretches of pieces that look the same; `turn`, 0 to 1, is its own. */
function runsOf(spans: readonly Span[], tenants: number, scale: number, turn: number): Stretch[] {
  const ofTenant = Array.from({ length: tenants }, () => new Float64Array(0));
  const busy = new Float64Array(pieces);
  let until = 0;
  for (const { begin, end, tenant = 0, isFaint } of [...spans].sort((a, b) => a.begin - b.begin)) {
    if (ofTenant[tenant]!.length === 0) ofTenant[tenant] = new Float64Array(pieces);
    addTo(ofTenant[tenant]!, begin * scale, end * scale);
    addTo(busy, Math.max(begin, until) * scale, end * scale, isFaint ? 1 / strengths : 1);
    until = Math.max(until, end);
  }
  const present = ofTenant.flatMap((times, tenant) => (times.length > 0 ? { times, tenant } : []));
  const stretches: Stretch[] = [];
  for (let piece = 0; piece < pieces; piece++) {
    // Little shows as something: else short blocks far apart would be no blocks.
    const strength = busy[piece]! > 0.02 ? Math.max(1, Math.round(Math.min(1, busy[piece]!) * strengths)) : 0;
    if (strength === 0) continue;
    const tenant = shownOf(present, piece, turn);
    const last = stretches.at(-1);
    if (last && last.to === piece && last.tenant === tenant && last.strength === strength) last.to++;
    else stretches.push({ from: piece, to: piece + 1, tenant, strength });
  }
  return stretches;
}

/**
 * Whom a row shows in a piece. Where tenants share a unit, the rows' turns choose among them, so that in any stretch of rows each has
 * as much of the picture as it has of the blocks' time.
 */
function shownOf(
  present: readonly { readonly tenant: number; readonly times: Float64Array }[],
  piece: number,
  turn: number,
): number {
  let left = turn * present.reduce((sum, { times }) => sum + times[piece]!, 0);
  for (const { tenant, times } of present) {
    if (left < times[piece]!) return tenant;
    left -= times[piece]!;
  }
  // Only what rounding left over comes here.
  return present.findLast(({ times }) => times[piece]! > 0)!.tenant;
}

/** Adds to each piece the part of it that lies between two places, so many times. */
function addTo(times: Float64Array, from: number, to: number, weight = 1): void {
  if (to <= from) return;
  for (let piece = Math.floor(from); piece < Math.min(to, times.length); piece++)
    times[piece]! += weight * (Math.min(to, piece + 1) - Math.max(from, piece));
}
