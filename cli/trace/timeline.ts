/**
 * @file What a trace shows, whatever it came from and however it is drawn: spans of time on tracks. Sources (rounds.ts, code.ts) make
 * timelines; chrome.ts and picture.ts draw them.
 */

/** Something that took time. */
export interface Span {
  readonly name: string;
  /** In nanoseconds since the timeline began; whole numbers. */
  readonly begin: number;
  readonly end: number;
  /** Whose it was, if it was one tenant's: a place in the timeline's list. */
  readonly tenant?: number;
  /** Whether it is waiting, rather than work; pictures show it paler. */
  readonly isFaint?: boolean;
  readonly details?: { readonly [name: string]: unknown };
}

/** What the spans of a track are. */
export type TrackKind = 'code' | 'word' | 'tenant' | 'block';

/** Spans in one row. They may overlap, and stand in any order. */
export interface Track {
  readonly kind: TrackKind;
  readonly name: string;
  readonly spans: readonly Span[];
}

/** Tracks that belong together, such as those of one round. */
export interface Group {
  readonly name: string;
  readonly tracks: readonly Track[];
}

export interface Timeline {
  readonly tenants: readonly string[];
  readonly groups: readonly Group[];
}

/** Spreads spans over lanes in which none overlaps another, as few as there are, each in order. */
export function lanesOf(spans: readonly Span[]): Span[][] {
  const lanes: Span[][] = [];
  for (const span of [...spans].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    const free = lanes.find((lane) => lane.at(-1)!.end <= span.begin);
    if (free) free.push(span);
    else lanes.push([span]);
  }
  return lanes;
}

/** The same, so many nanoseconds later. */
export const laterBy = (nanoseconds: number, { name, tracks }: Group): Group => ({
  name,
  tracks: tracks.map((track) => ({
    ...track,
    spans: track.spans.map((s) => ({ ...s, begin: s.begin + nanoseconds, end: s.end + nanoseconds })),
  })),
});

/** When the last span of some groups ended. */
export function endOf(groups: readonly Group[]): number {
  let end = 0;
  for (const { tracks } of groups)
    for (const { spans } of tracks) for (const span of spans) end = Math.max(end, span.end);
  return end;
}
