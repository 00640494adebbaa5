/** @file The issue engine on the host device, with kernels that show what ran when. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  loadNative,
  type NativeDevice,
  type NativeEngineSpec,
  type NativeEngineTenant,
} from '../../runtime/native.ts';
import { buildKernels, bytesOf, perBlock, upload, whole } from './support.ts';

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
const codeOf = (name: string, classes: readonly number[]) => ({
  code: device.load(kernels.path, name),
  threads: 1,
  sharedBytes: 0,
  classes,
  bodies: classes.map(() => 0),
});

/** x -> reverse(x) + x, in two tasks: class 0 reverses, class 1 adds. */
function palindrome(weight = 1): NativeEngineTenant {
  const [x, r, y] = [0, 1, 2].map(() => upload(device, new Float32Array(length)));
  const task = { blocks, blockNanoseconds: 1000, sizes: [length] };
  return {
    weight,
    inputs: [whole(x!)],
    outputs: [whole(y!)],
    tasks: [
      { ...task, class: 0, operands: [whole(x!), whole(r!)] },
      { ...task, class: 1, operands: [whole(r!), whole(x!), whole(y!)] },
    ],
  };
}

const limits = { boundNanoseconds: 1e9, stretch: 4, launchNanoseconds: 1000, ahead: 1 };
const specOf = (
  tenants: readonly NativeEngineTenant[],
  more: Partial<NativeEngineSpec> = {},
): NativeEngineSpec => ({
  classes: 2,
  tenants,
  codes: [codeOf('reverse', [0]), codeOf('add', [1])],
  ...limits,
  ...more,
});

const inputOf = (seed: number): Float32Array => Float32Array.from({ length }, (_, n) => seed * 100 + n);
const expectedOf = (x: Float32Array): number[] => [...x].map((v, n) => v + x[length - 1 - n]!);

async function request(engine: ReturnType<NativeDevice['createEngine']>, tenant: number, seed: number) {
  const x = inputOf(seed);
  const y = new Float32Array(length);
  await engine.submit(tenant, [bytesOf(x)], [bytesOf(y)]);
  expect([...y]).toEqual(expectedOf(x));
}

