/**
 * @file A worker thread that does jobs of prepare.ts, one after another. The weights are handed over, not copied.
 */
import { parentPort } from 'node:worker_threads';
import { type Order, prepare } from './prepare.ts';

parentPort!.on('message', async ({ job, threads }: Order) => {
  const prepared = await prepare(job, threads);
  const weights = new Set(
    [...prepared.lowered.constants.values()].map(({ data }) => data.buffer as ArrayBuffer),
  );
  parentPort!.postMessage(prepared, [...weights]);
});
