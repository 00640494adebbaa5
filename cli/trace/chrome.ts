/**
 * @file Timelines as the trace event format that ui.perfetto.dev and chrome://tracing read: a process a group, a thread a lane of a track,
 * complete events (`ph: 'X'`) with times in microseconds.
 */
import { type Group, lanesOf, type Span, type Timeline, type TrackKind } from './timeline.ts';

/** Colours of Chrome's viewer by their reserved names, as far apart as it has them. */
const chromeColours = [
  'thread_state_running',
  'rail_response',
  'thread_state_iowait',
  'terrible',
  'cq_build_running',
  'rail_animation',
  'olive',
  'black',
];

/**
 * The tenant's letters: A, B, …, Z, AA, …. Perfetto colours spans by their names without digits, and many tenants' names differ only in
 * those.
 */
export const lettersOf = (n: number): string =>
  (n >= 26 ? lettersOf(Math.floor(n / 26) - 1) : '') + String.fromCharCode(65 + (n % 26));

/** The whole file in pieces of some hundred kilobytes. `about` is kept beside the events. */
export function* chromeTrace(
  { tenants, groups }: Timeline,
  about: { readonly [name: string]: string },
): Generator<string> {
  yield `{"otherData":${JSON.stringify(about)},"traceEvents":[\n`;
  const lines: string[] = [];
  let isFirst = true;
  for (const event of eventsOf(groups, tenants)) {
    lines.push(JSON.stringify(event));
    if (lines.length < 1000) continue;
    yield `${isFirst ? '' : ',\n'}${lines.splice(0).join(',\n')}`;
    isFirst = false;
  }
  yield `${isFirst || lines.length === 0 ? '' : ',\n'}${lines.join(',\n')}\n]}\n`;
}

function* eventsOf(groups: readonly Group[], tenants: readonly string[]): Generator<object> {
  // No two threads of the file share a number, and none has that of a process, which would make it the main one.
  let tid = 1000;
  for (const [n, { name, tracks }] of groups.entries()) {
    const pid = n + 1;
    yield metadata('process_name', pid, tid + 1, { name });
    yield metadata('process_sort_index', pid, tid + 1, { sort_index: n });
    for (const track of tracks) {
      // A track without spans has its row, too: a tenant that did nothing is worth seeing.
      const lanes = track.spans.length > 0 ? lanesOf(track.spans) : [[]];
      for (const [lane, spans] of lanes.entries()) {
        tid++;
        const title = lane === 0 ? track.name : `${track.name} (${lane + 1})`;
        yield metadata('thread_name', pid, tid, { name: title });
        yield metadata('thread_sort_index', pid, tid, { sort_index: tid });
        for (const span of spans) yield complete(span, track.kind, pid, tid, tenants);
      }
    }
  }
}

const metadata = (name: string, pid: number, tid: number, args: object): object => ({
  name,
  ph: 'M',
  ts: 0,
  pid,
  tid,
  args,
});

function complete(
  { name, begin, end, tenant, details }: Span,
  cat: TrackKind,
  pid: number,
  tid: number,
  tenants: readonly string[],
): object {
  const owner = tenant === undefined ? {} : { tenant: tenants[tenant]! };
  return {
    name: tenant === undefined ? name : `${lettersOf(tenant)} ${name}`,
    cat,
    ph: 'X',
    ts: begin / 1000,
    dur: (end - begin) / 1000,
    pid,
    tid,
    ...(tenant !== undefined && { cname: chromeColours[tenant % chromeColours.length]! }),
    args: { ...owner, ...details },
  };
}
