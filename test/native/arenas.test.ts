/** @file Requests of one tenant that the issue engine runs at the same time, each in an arena of its own: on the host device. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  loadNative,
  type NativeDevice,
  type NativeEngineSpec,
  type NativeEngineTenant,
  type NativeJournal,
} from '../../runtime/native.ts';
import { buildKernels, bytesOf, perBlock } from './support.ts';

const kernels = buildKernels();
let device: NativeDevice;
beforeAll(() => {
  device = loadNative().openHost(2);
});
afterAll(() => {
  device.close();
  kernels.remove();
});

const length = 40;
const blocks = Math.ceil(length / perBlock);
const part = 256;

/** x -> reverse(x) + x in two tasks, all in the arena. */
function palindrome(arenas: number, weight = 1): NativeEngineTenant {
  const buffers = Array.from({ length: arenas }, () => device.allocate(3 * part));
  const [x, r, y] = [0, 1, 2].map((n) => ({ buffer: buffers[0]!, offset: n * part, bytes: 4 * length }));
  const task = { blocks, blockNanoseconds: 1000, sizes: [length] };
  return {
    ...{ weight, arenas: buffers, inputs: [x!], outputs: [y!] },
    tasks: [
      { ...task, class: 0, operands: [x!, r!] },
      { ...task, class: 1, operands: [r!, x!, y!] },
    ],
  };
}

const codeOf = (name: string, classes: readonly number[]) => ({
  ...{ code: device.load(kernels.path, name), threads: 1, sharedBytes: 0 },
  ...{ classes, bodies: classes.map(() => 0) },
});

const engineOf = (tenants: readonly NativeEngineTenant[], more: Partial<NativeEngineSpec> = {}) =>
  device.createEngine({
    ...{ classes: 2, tenants, codes: [codeOf('reverse', [0]), codeOf('add', [1])] },
    ...{ boundNanoseconds: 1e15, stretch: 1000, launchNanoseconds: 1000, ahead: 1, lanes: 1 },
    ...more,
  });

async function request(engine: ReturnType<typeof engineOf>, tenant: number, seed: number): Promise<void> {
  const x = Float32Array.from({ length }, (_, n) => seed * 100 + n);
  const y = new Float32Array(length);
  await engine.submit(tenant, [bytesOf(x)], [bytesOf(y)]);
  expect([...y]).toEqual([...x].map((v, n) => v + x[length - 1 - n]!));
}

/** Whom each word or cohort served. */
const served = ({ words, slots }: NativeJournal): number[][] =>
  [...Array(words.length / 4).keys()].map((word) =>
    [...Array(slots.length / 5).keys()].filter((n) => slots[5 * n] === word).map((n) => slots[5 * n + 1]!),
  );

/** So many requests of each tenant, all at the same time. */
const together = (...counts: number[]): [Float64Array, Uint32Array] => {
  const tenants = counts.flatMap((count, tenant) => Array<number>(count).fill(tenant));
  return [new Float64Array(tenants.length), Uint32Array.from(tenants)];
};

