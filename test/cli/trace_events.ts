/** @file What readers of the trace event format take, checked on a file's text. */
import { expect } from 'vitest';

export interface CompleteEvent {
  readonly name: string;
  readonly cat: string;
  readonly ph: 'X';
  /** In microseconds. */
  readonly ts: number;
  readonly dur: number;
  readonly pid: number;
  readonly tid: number;
  readonly cname?: string;
  // biome-ignore lint/suspicious/noExplicitAny: whatever a source of spans says.
  readonly args: any;
}

/** A process of the file, with its threads in order. */
export interface TracedProcess {
  readonly name: string;
  readonly threads: readonly { readonly name: string; readonly events: readonly CompleteEvent[] }[];
}

/**
 * Reads a trace. Fails unless it is an object with `traceEvents`, each a metadata event that names or sorts a process or thread or a
 * complete event with a name, times from 0 and whole positive numbers of a process and thread; every process and thread is named, no two
 * threads share a number, and events of one thread follow one another or lie inside one another, to the nanosecond.
 */
export function readTrace(text: string): TracedProcess[] {
  const { traceEvents } = JSON.parse(text);
  expect(Array.isArray(traceEvents)).toBe(true);
  const processes = new Map<number, { name?: string; threads: Map<number, Thread> }>();
  interface Thread {
    name?: string;
    events: CompleteEvent[];
  }
  const owner = new Map<number, number>();
  for (const event of traceEvents) {
    const { name, ph, ts, pid, tid, args } = event;
    for (const id of [pid, tid]) expect(Number.isInteger(id) && id > 0 && id < 2 ** 31).toBe(true);
    expect(typeof name === 'string' && name.length > 0).toBe(true);
    expect(Number.isFinite(ts) && ts >= 0).toBe(true);
    expect(owner.get(tid) ?? pid).toBe(pid);
    owner.set(tid, pid);
    const process = processes.get(pid) ?? { threads: new Map<number, Thread>() };
    processes.set(pid, process);
    const thread = process.threads.get(tid) ?? { events: [] };
    process.threads.set(tid, thread);
    if (ph === 'M') {
      if (name === 'process_name') process.name = args.name;
      else if (name === 'thread_name') thread.name = args.name;
      else {
        expect(['process_sort_index', 'thread_sort_index']).toContain(name);
        expect(Number.isInteger(args.sort_index)).toBe(true);
      }
    } else {
      expect(ph).toBe('X');
      expect(Number.isFinite(event.dur) && event.dur >= 0).toBe(true);
      thread.events.push(event);
    }
  }
  return [...processes.values()].map(({ name, threads }) => {
    expect(name).toMatch(/./);
    return {
      name: name!,
      threads: [...threads.values()].map((thread) => {
        expect(thread.name).toMatch(/./);
        checkNested(thread.events);
        return { name: thread.name!, events: thread.events };
      }),
    };
  });
}

function checkNested(events: readonly CompleteEvent[]): void {
  const spans = events
    .map((e) => ({ begin: Math.round(e.ts * 1000), end: Math.round(e.ts * 1000) + Math.round(e.dur * 1000) }))
    .sort((a, b) => a.begin - b.begin || b.end - a.end);
  const open: number[] = [];
  for (const { begin, end } of spans) {
    while (open.length > 0 && open.at(-1)! <= begin) open.pop();
    expect(end).toBeLessThanOrEqual(open.at(-1) ?? Number.POSITIVE_INFINITY);
    open.push(end);
  }
}
