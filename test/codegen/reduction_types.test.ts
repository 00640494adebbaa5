/**
 * @file Reductions that lanes share, in every type that sums and maxima may have.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { emitWord } from '../../codegen/word.ts';
import { index } from '../../ir/affine.ts';
import { buffer, kernel as buildKernel, load, reduce, store } from '../../ir/build.ts';
import { interpretKernel } from '../../ir/interpret.ts';
import type { Kernel } from '../../ir/kernel.ts';
import { targetOf } from '../../ir/target.ts';
import { makeTensor, writer } from '../../ir/tensor.ts';
import { type DType, dtypes } from '../../ir/types.ts';
import { loadNative } from '../../runtime/native.ts';
import { generator } from '../support/random.ts';
import { oneWord, runWord } from '../support/run_kernel.ts';
import { titled, type Way, wayKinds } from '../support/ways.ts';

const [rows, columns] = [5, 300];

/** Of each row the greatest element and, where there are sums, the sum; by a warp, and by a block of several. */
function reductions(dtype: DType, lanes: number): Kernel {
  const [x, most, sum] = [
    buffer('x', dtype, [rows, columns]),
    ...['most', 'sum'].map((n) => buffer(n, dtype, [rows])),
  ];
  const [r, c] = [index('r', rows), index('c', columns)];
  const stores = [store(most!, [r], reduce('max', [c], load(x, [r, c])))];
  if (dtypes[dtype].kind !== 'bool') stores.push(store(sum!, [r], reduce('sum', [c], load(x, [r, c]))));
  const outputs = [most!, sum!].slice(0, stores.length);
  return {
    ...buildKernel(`reduce_${dtype}_${lanes}`, [x], outputs, [r], stores),
    schedule: { skeleton: 'reduction', threads: 128, lanes, vector: 1, unroll: 1 },
  };
}

const kernels = (Object.keys(dtypes) as DType[]).flatMap((dtype) =>
  [32, 128].map((lanes) => reductions(dtype, lanes)),
);

/** Zeros and a few ones, whose sum no type rounds. */
function fewOnes(dtype: DType) {
  const tensor = makeTensor(dtype, [rows, columns]);
  const write = writer(tensor);
  const next = generator(7);
  for (let i = 0; i < tensor.data.length; i++) write(i, next() < 0.3 ? 1 : 0);
  return tensor;
}

const { emulated, cuda } = wayKinds();
for (const kind of [emulated, cuda]) {
  describe.skipIf(kind.problem)(titled(kind.name, kind), () => {
    let way: Way | undefined;
    afterAll(() => way?.close());
    it('gives what the interpreter gives', async () => {
      way ??= kind.open();
      const programs = kernels.map((kernel) => oneWord([kernel], way!.target));
      await way.prepare(programs);
      for (const [n, kernel] of kernels.entries()) {
        const x = fewOnes(kernel.inputs[0]!.dtype);
        const [got] = await runWord(way, programs[n]!, [kernel], [[x]]);
        expect(got, kernel.name).toEqual(interpretKernel(kernel, [x]));
      }
    });
  });
}

const { nvrtc } = loadNative().probe();
it.skipIf(nvrtc.problem)('NVRTC compiles them', async () => {
  for (const kernel of kernels) {
    const { classes } = oneWord([kernel], 'sm_90');
    const { source } = emitWord([...classes.values()], targetOf('sm_90'));
    expect((await loadNative().compileCuda(source, 'sm_90')).image.length).toBeGreaterThan(0);
  }
});
