/**
 * @file What the background compiler chooses, with a host that says what was wished for and notes what it is asked to compile.
 */
import { afterEach, describe, expect, it } from 'vitest';
import { Jit, type JitClass, type JitEvent, type JitOptions } from '../../driver/jit.ts';
import type { NativeEngineStats } from '../../runtime/native.ts';

/** Classes by letters: `aX` is the kernel aX, specialised to sizes X of the generic class a. */
const classesOf = (...names: readonly string[]): JitClass[] =>
  names.map((name) => ({ name, specialised: `${name}!`, generic: name[0]! }));

type Wish = readonly [one: number, other: number, times: number];

class FakeHost {
  readonly added: (readonly string[])[] = [];
  readonly events: JitEvent[] = [];
  /** Thrown by the next compile. */
  problem: Error | undefined;
  /** What a compile waits for. */
  until: Promise<void> = Promise.resolve();
  time = 0;
  #stats: NativeEngineStats = {
    ...{ words: 0, slots: 0, slices: 0, rounds: 0, requests: 0, issueNanoseconds: 0 },
    ...{ cohorts: 0, cohortRequests: 0, cohortIssueNanoseconds: 0 },
    wishes: new Float64Array(),
    slotsOf: new Float64Array(),
    wordsOn: Float64Array.from([0, 0]),
    factors: Float64Array.from([1, 1]),
  };

  constructor(readonly classes: readonly JitClass[]) {}

  /** All that was wished for since the start, and words since. */
  set(wishes: readonly Wish[], more: Partial<NativeEngineStats> = {}): void {
    this.#stats = { ...this.#stats, wishes: Float64Array.from(wishes.flat()), ...more };
  }

  stats = (): NativeEngineStats => this.#stats;
  now = (): number => this.time++;
  tell = (event: JitEvent): void => void this.events.push(event);
  add = async (keys: readonly string[]): Promise<void> => {
    this.added.push(keys);
    await this.until;
    if (this.problem) throw this.problem;
  };
}

const started: Jit[] = [];
afterEach(() => {
  for (const jit of started.splice(0)) jit.stop();
});

/** One that only looks when it is told to. */
function jitOn(host: FakeHost, options: JitOptions = {}): Jit {
  const jit = new Jit(host, { period: 1e8, threshold: 10, ...options });
  started.push(jit);
  return jit;
}

describe('the compiler in the background', () => {
  it('compiles what was ready together often enough since the last look, and says why', async () => {
    const host = new FakeHost(classesOf('a1', 'b1', 'c1'));
    const jit = jitOn(host);
    host.set([[0, 1, 9]]);
    await jit.look();
    // 18 in all, but 9 since.
    host.set([[0, 1, 18]]);
    await jit.look();
    expect(host.added).toEqual([]);
    host.set([
      [0, 1, 28],
      [1, 2, 3],
    ]);
    await jit.look();
    expect(host.added).toEqual([['a1!', 'b1!', 'c1!']]);
    expect(host.events).toEqual([
      {
        kind: 'compiled',
        kernels: ['a1', 'b1', 'c1'],
        why: 'ready together 10 times in 100000000 ms, with no code for both',
        begin: 0,
        end: 1,
      },
    ]);
  });

  it('takes what was missed most, as far as bodies go', async () => {
    const host = new FakeHost(classesOf('a1', 'b1', 'c1', 'd1'));
    const jit = jitOn(host, { bodies: 3 });
    host.set([
      [0, 1, 20],
      [2, 3, 30],
      [1, 3, 10],
    ]);
    await jit.look();
    expect(host.added).toEqual([['b1!', 'c1!', 'd1!']]);
  });

  it('specialises a class that stands alone for its generic one, and serves several sizes by one body', async () => {
    const host = new FakeHost(classesOf('a1', 'a2', 'b1'));
    const jit = jitOn(host, { bodies: 2 });
    host.set([
      [0, 2, 20],
      [1, 2, 15],
    ]);
    await jit.look();
    expect(host.added).toEqual([['a', 'b1!']]);
  });

  it('compiles nothing twice, and goes on to what comes next', async () => {
    const host = new FakeHost(classesOf('a1', 'b1', 'c1', 'd1'));
    const jit = jitOn(host, { bodies: 2 });
    const wishes = (times: number): Wish[] => [
      [0, 1, 4 * times],
      [2, 3, 2 * times],
    ];
    for (const n of [1, 2, 3]) {
      host.set(wishes(20 * n));
      await jit.look();
    }
    expect(host.added).toEqual([
      ['a1!', 'b1!'],
      ['c1!', 'd1!'],
    ]);
  });

  it('tells of a compile that failed, does not try it again, and tries others', async () => {
    const host = new FakeHost(classesOf('a1', 'b1', 'c1', 'd1'));
    const jit = jitOn(host, { bodies: 2 });
    host.problem = new Error('no such thing');
    host.set([
      [0, 1, 20],
      [2, 3, 10],
    ]);
    await jit.look();
    host.problem = undefined;
    host.set([
      [0, 1, 60],
      [2, 3, 25],
    ]);
    await jit.look();
    expect(host.added).toEqual([
      ['a1!', 'b1!'],
      ['c1!', 'd1!'],
    ]);
    expect(host.events.map((e) => e.kind)).toEqual(['failed', 'compiled']);
    expect(host.events[0]).toMatchObject({
      kernels: ['a1', 'b1'],
      problem: 'no such thing',
      begin: 0,
      end: 1,
    });
  });

  it('tries no more codes than it may, and none of more bodies', async () => {
    const host = new FakeHost(classesOf('a1', 'b1', 'c1', 'd1'));
    const one = jitOn(host, { bodies: 2, codes: 1 });
    const none = jitOn(host, { bodies: 1 });
    for (const n of [1, 2, 3]) {
      host.set([
        [0, 1, 40 * n],
        [2, 3, 20 * n],
      ]);
      await one.look();
      await none.look();
    }
    expect(host.added).toEqual([['a1!', 'b1!']]);
  });

  it('tells what a code brought, once there have been words', async () => {
    const host = new FakeHost(classesOf('a1', 'b1'));
    const jit = jitOn(host);
    host.set([[0, 1, 20]], { words: 100, slots: 150 });
    await jit.look();
    await jit.look();
    expect(host.events.map((e) => e.kind)).toEqual(['compiled']);
    host.set([[0, 1, 20]], {
      ...{ words: 140, slots: 250 },
      wordsOn: Float64Array.from([60, 50, 30]),
      factors: Float64Array.from([1, 1, 1.2]),
    });
    await jit.look();
    expect(host.events[1]).toEqual({
      kind: 'brought',
      kernels: ['a1', 'b1'],
      share: 30 / 40,
      slots: { before: 1.5, after: 100 / 40 },
      factor: 1.2,
    });
  });

  it('looks at nothing while it compiles, and tells of nothing once it was stopped', async () => {
    const host = new FakeHost(classesOf('a1', 'b1', 'c1', 'd1'));
    const jit = jitOn(host, { bodies: 2 });
    let finish = (): void => {};
    host.until = new Promise((resolve) => {
      finish = resolve;
    });
    host.set([[0, 1, 20]]);
    const looking = jit.look();
    expect(jit.isBusy).toBe(true);
    host.set([
      [0, 1, 20],
      [2, 3, 20],
    ]);
    await jit.look();
    expect(host.added).toHaveLength(1);
    jit.stop();
    host.problem = new Error('the engine is closed');
    finish();
    await looking;
    await jit.look();
    expect(jit.isBusy).toBe(false);
    expect(host.added).toHaveLength(1);
    expect(host.events).toEqual([]);
  });
});
