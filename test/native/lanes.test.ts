/** @file Cohorts of the issue engine: on the host device, and several lanes against the stand-in for the CUDA driver. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  loadNative,
  type NativeDevice,
  type NativeEngineSpec,
  type NativeEngineTenant,
  type NativeJournal,
} from '../../runtime/native.ts';
import { buildFakeDriver, type FakeDriver } from './fake_driver.ts';
import { buildKernels, bytesOf, downloadInts, perBlock, upload, whole } from './support.ts';

const limits = { boundNanoseconds: 1e15, stretch: 4, launchNanoseconds: 1000, ahead: 1, lanes: 1 };

/** Whom each word, round or cohort served, and which of these it was. */
function entriesOf({ words, slots }: NativeJournal) {
  return [...Array(words.length / 4).keys()].map((word) => ({
    code: words[4 * word + 3]!,
    tenants: [...Array(slots.length / 5).keys()]
      .filter((n) => slots[5 * n] === word)
      .map((n) => slots[5 * n + 1]!),
  }));
}

describe('cohorts on the host', () => {
  const kernels = buildKernels();
  let device: NativeDevice;
  beforeAll(() => {
    device = loadNative().openHost(2);
  });
  afterAll(() => {
    device.close();
    kernels.remove();
  });
  const codeOf = (name: string, classes: readonly number[]) => ({
    ...{ code: device.load(kernels.path, name), threads: 1, sharedBytes: 0 },
    ...{ classes, bodies: classes.map(() => 0) },
  });
  const length = 40;
  const blocks = Math.ceil(length / perBlock);

  /** x -> reverse(x) + x in two tasks of classes 0 and 1, or three with a second reversal before. */
  function palindrome(more: { readonly weight?: number; readonly again?: boolean } = {}): NativeEngineTenant {
    const [x, r, y] = [0, 1, 2].map(() => whole(upload(device, new Float32Array(length))));
    const task = { blocks, blockNanoseconds: 1000, sizes: [length] };
    const reverse = { ...task, class: 0, operands: [x!, r!] };
    return {
      ...{ weight: more.weight ?? 1, inputs: [x!], outputs: [y!] },
      tasks: [...(more.again ? [reverse] : []), reverse, { ...task, class: 1, operands: [r!, x!, y!] }],
    };
  }
  const specOf = (
    tenants: readonly NativeEngineTenant[],
    more: Partial<NativeEngineSpec> = {},
  ): NativeEngineSpec => ({
    ...{ ...limits, classes: 2, tenants },
    codes: [codeOf('reverse', [0]), codeOf('add', [1])],
    ...more,
  });
  async function request(engine: ReturnType<NativeDevice['createEngine']>, tenant: number, seed: number) {
    const x = Float32Array.from({ length }, (_, n) => seed * 100 + n);
    const y = new Float32Array(length);
    await engine.submit(tenant, [bytesOf(x)], [bytesOf(y)]);
    expect([...y]).toEqual([...x].map((v, n) => v + x[length - 1 - n]!));
  }

  it('serve every tenant, in groups of like ones, the first that came first', async () => {
    const tenants = [1, 2, 3, 4, 5].map((n) => palindrome({ again: n % 2 === 0 }));
    const engine = device.createEngine(specOf(tenants));
    for (const tenant of tenants.keys()) await request(engine, tenant, tenant + 1);
    await Promise.all([0, 1, 2, 3, 4, 0, 1, 2, 3, 4].map((tenant, n) => request(engine, tenant, n + 7)));
    engine.keepJournal(true);
    await engine.drive(new Float64Array(5), Uint32Array.from([3, 0, 1, 2, 4]));
    const entries = entriesOf(engine.takeJournal());
    expect(entries).toEqual([
      { code: -2, tenants: [1, 3] },
      { code: -2, tenants: [0, 2, 4] },
    ]);
    const stats = engine.stats();
    expect(stats).toMatchObject({ requests: 20, cohortRequests: 20, words: 0, rounds: 0 });
    expect(stats.cohortIssueNanoseconds).toBeGreaterThan(0);
    engine.close();
  });

  it('run each task as their width asks, every virtual block once, and leave alone who is not there', async () => {
    // From three slots on another variant, of fewer blocks, which counts elsewhere.
    const count = 7;
    const buffers = Array.from({ length: count }, () => ({
      narrow: device.allocate(4 * 6),
      wide: device.allocate(4 * 5),
      marks: device.allocate(4 * count * 6),
    }));
    const tenants = buffers.map(({ narrow, wide, marks }): NativeEngineTenant => {
      const task = { blockNanoseconds: 1000, sizes: [] };
      const wider = [{ ...task, from: 3, class: 1, blocks: 5, operands: [whole(wide), whole(marks)] }];
      const first = { ...task, class: 0, blocks: 6, operands: [whole(narrow), whole(marks)], wider };
      return { weight: 1, inputs: [], outputs: [], tasks: [first, first] };
    });
    const codes = [codeOf('visit', [0]), codeOf('visit', [1])];
    const engine = device.createEngine({ ...limits, classes: 2, tenants, codes });
    const expected = buffers.map(() => ({ narrow: 0, wide: 0 }));
    const present = [[3], [6, 0], [5, 1, 2], [0, 2, 4, 6], [6, 5, 4, 3, 2], [0, 1, 2, 3, 4, 5, 6], [3]];
    for (const together of present) {
      await engine.drive(new Float64Array(together.length), Uint32Array.from(together));
      for (const tenant of together) expected[tenant]![together.length < 3 ? 'narrow' : 'wide'] += 2;
      for (const [tenant, { narrow, wide }] of buffers.entries()) {
        expect([...downloadInts(device, narrow)]).toEqual(Array(6).fill(expected[tenant]!.narrow));
        expect([...downloadInts(device, wide)]).toEqual(Array(5).fill(expected[tenant]!.wide));
      }
    }
    expect(engine.stats()).toMatchObject({ cohorts: present.length, cohortRequests: present.flat().length });
    engine.close();
  });

  it('are as wide as slots go in a word, and no wider', async () => {
    const tenants = Array.from({ length: 40 }, () => palindrome());
    const engine = device.createEngine(specOf(tenants));
    engine.keepJournal(true);
    await engine.drive(new Float64Array(40), Uint32Array.from(tenants.keys()));
    expect(entriesOf(engine.takeJournal()).map((e) => e.tenants.length)).toEqual([32, 8]);
    await Promise.all(tenants.map((_, tenant) => request(engine, tenant, tenant)));
    engine.close();
  });

  it('run on the last code of a class that the engine was made with', async () => {
    const codes = [codeOf('nothing', [0, 1]), codeOf('reverse', [0]), codeOf('add', [1])];
    const engine = device.createEngine(specOf([palindrome(), palindrome()], { codes }));
    engine.addCode(codeOf('nothing', [0, 1]));
    await Promise.all([request(engine, 0, 1), request(engine, 1, 2)]);
    engine.close();
  });

  it('are not for tenants of unequal shares, nor where nobody asked for them', async () => {
    const two = [palindrome({ weight: 1 }), palindrome({ weight: 2 })];
    const same = [palindrome({ weight: 2 }), palindrome({ weight: 2 })];
    const cohortsOf = async (spec: NativeEngineSpec) => {
      const engine = device.createEngine(spec);
      await Promise.all([request(engine, 0, 1), request(engine, 1, 2)]);
      const { cohorts, words } = engine.stats();
      expect(cohorts === 0).toBe(words > 0);
      engine.close();
      return cohorts;
    };
    expect(await cohortsOf(specOf(two))).toBe(0);
    expect(await cohortsOf(specOf(same))).toBeGreaterThan(0);
    expect(await cohortsOf(specOf(same, { lanes: 0 }))).toBe(0);
    for (const lanes of [-1, 17, 1.5, true as unknown as number])
      expect(() => device.createEngine(specOf(same, { lanes }))).toThrow('engine.lanes must be');
  });

  it('are not for chains that would take too much to capture', async () => {
    const operands = [whole(device.allocate(4))];
    const task = { class: 0, blocks: 1, blockNanoseconds: 1000, operands, sizes: [] };
    const cohortsOf = async (count: number) => {
      const tenant = { weight: 1, inputs: [], outputs: [], tasks: Array(count).fill(task) };
      const engine = device.createEngine({
        ...{ ...limits, classes: 1, tenants: [tenant] },
        codes: [codeOf('nothing', [0])],
      });
      await engine.submit(0, [], []);
      const { cohorts, words } = engine.stats();
      engine.close();
      return [cohorts, words];
    };
    expect(await cohortsOf(1 << 14)).toEqual([1, 0]);
    expect(await cohortsOf((1 << 14) + 1)).toEqual([0, (1 << 14) + 1]);
  });

  it('serve models without kernels, and nobody else', async () => {
    const empty = { weight: 1, inputs: [], outputs: [], tasks: [] };
    const alone = device.createEngine(specOf([empty]));
    await alone.submit(0, [], []);
    alone.close();
    const engine = device.createEngine(specOf([empty, palindrome()]));
    await Promise.all([engine.submit(0, [], []), request(engine, 1, 3)]);
    expect(engine.stats()).toMatchObject({ requests: 2, cohorts: 1, cohortRequests: 1 });
    engine.close();
  });

  /** An engine that may run rounds of all these tenants as well. */
  function withRounds(tenants: readonly NativeEngineTenant[]) {
    const words = [0, 1].map((n) => ({
      ...{ code: device.load(kernels.path, n === 0 ? 'reverse' : 'add'), threads: 1 },
      slots: tenants.map(({ tasks }, tenant) => ({
        ...{ tenant, body: 0, begin: 0, end: blocks, blocks },
        ...{ operands: tasks[n]!.operands, sizes: [length] },
      })),
    }));
    return device.createEngine(specOf(tenants, { program: device.createProgram(words) }));
  }

  it('give way to rounds where all tenants are there all the time, not for a moment, and come back', async () => {
    const tenants = [1, 2, 3, 4].map(() => palindrome());
    const engine = withRounds(tenants);
    const drive = (each: number) =>
      engine.drive(
        new Float64Array(4 * each),
        Uint32Array.from({ length: 4 * each }, (_, n) => n % 4),
      );
    await drive(2);
    expect(engine.stats()).toMatchObject({ rounds: 0, cohortRequests: 8 });
    const rounds = 100;
    await drive(rounds);
    const stats = engine.stats();
    expect(stats.requests).toBe(4 * rounds + 8);
    expect(stats.rounds).toBeGreaterThan(rounds / 2);
    expect(stats.words).toBe(0);
    await request(engine, 2, 7);
    expect(engine.stats().rounds).toBe(stats.rounds);
    // Many times from one to the other: everyone is there for a while, then one by one.
    const at = Array.from({ length: 30 }, (_, n) => Array(40).fill(n * 2)).flat();
    await engine.drive(
      Float64Array.from(at),
      Uint32Array.from(at, (_, n) => (n % 40 < 36 ? n % 4 : n % 3)),
    );
    expect(engine.stats().requests).toBe(4 * rounds + 9 + at.length);
    await Promise.all([0, 1, 2, 3, 0, 1, 2, 3].map((tenant, n) => request(engine, tenant, n)));
    engine.close();
  });

  it('are called off when the engine is closed', async () => {
    const counter = device.allocate(4);
    const naps = { class: 0, blocks: 1, blockNanoseconds: 1e6, operands: [whole(counter)], sizes: [5] };
    const tenant = { weight: 1, inputs: [], outputs: [], tasks: Array(4).fill(naps) };
    const engine = device.createEngine({
      ...{ ...limits, classes: 1, tenants: [tenant, { ...tenant, tasks: [naps] }] },
      codes: [codeOf('nap', [0])],
    });
    const submits = [0, 0, 1, 1].map((t) => engine.submit(t, [], []));
    const driven = engine.drive(Float64Array.from([0, 1e6]), Uint32Array.from([0, 0]));
    engine.close();
    const ends = await Promise.allSettled([...submits, driven]);
    const problems = ends.flatMap((e) => (e.status === 'rejected' ? [e.reason.message] : []));
    expect(new Set(problems)).toEqual(new Set(['the engine is closed']));
    expect(ends.at(-1)!.status).toBe('rejected');
  });
});