describe('the issue engine', () => {
  it('serves requests of all tenants', async () => {
    const engine = device.createEngine(specOf([palindrome(), palindrome(), palindrome()]));
    await Promise.all([0, 1, 2, 0, 1, 2].map((tenant, n) => request(engine, tenant, n + 1)));
    await request(engine, 1, 9);
    expect(engine.stats()).toMatchObject({ requests: 7, slots: 14, rounds: 0 });
    engine.close();
  });

  it('puts tasks of one class into one word, and a late request joins at the next word', async () => {
    const engine = device.createEngine(specOf([palindrome(), palindrome(), palindrome(), palindrome()]));
    engine.keepJournal(true);
    // All at once, without copies.
    await engine.drive(Float64Array.from([0, 0, 0, 0]), Uint32Array.from([0, 1, 2, 3]));
    const { words, slots } = engine.takeJournal();
    expect(words.length / 4).toBe(2);
    const tenantsIn = (word: number) =>
      [...Array(slots.length / 5).keys()].filter((n) => slots[5 * n] === word).map((n) => slots[5 * n + 1]);
    expect(tenantsIn(0)).toEqual([0, 1, 2, 3]);
    expect(tenantsIn(1)).toEqual([0, 1, 2, 3]);
    expect(engine.takeJournal().words.length).toBe(0);
    engine.close();
  });

  it('runs a task as the width of its word asks, and what was cut as it began', async () => {
    // Classes 2 and 3 are those of words of three slots and more, of half as many blocks.
    const wider = (t: NativeEngineTenant): NativeEngineTenant => ({
      ...t,
      tasks: t.tasks.map((task) => {
        const { class: own, ...same } = task;
        return { ...same, class: own, group: own, wider: [{ ...same, class: own + 2, from: 3 }] };
      }),
    });
    const codes = [0, 1, 2, 3].map((c) => codeOf(c % 2 === 0 ? 'reverse' : 'add', [c]));
    const tenants = [0, 1, 2, 3].map(() => wider(palindrome()));
    const engine = device.createEngine({ ...limits, classes: 4, tenants, codes });
    const slotsOf = async (count: number) => {
      const before = engine.stats().slotsOf;
      await engine.drive(
        new Float64Array(count),
        Uint32Array.from({ length: count }, (_, n) => n),
      );
      return [...engine.stats().slotsOf].map((n, c) => n - before[c]!);
    };
    expect(await slotsOf(1)).toEqual([1, 1, 0, 0]);
    expect(await slotsOf(2)).toEqual([2, 2, 0, 0]);
    expect(await slotsOf(3)).toEqual([0, 0, 3, 3]);
    expect(await slotsOf(4)).toEqual([0, 0, 4, 4]);
    await Promise.all([0, 1, 2, 3].map((tenant) => request(engine, tenant, tenant + 1)));
    engine.close();

    // Words have room for one slot each, however many are ready.
    const narrow = device.createEngine({ ...limits, stretch: 1, classes: 4, tenants, codes });
    await narrow.drive(new Float64Array(4), Uint32Array.from([0, 1, 2, 3]));
    expect(narrow.stats().slots).toBeGreaterThanOrEqual(8);
    narrow.close();

    const sliced = tenants.map((t) => ({
      ...t,
      tasks: t.tasks.map((task) => ({
        ...task,
        blockNanoseconds: 1e6,
        wider: task.wider!.map((w) => ({ ...w, blockNanoseconds: 1e6 })),
      })),
    }));
    const cut = device.createEngine({
      ...limits,
      boundNanoseconds: 1.5e6,
      classes: 4,
      tenants: sliced,
      codes,
    });
    for (const round of [1, 2, 3])
      await Promise.all([0, 1, 2, 3].map((tenant) => request(cut, tenant, 10 * round + tenant)));
    expect(cut.stats().slices).toBeGreaterThan(0);
    cut.close();

    const broken = (more: object): NativeEngineTenant => ({
      ...tenants[0]!,
      tasks: [{ ...tenants[0]!.tasks[0]!, ...more }],
    });
    const make = (tenant: NativeEngineTenant) => () =>
      device.createEngine({ ...limits, classes: 4, tenants: [tenant], codes });
    const [w] = tenants[0]!.tasks[0]!.wider!;
    expect(make(broken({ wider: [w!, w!] }))).toThrow(/wider\[1\].from must be/);
    expect(make(broken({ wider: [{ ...w!, from: 0 }] }))).toThrow(/wider\[0\].from must be/);
    expect(make(broken({ wider: [w!, { ...w!, from: 1 }] }))).toThrow(/wider\[1\].from must be/);
    expect(make(broken({ group: 4 }))).toThrow(/group must be/);
    expect(() =>
      device.createEngine({ ...limits, classes: 4, tenants: [tenants[0]!], codes: codes.slice(0, 3) }),
    ).toThrow(/class 3 has none/);
  });

  it('cuts what would take longer than the bound', async () => {
    const long = palindrome();
    const tasks = long.tasks.map((t) => ({ ...t, blockNanoseconds: 1e6 }));
    const engine = device.createEngine(specOf([{ ...long, tasks }], { boundNanoseconds: 1.5e6 }));
    engine.keepJournal(true);
    await request(engine, 0, 5);
    const { slots } = engine.takeJournal();
    const ranges = [...Array(slots.length / 5).keys()].map((n) => [
      slots[5 * n + 2],
      slots[5 * n + 3],
      slots[5 * n + 4],
    ]);
    expect(ranges.slice(0, 2)).toEqual([
      [0, 0, 2],
      [0, 2, 3],
    ]);
    expect(engine.stats().slices).toBeGreaterThanOrEqual(1);
    engine.close();
  });

  it('runs words on code added later that serves more of what is ready', async () => {
    const [one, other] = [palindrome(), palindrome()];
    const engine = device.createEngine(specOf([one, { ...other, tasks: [...other.tasks].reverse() }]));
    engine.keepJournal(true);
    const codes = async () => {
      await engine.drive(Float64Array.from([0, 0]), Uint32Array.from([0, 1]));
      const { words } = engine.takeJournal();
      return [...Array(words.length / 4).keys()].map((n) => words[4 * n + 3]);
    };
    expect(new Set(await codes())).toEqual(new Set([0, 1]));
    const { wishes } = engine.stats();
    expect([...wishes.slice(0, 2)]).toEqual([0, 1]);
    expect(wishes[2]).toBeGreaterThan(0);
    engine.addCode(codeOf('nothing', [0, 1]));
    expect(await codes()).toEqual([2, 2]);
    expect([...engine.stats().wishes]).toEqual([...wishes]);
    engine.close();
  });

  it('shares the device by weight among tenants that always have a request', async () => {
    const count = device.allocate(4);
    const napper = (weight: number): NativeEngineTenant => ({
      weight,
      inputs: [],
      outputs: [],
      tasks: [{ class: 0, blocks: 1, blockNanoseconds: 1e6, operands: [whole(count)], sizes: [1] }],
    });
    const engine = device.createEngine({
      ...limits,
      stretch: 1,
      boundNanoseconds: 1e6,
      classes: 1,
      tenants: [napper(1), napper(3)],
      codes: [codeOf('nap', [0])],
    });
    const each = 24;
    const latencies = await engine.drive(
      new Float64Array(2 * each),
      Uint32Array.from({ length: 2 * each }, (_, n) => n % 2),
    );
    const of = (tenant: number) => [...latencies].filter((_, n) => n % 2 === tenant);
    // When the tenant of three shares is done, the other has had a third as much.
    const end = Math.max(...of(1));
    const others = of(0).filter((ms) => ms <= end).length;
    expect(others).toBeGreaterThanOrEqual(each / 3 - 3);
    expect(others).toBeLessThanOrEqual(each / 3 + 3);
    engine.close();
  });

  it('runs rounds of a program where all tenants are there all the time', async () => {
    const tenants = [palindrome(), palindrome(), palindrome(), palindrome()];
    const words = [0, 1].map((n) => ({
      code: device.load(kernels.path, n === 0 ? 'reverse' : 'add'),
      threads: 1,
      slots: tenants.map(({ tasks }, tenant) => ({
        ...{ tenant, body: 0, begin: 0, end: blocks, blocks },
        operands: tasks[n]!.operands,
        sizes: [length],
      })),
    }));
    const engine = device.createEngine(specOf(tenants, { program: device.createProgram(words) }));
    const rounds = 50;
    await engine.drive(
      new Float64Array(4 * rounds),
      Uint32Array.from({ length: 4 * rounds }, (_, n) => n % 4),
    );
    const stats = engine.stats();
    expect(stats.requests).toBe(4 * rounds);
    expect(stats.rounds).toBeGreaterThan(rounds / 2);
    // And a single request is served by itself again.
    await request(engine, 2, 7);
    engine.close();
  });

  it('runs no rounds where tenants have unequal shares', async () => {
    const tenants = [palindrome(1), palindrome(3)];
    const words = [0, 1].map((n) => ({
      code: device.load(kernels.path, n === 0 ? 'reverse' : 'add'),
      threads: 1,
      slots: tenants.map(({ tasks }, tenant) => ({
        ...{ tenant, body: 0, begin: 0, end: blocks, blocks },
        operands: tasks[n]!.operands,
        sizes: [length],
      })),
    }));
    const engine = device.createEngine(specOf(tenants, { program: device.createProgram(words) }));
    await engine.drive(
      new Float64Array(100),
      Uint32Array.from({ length: 100 }, (_, n) => n % 2),
    );
    expect(engine.stats()).toMatchObject({ requests: 100, rounds: 0 });
    engine.close();
  });

  it('shares by what requests turn out to take, not by what was thought', async () => {
    const count = device.allocate(4);
    // Both are thought to take the same; the second takes four times as long.
    const napper = (ms: number): NativeEngineTenant => ({
      ...{ weight: 1, inputs: [], outputs: [] },
      tasks: [{ class: 0, blocks: 1, blockNanoseconds: 1e6, operands: [whole(count)], sizes: [ms] }],
    });
    const engine = device.createEngine({
      ...limits,
      ...{ stretch: 1, boundNanoseconds: 1e6, classes: 1 },
      tenants: [napper(1), napper(4)],
      codes: [codeOf('nap', [0])],
    });
    const each = 60;
    engine.keepJournal(true);
    await engine.drive(
      new Float64Array(2 * each),
      Uint32Array.from({ length: 2 * each }, (_, n) => n % 2),
    );
    const { requests } = engine.takeJournal();
    expect(requests.length).toBe(4 * 2 * each);
    const order = [...Array(2 * each).keys()].map((n) => requests[4 * n]!);
    // Once that is known, the short ones get several requests for each of the long ones.
    const last = order.lastIndexOf(0);
    const long = order.slice(0, last).filter((tenant) => tenant === 1).length;
    expect(long).toBeLessThan(each / 2);
    expect(long).toBeGreaterThan(each / 8);
    engine.close();
  });

  it('serves driven requests that have to wait for the places of others', async () => {
    const engine = device.createEngine(specOf([palindrome()]));
    const others = [request(engine, 0, 1), request(engine, 0, 2)];
    const latencies = await engine.drive(Float64Array.from([0, 0, 0]), Uint32Array.from([0, 0, 0]));
    expect([...latencies].every((ms) => ms > 0)).toBe(true);
    await Promise.all(others);
    expect(engine.stats().requests).toBe(5);
    engine.close();
  });

  it('keeps when requests came, began and ended', async () => {
    const engine = device.createEngine(specOf([palindrome(), palindrome()]));
    await request(engine, 0, 1);
    engine.keepJournal(true);
    await Promise.all([request(engine, 0, 2), request(engine, 1, 3)]);
    const { requests, words } = engine.takeJournal();
    expect([requests[0], requests[4]].sort()).toEqual([0, 1]);
    for (const at of [0, 4]) {
      const [queued, began, ended] = requests.slice(at + 1, at + 4) as unknown as [number, number, number];
      expect(began).toBeGreaterThanOrEqual(queued);
      expect(ended).toBeGreaterThan(began);
      const issued = [...Array(words.length / 4).keys()].map((n) => words[4 * n]!);
      expect(issued).toContain(began);
    }
    expect(engine.takeJournal().requests.length).toBe(0);
    engine.close();
  });

  it('stands arrays that close it, or change, while they are read', async () => {
    const [x, y] = [bytesOf(inputOf(1)), new Uint8Array(4 * length)];
    const trap = (act: () => void, value: Uint8Array) =>
      Object.defineProperty([], 0, {
        get: () => {
          act();
          return value;
        },
        enumerable: true,
      }) as unknown as Uint8Array[];
    const closing = device.createEngine(specOf([palindrome()]));
    await expect(
      closing.submit(
        0,
        trap(() => closing.close(), x),
        [y],
      ),
    ).rejects.toThrow('the engine is closed');
    const engine = device.createEngine(specOf([palindrome()]));
    // Of the right size when it is looked at, and longer before it is copied.
    const growing = new (
      ArrayBuffer as unknown as new (
        n: number,
        o: object,
      ) => ArrayBuffer & { resize(n: number): void }
    )(4 * length, { maxByteLength: 1 << 20 });
    const reads = trap(() => growing.resize(1 << 20), y);
    await expect(engine.submit(0, [new Uint8Array(growing)], reads)).rejects.toThrow(
      'writes[0] must be of 160 bytes',
    );
    const code = codeOf('reverse', [0]);
    const trapped = {
      ...code,
      bodies: trap(() => engine.close(), 0 as unknown as Uint8Array) as unknown as number[],
    };
    expect(() => engine.addCode(trapped)).toThrow('the engine is closed');
  });

  it('rejects what is under way when it is closed, and everything after', async () => {
    const count = device.allocate(4);
    const engine = device.createEngine({
      ...limits,
      classes: 1,
      tenants: [
        {
          weight: 1,
          inputs: [],
          outputs: [],
          tasks: Array.from({ length: 50 }, () => ({
            ...{ class: 0, blocks: 1, blockNanoseconds: 1e6 },
            operands: [whole(count)],
            sizes: [2],
          })),
        },
      ],
      codes: [codeOf('nap', [0])],
    });
    const first = engine.submit(0, [], []);
    const second = engine.submit(0, [], []);
    await expect(engine.submit(0, [], [])).rejects.toThrow(
      'tenant must be one with fewer than 2 requests under way',
    );
    const driven = engine.drive(Float64Array.from([1e6]), Uint32Array.from([0]));
    engine.close();
    await expect(first).rejects.toThrow('the engine is closed');
    await expect(second).rejects.toThrow('the engine is closed');
    await expect(driven).rejects.toThrow('the engine is closed');
    await expect(engine.submit(0, [], [])).rejects.toThrow('the engine is closed');
    expect(() => engine.stats()).toThrow('the engine is closed');
  });

  it('says in one line what is wrong with what it is given', async () => {
    const spec = specOf([palindrome()]);
    const tenant = spec.tenants[0]!;
    const task = tenant.tasks[0]!;
    const cases: readonly [object, string][] = [
      [{ classes: 0 }, 'engine.classes must be an integer from 1'],
      [{ tenants: [] }, 'engine.tenants must be at least one tenant'],
      [{ codes: [codeOf('reverse', [0])] }, 'class 1 has none'],
      [{ codes: [codeOf('reverse', [2])] }, 'engine.codes[0].classes[0] must be an integer from 0 to 1'],
      [{ stretch: 0.5 }, 'engine.stretch must be a number from 1'],
      [{ stretch: Number.NaN }, 'engine.stretch must be a number from 1'],
      [{ ahead: 17 }, 'engine.ahead must be an integer from 1 to 16'],
      [{ tenants: [{ ...tenant, weight: 0 }] }, 'engine.tenants[0].weight must be a number'],
      [
        { tenants: [{ ...tenant, tasks: [{ ...task, class: 2 }] }] },
        'engine.tenants[0].tasks[0].class must be',
      ],
      [
        { tenants: [{ ...tenant, tasks: [{ ...task, blocks: 0 }] }] },
        'engine.tenants[0].tasks[0].blocks must be',
      ],
      [
        { tenants: [{ ...tenant, inputs: [{ ...tenant.inputs[0]!, bytes: 1e6 }] }] },
        "engine.tenants[0].inputs[0] must be within the buffer's",
      ],
      [{ program: {} }, "engine.program must be a program made by a device's createProgram()"],
    ];
    for (const [wrong, message] of cases)
      expect(() => device.createEngine({ ...spec, ...wrong } as NativeEngineSpec)).toThrow(message);
    const engine = device.createEngine(spec);
    const wrong = new Uint8Array(3);
    await expect(engine.submit(1, [], [])).rejects.toThrow('tenant must be an integer from 0 to 0');
    await expect(engine.submit(0, [], [])).rejects.toThrow('writes must be one for each port, 1');
    await expect(engine.submit(0, [wrong], [wrong])).rejects.toThrow('writes[0] must be of 160 bytes');
    await expect(engine.drive(Float64Array.from([1, 0]), Uint32Array.from([0, 0]))).rejects.toThrow(
      'ascending',
    );
    await expect(engine.drive(Float64Array.from([0]), Uint32Array.from([1]))).rejects.toThrow('below 1');
    engine.close();
  });
});

