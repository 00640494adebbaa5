/**
 * @file The engine's just-in-time compiler: watches which classes are ready at the same time without a code that serves both, and compiles
 * one that does, while words go on being issued on what is there. A class that stands for all of its generic class so far, sizes
 * and all, gets a specialised body. A compile that fails is told of, and nothing else changes.
 */
import type { NativeEngineStats } from '../runtime/native.ts';

export interface JitOptions {
  /** Milliseconds between two looks. Default 250. */
  readonly period?: number;
  /** How often two classes must have been ready together in a period. Default 50. */
  readonly threshold?: number;
  /** Most bodies of a code. Default 12. */
  readonly bodies?: number;
  /** Most codes that are tried. Default 8. */
  readonly codes?: number;
}

/** What the compiler did, and why; or, some time later, what it brought. Times are milliseconds since the engine was made. */
export type JitEvent =
  | {
      readonly kind: 'compiled';
      readonly kernels: readonly string[];
      readonly why: string;
      readonly begin: number;
      readonly end: number;
    }
  | {
      readonly kind: 'failed';
      readonly kernels: readonly string[];
      readonly why: string;
      readonly problem: string;
      readonly begin: number;
      readonly end: number;
    }
  | {
      readonly kind: 'brought';
      readonly kernels: readonly string[];
      /** Part of the words since that were issued on it. */
      readonly share: number;
      /** Slots of a word in the period before it was there, and since. */
      readonly slots: { readonly before: number; readonly after: number };
      /** How much longer its blocks take than on code of their own. */
      readonly factor: number;
    };

/** One class as tasks are numbered by it. */
export interface JitClass {
  readonly specialised: string;
  readonly generic: string;
  readonly name: string;
}

export interface JitHost {
  readonly classes: readonly JitClass[];
  stats(): NativeEngineStats;
  /** Milliseconds of the clock that events are told by. */
  now(): number;
  /** Compiles a code of these classes (keys), and adds it to the engine. */
  add(classes: readonly string[]): Promise<void>;
  tell(event: JitEvent): void;
}

/** How many pairs a look goes through, those that were missed most. */
const mostWishes = 64;

export class Jit {
  readonly #options: Required<JitOptions>;
  readonly #timer: NodeJS.Timeout;
  readonly #tried = new Set<string>();
  #seen: ReadonlyMap<string, number> = new Map();
  #last: NativeEngineStats;
  /** The code whose first period is under way. */
  #fresh: { readonly kernels: readonly string[]; readonly code: number; readonly before: number } | undefined;
  #busy = false;
  #stopped = false;

  constructor(
    private readonly host: JitHost,
    options: JitOptions,
  ) {
    this.#options = { period: 250, threshold: 50, bodies: 12, codes: 8, ...options };
    this.#last = host.stats();
    this.#timer = setInterval(() => void this.look(), this.#options.period);
    this.#timer.unref();
  }

  get isBusy(): boolean {
    return this.#busy;
  }

  /** Looks no more, and tells of nothing that is still under way. */
  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
  }

  /** One look at what has happened since the last; compiles at most one code. */
  async look(): Promise<void> {
    if (this.#busy || this.#stopped) return;
    this.#busy = true;
    try {
      const stats = this.host.stats();
      this.#tellOfLast(stats);
      const wished = this.#wishedSince(stats);
      const before = slotsAWord(stats, this.#last);
      this.#last = stats;
      const chosen = this.#choose(wished);
      if (chosen) await this.#compile(chosen.classes, chosen.times, before, stats.wordsOn.length);
    } finally {
      this.#busy = false;
    }
  }

  async #compile(classes: readonly number[], times: number, before: number, code: number): Promise<void> {
    const keys = this.#keysOf(classes);
    this.#tried.add(keys.join('+'));
    const kernels = [...new Set(classes.map((c) => this.host.classes[c]!.name))];
    const why = `ready together ${times} times in ${this.#options.period} ms, with no code for both`;
    const begin = this.host.now();
    try {
      await this.host.add(keys);
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      if (!this.#stopped)
        this.host.tell({ kind: 'failed', kernels, why, problem, begin, end: this.host.now() });
      return;
    }
    if (this.#stopped) return;
    this.#fresh = { kernels, code, before };
    // What follows is measured from here.
    this.#last = this.host.stats();
    this.host.tell({ kind: 'compiled', kernels, why, begin, end: this.host.now() });
  }

  #tellOfLast(stats: NativeEngineStats): void {
    const fresh = this.#fresh;
    const words = stats.words - this.#last.words;
    if (!fresh || words === 0) return;
    this.#fresh = undefined;
    this.host.tell({
      kind: 'brought',
      kernels: fresh.kernels,
      share: (stats.wordsOn[fresh.code]! - (this.#last.wordsOn[fresh.code] ?? 0)) / words,
      slots: { before: fresh.before, after: slotsAWord(stats, this.#last) },
      factor: stats.factors[fresh.code]!,
    });
  }

  /** How often each pair of classes was wished for since the last look. */
  #wishedSince({ wishes }: NativeEngineStats): { one: number; other: number; times: number }[] {
    const seen = new Map<string, number>();
    const wished: { one: number; other: number; times: number }[] = [];
    for (let n = 0; n + 2 < wishes.length; n += 3) {
      const [one, other, times] = [wishes[n]!, wishes[n + 1]!, wishes[n + 2]!];
      seen.set(`${one} ${other}`, times);
      const since = times - (this.#seen.get(`${one} ${other}`) ?? 0);
      if (since > 0) wished.push({ one, other, times: since });
    }
    this.#seen = seen;
    return wished.sort((a, b) => b.times - a.times);
  }

  /** The pair that was missed most, and what else was missed most, as far as bodies go; or the next pair, if that has been tried. */
  #choose(
    wished: readonly { readonly one: number; readonly other: number; readonly times: number }[],
  ): { classes: number[]; times: number } | undefined {
    const { threshold, codes, bodies } = this.#options;
    if (this.#tried.size >= codes) return undefined;
    const most = wished.slice(0, mostWishes);
    for (const first of most) {
      if (first.times < threshold) return undefined;
      const chosen = new Set<number>();
      for (const { one, other } of [first, ...most]) {
        const more = new Set([...chosen, one, other]);
        if (this.#keysOf([...more]).length > bodies) continue;
        for (const c of [one, other]) chosen.add(c);
      }
      if (!chosen.has(first.one) || !chosen.has(first.other)) continue;
      const classes = [...chosen].sort((a, b) => a - b);
      if (!this.#tried.has(this.#keysOf(classes).join('+'))) return { classes, times: first.times };
    }
    return undefined;
  }

  /** Keys of bodies that serve these classes: one of open sizes for several of one generic class, else of their own sizes. */
  #keysOf(classes: readonly number[]): string[] {
    const all = classes.map((c) => this.host.classes[c]!);
    const count = (generic: string): number => all.filter((c) => c.generic === generic).length;
    return [...new Set(all.map((c) => (count(c.generic) > 1 ? c.generic : c.specialised)))].sort();
  }
}

const slotsAWord = (now: NativeEngineStats, before: NativeEngineStats): number =>
  (now.slots - before.slots) / Math.max(1, now.words - before.words);
