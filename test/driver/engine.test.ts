/**
 * @file The issue engine through the public API. Whatever else is under way, however words are cut, and whatever has been compiled
 * meanwhile, a tenant gets the bits that it gets alone.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  compileModel,
  type Device,
  type JitEvent,
  type Model,
  openDevice,
  RequestError,
  type ServeOptions,
} from '../../index.ts';
import { rowContract } from '../../ir/row_contract.ts';
import { bytesOf } from '../../ir/tensor.ts';
import type { LoadedEngine } from '../../runtime/engine.ts';
import { convModel, mlpModel } from '../support/models.ts';
import { randomTensor } from '../support/random.ts';
import { titled, wayKinds } from '../support/ways.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Tenants of three kinds, and a few requests of each with what it gives alone. */
interface Served {
  readonly tenants: readonly { readonly name: string; readonly model: Model }[];
  readonly requests: readonly (readonly {
    readonly inputs: { readonly x: ReturnType<typeof randomTensor> };
    readonly bits: string;
  }[])[];
}

async function tenantsOn(device: Device): Promise<Served> {
  const models = [
    ...(await Promise.all([1, 2, 3].map((seed) => compileModel(mlpModel([40, 64, 24], seed))))),
    await compileModel(mlpModel([20, 96, 96, 8], 4)),
    ...(await Promise.all(
      [5, 6].map((seed) => compileModel(convModel(seed), { shapes: { x: [1, 3, 12, 12] } })),
    )),
  ];
  const tenants = models.map((model, n) => ({ name: `tenant ${n}`, model }));
  const requests: Served['requests'][number][] = [];
  for (const [n, tenant] of tenants.entries()) {
    const program = await device.load([tenant]);
    const mine = [];
    for (const seed of [0, 1, 2]) {
      const x = randomTensor('f32', tenant.model.inputs[0]!.shape, 10 * n + seed);
      const { outputs } = await program.run({ [tenant.name]: { x } });
      mine.push({ inputs: { x }, bits: hex(bytesOf(outputs[tenant.name]!.y!)) });
    }
    requests.push(mine);
    program.close();
  }
  expect(new Set(requests.flat().map((r) => r.bits)).size).toBe(3 * tenants.length);
  return { tenants, requests };
}

