/**
 * @file Coalesced against time-multiplexed rounds of one program, as a table.
 */
import type { Device, Program } from '../index.ts';
import { median, milliseconds, table } from './report.ts';

/** Times `rounds` rounds of all tenants each way: same device, same code, only the launches differ. */
export async function timing(device: Device, program: Program, rounds: number): Promise<string> {
  const { kernels, words, widest } = program.stats;
  const coalesced = median(await program.time('coalesced', rounds));
  const multiplexed = median(await program.time('time-multiplexed', rounds));
  const rows = [
    ['', 'launches', 'widest', 'one round'],
    ['one tenant after another', `${kernels}`, '1', milliseconds(multiplexed)],
    ['coalesced', `${words}`, `${widest}`, milliseconds(coalesced)],
  ];
  const ratio = (multiplexed / coalesced).toFixed(2);
  const lines = [
    table(rows, [1, 2, 3]),
    `  Speedup ${ratio}, medians of ${rounds} rounds each, same device and code`,
  ];
  if (device.kind === 'host') {
    lines.push('  (One tenant keeps a CPU busy by itself; it is a GPU that a single tenant leaves idle.)');
  }
  return lines.join('\n');
}
