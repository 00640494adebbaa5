/**
 * @file Files that the user names.
 */
import { writeFile } from 'node:fs/promises';
import { InputError } from '../../compiler/errors.ts';

/** Writes a file that was asked for; throws InputError if it cannot be written. */
export async function writeFileFor(path: string, text: string): Promise<void> {
  try {
    await writeFile(path, text);
  } catch (error) {
    throw new InputError(`cannot write ${path}: ${(error as NodeJS.ErrnoException).code ?? error}`);
  }
}