function suite(kind: 'host' | 'cuda'): void {
  let device: Device;
  let served: Served;
  beforeAll(async () => {
    device = await openDevice(kind, { threads: 2 });
    served = await tenantsOn(device);
  }, 600_000);
  afterAll(() => device?.close());

  /** Sends requests, each after a pause, and checks what comes back. */
  async function play(
    sends: readonly { readonly tenant: number; readonly request: number; readonly pause: number }[],
    options: ServeOptions,
  ) {
    const engine = await device.serve(served.tenants, options);
    const answers: Promise<void>[] = [];
    for (const { tenant, request, pause } of sends) {
      if (pause > 0) await new Promise((wake) => setTimeout(wake, pause));
      const { inputs, bits } = served.requests[tenant]![request]!;
      const check = async () => {
        const { y } = await engine.submit(served.tenants[tenant]!.name, inputs);
        expect(hex(bytesOf(y!)) === bits, `tenant ${tenant}, request ${request}`).toBe(true);
      };
      answers.push(check());
    }
    await Promise.all(answers);
    const stats = engine.stats();
    engine.close();
    return stats;
  }

  const sends = fc.array(
    fc.record({
      tenant: fc.nat(5),
      request: fc.nat(2),
      pause: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(4) }),
    }),
    { minLength: 1, maxLength: 40 },
  );
  const options = fc.record({
    stretch: fc.constantFrom(1, 2, 8, 1000),
    // Without a bound requests run in cohorts, if there may be rounds.
    boundMilliseconds: fc.constantFrom(undefined, undefined, 1e-4, 0.01, 1, 100),
    rounds: fc.boolean(),
    atOnce: fc.constantFrom(undefined, 1, 3),
    tier: fc.constantFrom('generic', 'specialised', 'auto'),
  });

  it('gives everyone the bits it gets alone: random arrivals, bounds, stretches and tiers', async () => {
    await fc.assert(
      fc.asyncProperty(sends, options, async (sent, chosen) => {
        const stats = await play(sent, chosen as ServeOptions);
        expect(stats.requests).toBe(sent.length);
        const hasLanes = chosen.rounds && chosen.boundMilliseconds === undefined;
        expect(stats.cohorts > 0).toBe(hasLanes);
        expect(stats.words > 0).toBe(!hasLanes);
      }),
      { numRuns: 30, seed: 5, endOnFailure: true },
    );
  }, 600_000);

  it('compiles code for what is ready together, which serves from then on', async () => {
    const events: JitEvent[] = [];
    const engine = await device.serve(served.tenants, {
      rounds: false,
      jit: { period: 20, threshold: 5 },
      onJit: (event) => void events.push(event),
    });
    engine.keepJournal(true);
    // Until it was told what a code brought, and a word was issued on one: which words come in a period is a matter of timing.
    const until = Date.now() + 60_000;
    let wasUsed = false;
    while (!(wasUsed && events.some((e) => e.kind === 'brought')) && Date.now() < until) {
      const round = served.tenants.map(async ({ name }, tenant) => {
        const { inputs, bits } = served.requests[tenant]![1]!;
        const { y } = await engine.submit(name, inputs);
        expect(hex(bytesOf(y!)) === bits).toBe(true);
      });
      await Promise.all(round);
      wasUsed ||= engine.takeJournal().words.some((w) => w.kernels.length > 1);
    }
    engine.close();
    expect(wasUsed).toBe(true);
    const [compiled, brought] = ['compiled', 'brought'].map((k) => events.find((e) => e.kind === k));
    expect(compiled).toMatchObject({ why: expect.stringMatching(/^ready together \d+ times in 20 ms/) });
    expect(compiled!.kernels.length).toBeGreaterThan(1);
    // The next code may come before the first has served a word, and then only the next is told of.
    expect(events.filter((e) => e.kind === 'compiled').map((e) => e.kernels)).toContainEqual(
      brought!.kernels,
    );
  }, 120_000);

  it('goes on serving when a compile fails, and tells of it', async () => {
    let isLoaded = false;
    const broken = served.tenants.map(({ name, model }) => {
      const kept: Model = {
        ...model,
        isCompiled: model.isCompiled,
        compiledFor: (target, tuning) => model.compiledFor(target, tuning),
        codeOf: (target, key) => model.codeOf(target, key),
        fusedCodes: (target) => model.fusedCodes(target),
        // Once loaded, the model has no kernels to emit other code from.
        classOf: (target, key) => (isLoaded ? undefined : model.classOf(target, key)),
      };
      return { name, model: kept };
    });
    const events: JitEvent[] = [];
    const engine = await device.serve(broken, {
      rounds: false,
      jit: { period: 10, threshold: 1 },
      onJit: (event) => void events.push(event),
    });
    isLoaded = true;
    const until = Date.now() + 30_000;
    while (events.length === 0 && Date.now() < until) {
      await Promise.all(
        broken.map(({ name }, tenant) => engine.submit(name, served.requests[tenant]![0]!.inputs)),
      );
    }
    expect(events[0]).toMatchObject({
      kind: 'failed',
      problem: expect.stringContaining('no code for a word'),
    });
    const { y } = await engine.submit('tenant 0', served.requests[0]![0]!.inputs);
    expect(hex(bytesOf(y!))).toBe(served.requests[0]![0]!.bits);
    engine.close();
  }, 120_000);

  it.each([
    ['from words', { boundMilliseconds: 20 }],
    ['from cohorts', {}],
  ])(
    'switches %s to rounds where all tenants always have a request, and back, losing none',
    async (_, bound) => {
      const engine = await device.serve(served.tenants, { jit: false, ...bound });
      engine.keepJournal(true);
      const everyone = served.tenants.map((_, n) => n);
      const each = 60;
      const times = await engine.drive(
        Array<number>(each * everyone.length).fill(0),
        Array.from({ length: each * everyone.length }, (_, n) => n % everyone.length),
      );
      expect(times.every((ms) => ms > 0)).toBe(true);
      const stats = engine.stats();
      expect(stats.rounds).toBeGreaterThan(each / 2);
      const { words: journal, requests } = engine.takeJournal();
      expect(requests.length).toBe(stats.requests);
      for (const r of requests) {
        expect(r.started).toBeGreaterThanOrEqual(r.queued);
        expect(r.ended).toBeGreaterThanOrEqual(r.started);
        expect(r.ended).toBeLessThanOrEqual(engine.now());
      }
      expect(journal.filter((w) => w.isRound).length).toBe(stats.rounds);
      const cohorts = journal.filter((w) => w.isCohort);
      expect(cohorts.length).toBe(stats.cohorts);
      expect(cohorts.flatMap((w) => w.slots).length).toBe(stats.cohortRequests);
      expect(journal.filter((w) => !w.isRound && !w.isCohort).length).toBe(stats.words);
      expect(stats.cohorts > 0).toBe(stats.words === 0);
      expect(journal.every((w) => w.ended >= w.issued)).toBe(true);
      const { y } = await engine.submit('tenant 2', served.requests[2]![2]!.inputs);
      expect(hex(bytesOf(y!))).toBe(served.requests[2]![2]!.bits);
      const tasks = served.tenants[2]!.model.compiledFor(device.target).tasks.map((t) => t.name);
      expect(engine.takeJournal().words.flatMap((w) => w.slots.map((s) => s.task))).toEqual(
        stats.cohorts > 0 ? [undefined] : tasks,
      );
      engine.close();
    },
    120_000,
  );

  it('runs requests of one model that are there together as one cohort, whoever they are, on code of either tier', async () => {
    for (const tier of ['generic', 'specialised', 'auto'] as const) {
      const engine = await device.serve(served.tenants, { tier });
      engine.keepJournal(true);
      // Everyone's inputs, and what they give.
      for (const [tenant, { name }] of served.tenants.entries()) {
        const { inputs, bits } = served.requests[tenant]![0]!;
        expect(hex(bytesOf((await engine.submit(name, inputs)).y!))).toBe(bits);
      }
      engine.takeJournal();
      for (const together of [[0], [2, 0], [1, 2], [0, 1, 2], [5, 4], [3, 1, 5, 0, 4]]) {
        await engine.drive(Array<number>(together.length).fill(0), together);
        const { words } = engine.takeJournal();
        expect(words.every((w) => w.isCohort && w.kernels.length === 0 && w.expected === 0)).toBe(true);
        const ran = words.map((w) =>
          w.slots.map((s) => served.tenants.findIndex((t) => t.name === s.tenant)),
        );
        const groups = [[0, 1, 2], [3], [4, 5]].map((g) => g.filter((t) => together.includes(t)));
        expect(ran.sort((a, b) => a[0]! - b[0]!)).toEqual(groups.filter((g) => g.length > 0));
      }
      for (const [tenant, { name }] of served.tenants.entries())
        expect(hex(bytesOf(engine.readOutputs()[name]!.y!))).toBe(served.requests[tenant]![0]!.bits);
      engine.close();
    }
  }, 120_000);

  it('has no lanes where weights differ, a bound is set, or rounds are not allowed', async () => {
    const off: readonly ServeOptions[] = [
      { weights: { 'tenant 1': 2 } },
      { boundMilliseconds: 5 },
      { rounds: false },
      { lanes: 0 },
    ];
    for (const options of off) {
      const engine = await device.serve(served.tenants, options);
      const { inputs, bits } = served.requests[1]![0]!;
      expect(hex(bytesOf((await engine.submit('tenant 1', inputs)).y!))).toBe(bits);
      expect(engine.stats()).toMatchObject({ requests: 1, cohorts: 0, cohortRequests: 0 });
      expect(engine.stats().words).toBeGreaterThan(0);
      engine.close();
    }
    const same = Object.fromEntries(served.tenants.map((t) => [t.name, 3]));
    const engine = await device.serve(served.tenants, { weights: same });
    await engine.submit('tenant 1', served.requests[1]![0]!.inputs);
    expect(engine.stats()).toMatchObject({ words: 0, cohorts: 1, cohortRequests: 1 });
    engine.close();
  });

  it('takes no code whose contract a tenant breaks', async () => {
    const [first] = served.tenants;
    const program = await device.load([first!]);
    const [task] = program.plan.tenants[0]!.model.tasks;
    const engine = await device.serve([first!], { jit: false });
    const { loaded } = engine as unknown as { loaded: LoadedEngine };
    const { generic } = task!.classes;
    const contract = rowContract(first!.model.classOf(device.target, generic)!);
    const launch = { threads: 1, sharedBytes: 0, contracts: [{ ...contract, sizes: contract.sizes + 1 }] };
    const code = { code: {} as never, launch, classes: [generic] };
    expect(() => loaded.addCode(code, 1)).toThrow(
      /^tenant 'tenant 0', task \S+: it has \d+ sizes, its class leaves \d+ open$/,
    );
    engine.close();
    program.close();
  });

  it('refuses what does not fit, at once and in one line', async () => {
    const [first] = served.tenants;
    const engine = await device.serve([first!]);
    await expect(engine.submit('nobody', {})).rejects.toThrow(RequestError);
    await expect(engine.submit('tenant 0', {})).rejects.toThrow("input 'x' (f32[1,40]) is missing");
    const waiting = Array.from({ length: 20 }, () =>
      engine.submit('tenant 0', served.requests[0]![0]!.inputs),
    );
    engine.close();
    const settled = await Promise.allSettled(waiting);
    for (const s of settled) {
      if (s.status === 'rejected') expect(s.reason.message).toBe('the engine is closed');
    }
    expect(settled.some((s) => s.status === 'rejected')).toBe(true);
    await expect(engine.submit('tenant 0', served.requests[0]![0]!.inputs)).rejects.toThrow(
      'the engine is closed',
    );
    const wrong: readonly [ServeOptions, string][] = [
      [{ stretch: 0 }, 'stretch must be at least 1, not 0'],
      [{ boundMilliseconds: Number.NaN }, 'boundMilliseconds must be positive, not NaN'],
      [{ weights: { 'tenant 0': -1 } }, "the weight of 'tenant 0' must be from 1e-6 to 1e6, not -1"],
      [{ weights: { x: 1 } }, "a weight for 'x', which is no tenant"],
    ];
    for (const [given, message] of wrong)
      await expect(device.serve([first!], given)).rejects.toThrow(message);
  });
}

const { host, cuda } = wayKinds();
describe(titled('the engine on the host', host), () => suite('host'));
describe.skipIf(cuda.problem)(titled('the engine on the GPU', cuda), () => suite('cuda'));
