/**
 * @file What a verifier finds: a broken law, and the thing that breaks it, so that whoever read the thing from a text can point at it.
 */
export interface Problem {
  readonly text: string;
  /** A kernel, node, store, call, task, word, slot, … */
  readonly at: object;
}

/** Collects problems; `prefix` says in each where it is. */
export type Say = (at: object, text: string) => void;

export const collector = (into: Problem[], prefix: string): Say => {
  return (at, text) => void into.push({ at, text: `${prefix}: ${text}` });
};

export const textsOf = (problems: readonly Problem[]): string[] => problems.map((p) => p.text);
