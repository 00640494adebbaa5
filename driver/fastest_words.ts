/**
 * @file Loading a program in the words that turn out fastest: all in the same memory, so that it costs a choice, not copies of the tenants.
 */
import type { NativeDevice } from '../runtime/native.ts';
import { type LoadedCode, LoadedProgram } from '../runtime/program.ts';
import type { Plan } from './plan.ts';

/**
 * Loads the plan that runs rounds fastest, measured in turns if there are several; its notes then say how the others did.
 * @param plans of the same tenants. @param code of all their words, by `codeKey`.
 */
export async function loadFastest(
  native: NativeDevice,
  plans: readonly [Plan, ...Plan[]],
  code: ReadonlyMap<string, LoadedCode>,
): Promise<{ readonly plan: Plan; readonly loaded: LoadedProgram }> {
  const [first] = plans;
  const loaded = new LoadedProgram(native, first, code);
  if (plans.length === 1) return { plan: first, loaded };
  try {
    const { best, milliseconds } = await loaded.keepFastest(plans);
    const notes = [...plans.flatMap((p) => p.notes), verdict(plans, best, milliseconds)];
    return { plan: { ...plans[best]!, notes }, loaded };
  } catch (error) {
    loaded.close();
    throw error;
  }
}

/** Such as `measured: branches, at 0.912 ms a round; coalesced takes 1.20 times as long, wide 1.07 times`. */
function verdict(plans: readonly Plan[], best: number, milliseconds: readonly number[]): string {
  const others = plans.flatMap(({ kind }, n) =>
    n === best ? [] : [`${kind} takes ${(milliseconds[n]! / milliseconds[best]!).toFixed(2)} times as long`],
  );
  return `measured: ${plans[best]!.kind}, at ${milliseconds[best]!.toPrecision(3)} ms a round; ${others.join(', ')}`;
}
