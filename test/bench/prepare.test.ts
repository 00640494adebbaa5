/**
 * @file Models of a benchmark made ready by worker threads: the built command's, as Node runs workers from JavaScript only.
 */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type Job, type Prepared, prepareAll } from '../../cli/bench/prepare.ts';
import { bytesOf, type Tensor } from '../../ir/tensor.ts';
import { parseRecipe } from '../../models/index.ts';

const { prepareAll: withWorkers } = (await import(
  new URL('../../dist/cli/bench/prepare.js', import.meta.url).href
)) as { prepareAll: typeof prepareAll };

const jobs = [1, 2, 3, 4].map((seed): Job => {
  const recipe = parseRecipe('mlp:layers=2,width=24')!;
  const seeds = seed === 2 ? [2, 7] : [seed];
  return { name: 'mlp', source: { recipe, seed }, shapes: {}, precision: 'fp16', seeds, referee: 'host' };
});

/** Which bits there are, of weights and of each tenant. */
function digest(prepared: readonly Prepared[]): string[] {
  const of = (tensors: Iterable<Tensor>): string => {
    const hash = createHash('sha256');
    for (const t of tensors) hash.update(bytesOf(t));
    return hash.digest('hex');
  };
  return prepared.flatMap(({ lowered, tenants }) => [
    of(lowered.constants.values()),
    ...tenants.map((t) => of([t.inputs, t.others, t.expected!].flatMap((tensors) => Object.values(tensors)))),
  ]);
}

describe('workers', () => {
  it('give the bits that one thread gives', async () => {
    let done = 0;
    const prepared = await withWorkers(jobs, () => void done++, 0);
    expect(done).toBe(4);
    expect(digest(prepared)).toEqual(digest(await prepareAll(jobs)));
  });

  it('leave errors what they are', async () => {
    const recipe = { ...parseRecipe('bert-base')!, sizes: { width: 10, heads: 3 } };
    const wrong = { ...jobs[2]!, source: { recipe, seed: 3 } };
    await expect(withWorkers([...jobs, wrong], undefined, 0)).rejects.toMatchObject({
      name: 'InputError',
      message: 'bert-base: width 10 is not a multiple of 3 heads',
    });
  });
});