describe('requests of one tenant', () => {
  it('run as slots of one cohort, and give each its own result', async () => {
    const engine = engineOf([palindrome(3)]);
    engine.keepJournal(true);
    await engine.drive(...together(3));
    expect(served(engine.takeJournal())).toEqual([[0, 0, 0]]);
    for (const count of [4, 2, 3, 4])
      await Promise.all(Array.from({ length: count }, (_, n) => request(engine, 0, 10 * count + n)));
    engine.close();
  });

  it('run as slots of one word where the engine goes word by word', async () => {
    const engine = engineOf([palindrome(3)], { lanes: 0 });
    engine.keepJournal(true);
    await engine.drive(...together(3));
    expect(served(engine.takeJournal())).toEqual([
      [0, 0, 0],
      [0, 0, 0],
    ]);
    await Promise.all([1, 2, 3, 4].map((n) => request(engine, 0, n)));
    engine.close();
  });

  it('beyond the arenas wait, in order, and one more than these is taken', async () => {
    const engine = engineOf([palindrome(2)]);
    engine.keepJournal(true);
    await engine.drive(...together(5));
    expect(served(engine.takeJournal()).flat()).toEqual([0, 0, 0, 0, 0]);
    engine.close();

    const arenas = [device.allocate(4), device.allocate(4)];
    const count = { buffer: arenas[0]!, offset: 0, bytes: 4 };
    const task = { class: 0, blocks: 1, blockNanoseconds: 1e6, operands: [count], sizes: [20] };
    const napper = { weight: 1, arenas, inputs: [], outputs: [], tasks: [task] };
    const slow = engineOf([napper], { classes: 1, codes: [codeOf('nap', [0])] });
    const three = [1, 2, 3].map(() => slow.submit(0, [], []));
    await expect(slow.submit(0, [], [])).rejects.toThrow('one with fewer than 3 requests under way');
    await Promise.all(three);
    const counts = arenas.map((buffer) => {
      const data = new Uint8Array(4);
      device.read({ buffer, offset: 0, data });
      return data[0]!;
    });
    expect(counts[0]! + counts[1]!).toBe(3);
    expect(counts[1]).toBeGreaterThan(0);
    slow.close();
  });

  it('run one by one while three quarters of the tenants have some, so that each gets as much', async () => {
    const engine = engineOf([palindrome(4), palindrome(4)]);
    engine.keepJournal(true);
    await engine.drive(...together(4, 2));
    const cohorts = served(engine.takeJournal());
    expect(cohorts.slice(0, 2)).toEqual([
      [0, 1],
      [0, 1],
    ]);
    expect(cohorts.flat().filter((tenant) => tenant === 0)).toHaveLength(4);
    // Once the other one has had none for a while, they run together.
    await engine.drive(new Float64Array(4).fill(50), new Uint32Array(4));
    expect(served(engine.takeJournal())).toEqual([[0, 0, 0, 0]]);
    engine.close();
  });

  it('are no more than those of others who send one by one, the next as the last has ended', async () => {
    const napper = (): NativeEngineTenant => {
      const arenas = [1, 2, 3, 4].map(() => device.allocate(4));
      const count = { buffer: arenas[0]!, offset: 0, bytes: 4 };
      const task = { class: 0, blocks: 1, blockNanoseconds: 1e6, operands: [count], sizes: [1] };
      return { weight: 1, arenas, inputs: [], outputs: [], tasks: [task] };
    };
    const tenants = [1, 2, 3, 4].map(napper);
    for (const lanes of [0, 1]) {
      const engine = engineOf(tenants, { lanes, classes: 1, codes: [codeOf('nap', [0])] });
      const counts = tenants.map(() => 0);
      const end = performance.now() + 250;
      const client = async (tenant: number): Promise<void> => {
        while (performance.now() < end) {
          await engine.submit(tenant, [], []);
          counts[tenant]!++;
        }
      };
      // The first has five under way all the time.
      await Promise.all([0, 0, 0, 0, 0, 1, 2, 3].map(client));
      const others = counts.slice(1).reduce((sum, n) => sum + n, 0) / 3;
      expect(others).toBeGreaterThan(10);
      // Its next request is there when the others' are still on their way: about twice as many, not one for each arena.
      expect(counts[0]).toBeLessThan(3 * others);
      engine.close();
    }
  });

  it('are served by rounds of a program, too, where all tenants have many', async () => {
    const tenants = [palindrome(3), palindrome(3), palindrome(3)];
    const words = [0, 1].map((n) => ({
      code: device.load(kernels.path, n === 0 ? 'reverse' : 'add'),
      threads: 1,
      slots: tenants.map(({ tasks }, tenant) => ({
        ...{ tenant, body: 0, begin: 0, end: blocks, blocks },
        ...{ operands: tasks[n]!.operands, sizes: [length] },
      })),
    }));
    for (const lanes of [0, 1]) {
      const engine = engineOf(tenants, { lanes, program: device.createProgram(words) });
      await engine.drive(...together(60, 60, 60));
      expect(engine.stats().rounds).toBeGreaterThan(20);
      // In the midst of others.
      for (let turn = 0; turn < 20; turn++)
        await Promise.all([0, 1, 2, 0, 1, 2, 0].map((tenant, n) => request(engine, tenant, 7 * turn + n)));
      expect(engine.stats().requests).toBe(180 + 140);
      engine.close();
    }
  });

  it('have arenas that are buffers of one size, as many for each tenant', () => {
    const [one, other] = [palindrome(2), palindrome(2)];
    const make = (arenas: NativeEngineTenant['arenas']) => () =>
      engineOf([one, { ...other, arenas: arenas! }]);
    const [first] = other.arenas!;
    expect(make([first!])).toThrow('tenants[1].arenas must be as many as');
    expect(make([first!, device.allocate(part)])).toThrow(/arenas\[1\] must be of 768 bytes/);
    expect(make([first!, first!])).toThrow(/arenas\[1\] must be a buffer that is no arena yet/);
    expect(make([one.arenas![0]!, other.arenas![1]!])).toThrow(
      /arenas\[0\] must be a buffer that is no arena yet/,
    );
    const inputs = other.inputs.map((port) => ({ ...port, buffer: other.arenas![1]! }));
    expect(() => engineOf([one, { ...other, inputs }])).toThrow(
      /inputs\[0\] must be in no arena but the first/,
    );
    expect(make(Array(17).fill(first!))).toThrow(/arenas/);
    expect(make([first!, {} as never])).toThrow(/arenas\[1\]/);
  });
});
