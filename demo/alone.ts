/**
 * @file Checks Wideword's first promise on the demo's own tenants: who else is in a round changes no bit.
 */
import type { Program, Tensor } from '../index.ts';

type Named = Readonly<Record<string, Readonly<Record<string, Tensor>>>>;

const bytes = ({ data }: Tensor): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength);

/** Runs every request in a round of its own, and counts those that are answered as they were in `together`. */
export async function alone(program: Program, requests: Named, together: Named): Promise<number> {
  let same = 0;
  for (const [tenant, inputs] of Object.entries(requests)) {
    const { outputs } = await program.run({ [tenant]: inputs });
    const pairs = Object.entries(outputs[tenant]!);
    if (pairs.every(([name, tensor]) => bytes(tensor).equals(bytes(together[tenant]![name]!)))) same++;
  }
  return same;
}