describe('what goes into a word', () => {
  interface Load {
    readonly kernelClass?: number;
    readonly blocks: number;
    readonly blockNanoseconds: number;
  }
  /** Tenants of one task each, that all come at once; on code of which every one serves all classes. */
  async function wordsOf(loads: readonly Load[], more: Partial<NativeEngineSpec>) {
    const operands = [whole(device.allocate(4))];
    const classes = Math.max(...loads.map((l) => l.kernelClass ?? 0)) + 1;
    const engine = device.createEngine({
      ...{ ...limits, classes, launchNanoseconds: 1000 },
      tenants: loads.map(({ kernelClass = 0, blocks, blockNanoseconds }) => ({
        ...{ weight: 1, inputs: [], outputs: [] },
        tasks: [{ class: kernelClass, blocks, blockNanoseconds, operands, sizes: [] }],
      })),
      codes: [codeOf('nothing', [...Array(classes).keys()])],
      ...more,
    });
    engine.keepJournal(true);
    await engine.drive(new Float64Array(loads.length), Uint32Array.from(loads.keys()));
    const { words, slots } = engine.takeJournal();
    const { slices } = engine.stats();
    engine.close();
    return {
      slices,
      expected: [...Array(words.length / 4).keys()].map((n) => words[4 * n + 2]!),
      words: [...Array(words.length / 4).keys()].map((word) =>
        [...Array(slots.length / 5).keys()]
          .filter((n) => slots[5 * n] === word)
          .map((n) => [slots[5 * n + 1]!, slots[5 * n + 3]!, slots[5 * n + 4]!]),
      ),
    };
  }

  it('at stretch 1 only what is there while the first runs anyway; at a large one everything', async () => {
    // Two blocks run at a time: the first leaves one of its four places free.
    const loads = [
      { blocks: 3, blockNanoseconds: 1e5 },
      { blocks: 1, blockNanoseconds: 1e5 },
      { blocks: 2, blockNanoseconds: 1e5 },
    ];
    const short = await wordsOf(loads, { stretch: 1 });
    expect(short.words[0]).toEqual([
      [0, 0, 3],
      [1, 0, 1],
    ]);
    expect(short.words).toHaveLength(2);
    const long = await wordsOf(loads, { stretch: 100 });
    expect(long.words).toEqual([
      [
        [0, 0, 3],
        [1, 0, 1],
        [2, 0, 2],
      ],
    ]);
    expect(long.expected[0]).toBeCloseTo(1000 + 3e5, 3);
  });

  it('never cuts the first at stretch 1, whatever its times come to in floating point', async () => {
    let seed = 1;
    for (let n = 0; n < 300; n++) {
      seed = (seed * 48271) % 0x7fffffff;
      const [launch, block] = [(seed % 9973) / 7, 1 + (seed % 99991) / 3];
      const blocks = 1 + (seed % 31);
      const { slices } = await wordsOf([{ blocks, blockNanoseconds: block }], {
        ...{ stretch: 1, boundNanoseconds: 1e15, launchNanoseconds: launch },
      });
      expect(slices, `${blocks} blocks of ${block} ns, ${launch} ns for the launch`).toBe(0);
    }
  });

  it('goes by the bound, but for a wave of the first', async () => {
    const long = { blocks: 8, blockNanoseconds: 1e6 };
    // Room for four blocks at two a time.
    const cut = await wordsOf([long, { blocks: 2, blockNanoseconds: 1e6 }], {
      ...{ boundNanoseconds: 2e6 + 1000, stretch: 100 },
    });
    expect(cut.words[0]).toEqual([[0, 0, 4]]);
    expect(cut.expected[0]).toBeLessThanOrEqual(2e6 + 1000);
    // One block takes longer than the bound; two take no longer than one.
    const wave = await wordsOf([long], { boundNanoseconds: 1e5 });
    expect(wave.words[0]).toEqual([[0, 0, 2]]);
    expect((await wordsOf([{ blocks: 1, blockNanoseconds: 1e6 }], { boundNanoseconds: 1 })).words).toEqual([
      [[0, 0, 1]],
    ]);
  });

  it('takes no small part of a task', async () => {
    const wide = loadNative().openHost(16);
    try {
      const operands = [whole(wide.allocate(4))];
      const firstWord = async (blocks: readonly [number, number]) => {
        const engine = wide.createEngine({
          ...{ ...limits, classes: 1, launchNanoseconds: 0, stretch: 1 },
          tenants: blocks.map((count) => ({
            ...{ weight: 1, inputs: [], outputs: [] },
            tasks: [{ class: 0, blocks: count, blockNanoseconds: 1e6, operands, sizes: [] }],
          })),
          codes: [{ ...codeOf('nothing', [0]), code: wide.load(kernels.path, 'nothing') }],
        });
        engine.keepJournal(true);
        await engine.drive(new Float64Array(2), Uint32Array.from([0, 1]));
        const { slots } = engine.takeJournal();
        engine.close();
        return [...Array(slots.length / 5).keys()]
          .filter((n) => slots[5 * n] === 0)
          .map((n) => [slots[5 * n + 1], slots[5 * n + 4]! - slots[5 * n + 3]!]);
      };
      // Sixteen places: three are left, four are left, and three are enough for all of the other.
      expect(await firstWord([13, 8])).toEqual([[0, 13]]);
      expect(await firstWord([12, 8])).toEqual([
        [0, 12],
        [1, 4],
      ]);
      expect(await firstWord([13, 3])).toEqual([
        [0, 13],
        [1, 3],
      ]);
    } finally {
      wide.close();
    }
  });

  it('serves requests that no code has beside the first by words of their own', async () => {
    const loads = [0, 1, 0].map((kernelClass) => ({ kernelClass, blocks: 1, blockNanoseconds: 1e5 }));
    const { words } = await wordsOf(loads, {
      ...{ stretch: 100, codes: [codeOf('nothing', [0]), codeOf('nothing', [1])] },
    });
    expect(words.map((slots) => slots.map(([tenant]) => tenant))).toEqual([[0, 2], [1]]);
  });

  it('expects some time of blocks, however little a word takes beside what is thought of a launch', async () => {
    const operands = [whole(device.allocate(4))];
    const engine = device.createEngine({
      ...{ ...limits, classes: 1, launchNanoseconds: 1e9, boundNanoseconds: 1e12 },
      tenants: [
        {
          weight: 1,
          inputs: [],
          outputs: [],
          tasks: [{ class: 0, blocks: 9, blockNanoseconds: 1, operands, sizes: [] }],
        },
      ],
      codes: [codeOf('nothing', [0])],
    });
    engine.keepJournal(true);
    await engine.drive(new Float64Array(5000), new Uint32Array(5000));
    expect(engine.stats()).toMatchObject({ requests: 5000, words: 5000, slices: 0 });
    const { words } = engine.takeJournal();
    // Five waves of the least.
    expect(words.at(-2)! - 1e9).toBeCloseTo(5e-3, 6);
    engine.close();
  });
});
