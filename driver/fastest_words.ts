/**
 * @file Loading a program in the words that turn out fastest: all in the same memory, so that it costs a choice, not copies of the tenants.
 */
import type { Slot, Word } from '../ir/program.ts';
import { isWide } from '../passes/split_words.ts';
import type { NativeDevice } from '../runtime/native.ts';
import { type LoadedCode, LoadedProgram } from '../runtime/program.ts';
import type { Choices, Plan } from './plan.ts';

/** How often a word is run, one time right behind the other, to be timed. */
const copies = 8;

/**
 * Words stay wide that are so many times as fast as branches, at least. By itself a word may gain what it costs in the midst of others, which
 * could run beside branches, too: rounds of all words tell.
 */
const leastGains = [1, 1.1, 1.3];

/**
 * Loads the plan that runs rounds fastest, measured in turns if there are several; its notes then say how the others did. Of branches with
 * wide words among them there are some, by what each wide word gains.
 * @param code of all words, by `codeKey`, split ones, too.
 */
export async function loadFastest(
  native: NativeDevice,
  { plans, mix }: Choices,
  code: ReadonlyMap<string, LoadedCode>,
): Promise<{ readonly plan: Plan; readonly loaded: LoadedProgram }> {
  const [first] = plans;
  const loaded = new LoadedProgram(native, first, code);
  if (plans.length === 1) return { plan: first, loaded };
  try {
    const all = [...plans, ...(mix ? await mixes(loaded, mix) : [])];
    const { best, milliseconds } = await loaded.keepFastest(all);
    const wide = mix?.wide.words.filter(isWide).length ?? 0;
    const notes = [...all.flatMap((p) => p.notes), verdict(all, wide, best, milliseconds)];
    return { plan: { ...all[best]!, notes }, loaded };
  } catch (error) {
    loaded.close();
    throw error;
  }
}

/** Branches with those words wide that gain so much, and with none. */
async function mixes(loaded: LoadedProgram, { wide, plan }: NonNullable<Choices['mix']>): Promise<Plan[]> {
  // Words that are alike take as long, whoever their tenants are.
  const likenessOf = ({ tier, classes, slots }: Word): string => {
    const sizesOf = ({ tenant, task }: Slot): readonly number[] =>
      wide.tenants[tenant]!.model.tasks[task]!.sizes;
    return JSON.stringify([tier, classes, slots.map((s) => [s.body, s.blocks, s.range, sizesOf(s)])]);
  };
  const gains = new Map<string, number>();
  for (const word of wide.words.filter(isWide)) {
    if (gains.has(likenessOf(word))) continue;
    const again = Array<Word>(copies).fill(word);
    const [together, apart] = (await loaded.compare([{ words: again }, plan(again)])) as [number, number];
    gains.set(likenessOf(word), apart / together);
  }
  const gainOf = (word: Word): number => gains.get(likenessOf(word))!;
  const found = new Map<number, Plan>();
  for (const least of [...leastGains, Number.POSITIVE_INFINITY]) {
    const stays = (word: Word): boolean => gainOf(word) >= least;
    const count = wide.words.filter((w) => isWide(w) && stays(w)).length;
    if (!found.has(count)) found.set(count, plan(wide.words, stays));
  }
  return [...found.values()];
}

/**
 * Such as `measured: branches, at 0.912 ms a round; coalesced takes 1.20 times as long, branches with 3 of 40 wide words takes 1.07 times as long`.
 * @param wide how many wide words there are in the plan that has all of them.
 */
function verdict(
  plans: readonly Plan[],
  wide: number,
  best: number,
  milliseconds: readonly number[],
): string {
  const name = ({ kind, words }: Plan): string =>
    kind === 'mixed' ? `branches with ${words.filter(isWide).length} of ${wide} wide words` : kind;
  const others = plans.flatMap((plan, n) =>
    n === best
      ? []
      : [`${name(plan)} takes ${(milliseconds[n]! / milliseconds[best]!).toFixed(2)} times as long`],
  );
  return `measured: ${name(plans[best]!)}, at ${milliseconds[best]!.toPrecision(3)} ms a round; ${others.join(', ')}`;
}