describe('lanes on the fake driver', () => {
  let fake: FakeDriver;
  beforeAll(() => {
    fake = buildFakeDriver();
  });
  afterAll(() => fake.remove());

  /** Tenants a to g of one model, c = a + b twice; the second sum has a variant from three slots on. */
  const lanes = `
    function serving(device, count, more = {}) {
      const code = device.load(image, 'add');
      const tenants = Array.from({ length: count }, (_, n) => {
        const [a, b, c] = [[n, 1, 2, 3], [10, 20, 30, 40], [0, 0, 0, 0]].map((values) => upload(device, values));
        const task = { class: 0, blocks: 4, blockNanoseconds: 1000, operands: [a, b, c].map(whole), sizes: [4] };
        return { weight: 1, inputs: [whole(a), whole(b)], outputs: [whole(c)], tasks: [task,
          { ...task, group: 1, wider: [{ ...task, class: 1, from: 3 }] }] };
      });
      const engine = device.createEngine({
        ...{ classes: 2, boundNanoseconds: 1e15, stretch: 2, launchNanoseconds: 1000, ahead: 2, lanes: 4 },
        codes: [0, 1].map((n) => ({ code, threads: 128, sharedBytes: n * 100 * 1024, classes: [n], bodies: [0] })),
        tenants, ...more,
      });
      engine.keepJournal(true);
      return { engine, tenants };
    }
    const drive = (engine, at, tenants) => engine.drive(Float64Array.from(at), Uint32Array.from(tenants));
    const cohorts = (engine) => {
      const { words, slots } = engine.takeJournal();
      return Array.from({ length: words.length / 4 }, (_, w) => (words[4 * w + 3] === -2 ? '' : 'other ') +
        Array.from(slots).filter((_, i) => i % 5 === 1 && slots[i - 1] === w).join('+')).join(' ');
    };
    async function request(engine, tenant, x) {
      const out = new Float32Array(4);
      await engine.submit(tenant, [[x, x, x, x], [1, 2, 3, 4]].map((v) => bytes(Float32Array.from(v))), [bytes(out)]);
      return out.join();
    }`;

  it('run one request under another variant where others run beside it', () => {
    // The first task leaves its sums in c by itself, in d beside others. Tenants of two models, so that none shares a cohort.
    const { printed } = fake.run(`${lanes}
      const device = native.openCuda(0);
      const code = device.load(image, 'add');
      const ds = [0, 1].map(() => upload(device, [0, 0, 0, 0]));
      const { tenants } = serving(device, 2);
      tenants.forEach((t, n) => {
        const [first] = t.tasks;
        const beside = { ...first, class: 1, from: 1, operands: [...first.operands.slice(0, 2), whole(ds[n])] };
        t.tasks = Array(n + 1).fill({ ...first, wider: [beside, { ...beside, from: 2 }] });
      });
      const { engine } = serving(device, 1, { tenants });
      const left = () => tenants.map((t, n) => [t.outputs[0].buffer, ds[n]].map((buffer) => {
        const sum = download(device, buffer).split(',')[0];
        device.write({ buffer, offset: 0, data: new Uint8Array(16) });
        return sum;
      }).join('/')).join(' ');
      for (const who of [[0], [1], [0, 1], [1, 0], [1]]) {
        await drive(engine, who.map(() => 0), who);
        print(cohorts(engine) + ': ' + left());
      }
      engine.close();
      device.close();`);
    expect(printed.split('\n')).toEqual([
      '0: 10/0 0/0',
      '1: 0/0 11/0',
      '0 1: 10/0 0/11',
      '1 0: 0/10 11/0',
      '1: 0/0 11/0',
      '',
    ]);
  });

  it('run cohorts of every width, captured once each, and leave nothing behind', () => {
    const { printed, log } = fake.run(`${lanes}
      const device = native.openCuda(0);
      const { engine, tenants } = serving(device, 7);
      for (const who of [[4], [5, 1], [6, 0, 2], [3, 2, 1, 0], [6, 5, 4, 3, 2, 1], [0, 1, 2, 3, 4, 5, 6], [4], [5]]) {
        for (const t of tenants) device.write({ buffer: t.outputs[0].buffer, offset: 0, data: new Uint8Array(16) });
        await drive(engine, who.map(() => 0), who);
        print(cohorts(engine) + ': ' + tenants.map((t) => download(device, t.outputs[0].buffer).split(',')[0]).join());
      }
      print((await Promise.all([1, 2, 3, 1].map((tenant, n) => request(engine, tenant, 10 * n)))).join(' '));
      const { requests, cohorts: count, cohortRequests, words } = engine.stats();
      print([requests, count > 8, cohortRequests, words].join());
      engine.close();
      device.close();`);
    expect(printed.split('\n')).toEqual([
      '4: 0,0,0,0,14,0,0',
      '1+5: 0,11,0,0,0,15,0',
      '0+2+6: 10,0,12,0,0,0,16',
      '0+1+2+3: 10,11,12,13,0,0,0',
      '1+2+3+4+5+6: 0,11,12,13,14,15,16',
      '0+1+2+3+4+5+6: 10,11,12,13,14,15,16',
      '4: 0,0,0,0,14,0,0',
      '5: 0,0,0,0,0,15,0',
      '1,2,3,4 11,12,13,14 21,22,23,24 31,32,33,34',
      '29,true,29,0',
      '',
    ]);
    // Widths 1, 2, 4 and 7 on four lanes.
    expect(log).toMatch(/^contexts 1, allocations \d+, modules 1, graphs 16, launches \d+, complaints 0\n$/);
  });

  it('end in any order, and the next cohort is of all who came while none was free', () => {
    const { printed, log } = fake.run(`${lanes}
      const device = native.openCuda(0);
      const { tenants } = serving(device, 8);
      // Without copies, so that the only events are ends of cohorts.
      const { engine } = serving(device, 0, { tenants: tenants.map((t) => ({ ...t, inputs: [], outputs: [] })) });
      const reaches = async (what, count) => {
        while (engine.stats()[what] < count) await new Promise((wake) => setTimeout(wake, 1));
      };
      const play = async (asks, together) => {
        process.env.FAKE_CUDA_ASKS = asks.join();
        const { cohorts: before, requests } = engine.stats();
        const all = [];
        for (const [n, tenant] of together.entries()) {
          all.push(engine.submit(tenant, [], []));
          await reaches('requests', requests + n + 1);
          if (n < 4) await reaches('cohorts', before + n + 1);
        }
        await Promise.all(all);
        return cohorts(engine);
      };
      print(await play([20000, 5000, 1], [0, 1, 2]));
      print((await play([30000, 20000, 30000, 30000, 1], [0, 1, 2, 3, 6, 4, 5])).split(' ').slice(0, 2).join(' '));
      // A tenant's second request waits for its first, whichever lanes are free.
      const first = engine.submit(0, [], []);
      await Promise.all([first, engine.submit(0, [], []), first.then(() => engine.submit(1, [], []))]);
      const { cohortRequests } = engine.stats();
      print(cohortRequests + ' ' + cohorts(engine).split('0').length);
      engine.close();
      device.close();`);
    expect(printed.split('\n')).toEqual(['2 1 0', '1 4+5+6', '13 3', '']);
    expect(log).toMatch(/complaints 0\n$/);
  });

  it('serve unlike models side by side', () => {
    const { printed, log } = fake.run(`${lanes}
      const device = native.openCuda(0);
      const { tenants: like, engine: first } = serving(device, 4);
      first.close();
      const unlike = like.map((t, n) => (n % 2 ? { ...t, tasks: [...t.tasks, t.tasks[0]] } : t));
      const { engine } = serving(device, 0, { tenants: unlike });
      process.env.FAKE_CUDA_ASKS = '500,1';
      await drive(engine, [0, 0, 0, 0], [1, 0, 3, 2]);
      print(cohorts(engine));
      print((await Promise.all([0, 1, 2, 3].map((tenant) => request(engine, tenant, tenant)))).join(' '));
      engine.close();
      device.close();`);
    expect(printed.split('\n')).toEqual(['0+2 1+3', '1,2,3,4 2,3,4,5 3,4,5,6 4,5,6,7', '']);
    expect(log).toMatch(/complaints 0\n$/);
  });

  it('drain before a round, which all who are there join', () => {
    const { printed, log } = fake.run(`${lanes}
      const device = native.openCuda(0);
      const { tenants, word, program } = setUp(device);
      const code = word.code;
      const task = (t) => ({ class: 0, blocks: 4, blockNanoseconds: 1000, operands: t.slot.operands, sizes: [4] });
      const { engine } = serving(device, 0, { program, classes: 1,
        codes: [{ code, threads: 128, sharedBytes: 0, classes: [0], bodies: [0] }],
        tenants: tenants.map((t) => ({ weight: 1, inputs: [t.a, t.b].map(whole), outputs: [whole(t.c)], tasks: [task(t), task(t)] })) });
      await drive(engine, Array(400).fill(0), Array.from({ length: 400 }, (_, n) => n % 2));
      const { requests, rounds, cohortRequests, words } = engine.stats();
      print([requests, rounds > 100, 2 * rounds + cohortRequests === requests, words].join());
      print((await Promise.all([request(engine, 0, 10), request(engine, 1, 20), request(engine, 0, 30)])).join(' '));
      engine.close();
      device.close();`);
    expect(printed.split('\n')).toEqual(['400,true,true,0', '11,12,13,14 21,22,23,24 31,32,33,34', '']);
    expect(log).toMatch(/complaints 0\n$/);
  });

  it('stop when a launch fails, and when the engine is closed while they run', () => {
    const { printed, log } = fake.run(`${lanes}
      const other = native.openCuda(0);
      const closing = serving(other, 3).engine;
      process.env.FAKE_CUDA_ASKS = '1000000,1000000';
      const driven = drive(closing, [0, 1, 1], [0, 1, 1]).catch((error) => error.message);
      await new Promise((wake) => setTimeout(wake, 20));
      const waiting = request(closing, 0, 1).catch((error) => error.message);
      closing.close();
      print(await driven + ', ' + await waiting);
      other.close();
      delete process.env.FAKE_CUDA_ASKS;
      const device = native.openCuda(0);
      const { engine } = serving(device, 3);
      print(await request(engine, 1, 5));
      process.env.FAKE_CUDA_FAIL = 'cuGraphLaunch:2:801';
      print(await request(engine, 0, 0));
      const ends = await Promise.allSettled([1, 2, 2].map((tenant, n) => request(engine, tenant, n)));
      delete process.env.FAKE_CUDA_FAIL;
      for (const { reason, value } of ends) print(reason ? reason.message : value);
      engine.close();
      print(await request(serving(device, 2).engine, 1, 7));
      device.close();`);
    const problem = 'launching a program failed: CUDA_ERROR_OTHER (said by the fake)';
    expect(printed.split('\n')).toEqual([
      'the engine is closed, the engine is closed',
      '6,7,8,9',
      '1,2,3,4',
      problem,
      problem,
      problem,
      '8,9,10,11',
      '',
    ]);
    expect(log).toMatch(/complaints 0\n$/);
  });

  it('give an Error, and leave all clean, whichever call of the driver fails', () => {
    const calls = [
      ...[
        'cuStreamCreate',
        'cuMemAlloc',
        'cuMemHostAlloc',
        'cuMemcpyHtoDAsync',
        'cuEventCreate',
        'cuFuncSetAttribute',
      ],
      ...[
        'cuStreamBeginCapture',
        'cuLaunchKernelEx',
        'cuStreamEndCapture',
        'cuGraphInstantiate',
        'cuGraphUpload',
        'cuGraphLaunch',
      ],
      ...['cuEventRecordWithFlags', 'cuEventQuery'],
    ];
    const { printed, log } = fake.run(`${lanes}
      async function session() {
        const device = native.openCuda(0);
        try {
          const { engine } = serving(device, 3);
          const ends = await Promise.allSettled([0, 1, 1].map((tenant) => request(engine, tenant, 1)));
          for (const { reason } of ends) if (reason) throw reason;
          return ends[2].value;
        } finally {
          device.close();
        }
      }
      for (const call of ${JSON.stringify(calls)}) {
        let failed = 0;
        for (const error of [801, 700]) {
          for (let n = 1; n < 30; n += 1 + (n >> 2)) {
            process.env.FAKE_CUDA_FAIL = [call, n, error].join(':');
            const message = await session().then(() => '', (problem) => problem.message);
            delete process.env.FAKE_CUDA_FAIL;
            if (message) failed++;
            if (message && !/ failed: CUDA_ERROR_/.test(message)) print(call + ' ' + n + ' ' + message);
            if (await session() !== '2,3,4,5') print('the next session failed');
          }
        }
        if (failed === 0) print(call + ' never failed');
      }`);
    expect(printed).toBe('');
    expect(log).not.toContain('complaint:');
  }, 60_000);
});
