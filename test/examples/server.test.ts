/**
 * @file The example server as a process: three tenants, many requests at once, bad requests, stopping.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { wakeModelFile } from '../../demo/models.ts';
import { compileModel, type Device, openDevice, tensorOf, toNumbers } from '../../index.ts';

const server = fileURLToPath(new URL('../../examples/server.ts', import.meta.url));
/** Small models with the same input; two tenants share one. */
const modelOf = {
  alice: wakeModelFile('hey_rhasspy_v0.1'),
  bob: wakeModelFile('hey_rhasspy_v0.1'),
  carol: wakeModelFile('alexa_v0.1'),
} as const;
const tenants = Object.keys(modelOf) as readonly (keyof typeof modelOf)[];
const shape = [1, 16, 96];
const inputName = 'onnx::Flatten_0';

/** Starts the server on a free port; gives the process and its address. */
async function start(args: readonly string[]): Promise<{ child: ChildProcess; url: string }> {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', server, '--port', '0', '--device', 'host', ...args],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let said = '';
  child.stderr!.on('data', (bytes: Buffer) => (said += bytes));
  for await (const bytes of child.stdout!.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    said += bytes;
    const url = /http:\/\/\S+/.exec(said)?.[0];
    if (url !== undefined) return { child, url };
  }
  throw new Error(`the server did not start: ${said}`);
}

async function stderrOf(args: readonly string[]): Promise<{ code: number | null; text: string }> {
  const child = spawn(process.execPath, ['--import', 'tsx', server, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let text = '';
  child.stderr!.on('data', (bytes: Buffer) => (text += bytes));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, text };
}

test.each([
  [[], 'name at least one tenant'],
  [['nonsense'], "'nonsense' is not NAME=MODEL.onnx"],
  [['a=/nowhere.onnx'], '/nowhere.onnx: no such file'],
  [['--device', 'tpu', 'a=x'], "no device 'tpu'"],
  [['--device', 'host', `a=${modelOf.alice}@0`], "the weight of 'a' must be from 1e-6 to 1e6, not 0"],
  [[`a=${modelOf.alice}@two`], `${modelOf.alice}@two: no such file`],
])('wrong arguments %j are one line', async (args, message) => {
  const { code, text } = await stderrOf(args);
  expect(code).toBe(1);
  expect(text).toContain(message);
  expect(text.trim().split('\n')).toHaveLength(1);
});

describe('three tenants', () => {
  let child: ChildProcess;
  let url: string;
  let device: Device;
  beforeAll(async () => {
    ({ child, url } = await start(
      tenants.map((name) => `${name}=${modelOf[name]}${name === 'bob' ? '@2' : ''}`),
    ));
    device = await openDevice('host');
  });
  afterAll(() => {
    device?.close();
    child?.kill('SIGKILL');
  });

  const post = (tenant: string, body: string): Promise<Response> =>
    fetch(`${url}/v1/tenants/${tenant}`, { method: 'POST', body });

  /** An input that tells tenants and rounds apart. */
  const inputOf = (tenant: number, round: number): number[] =>
    Array.from({ length: 1536 }, (_, i) => Math.fround(Math.sin(i * (tenant + 1) + round)));

  test('says what it serves', async () => {
    expect(await (await fetch(`${url}/healthz`)).json()).toMatchObject({ status: 'ok' });
    const { tenants: listed } = (await (await fetch(`${url}/v1/tenants`)).json()) as {
      tenants: { name: string; inputs: unknown }[];
    };
    expect(listed.map((t) => t.name)).toEqual(tenants);
    expect(listed[0]!.inputs).toEqual([{ name: inputName, dtype: 'f32', shape }]);
  });

  test('answers requests that arrive together as each tenant alone would be', async () => {
    const alone = await Promise.all(
      tenants.map(async (name) => device.load([{ name, model: await compileModel(modelOf[name]) }])),
    );
    const requests = Array.from({ length: 24 }, (_, n) => ({ tenant: n % 3, round: Math.floor(n / 3) }));
    const seen = new Set<unknown>();
    await Promise.all(
      requests.map(async ({ tenant, round }) => {
        const name = tenants[tenant]!;
        const data = inputOf(tenant, round);
        const response = await post(name, JSON.stringify({ inputs: { [inputName]: { shape, data } } }));
        expect(response.status).toBe(200);
        const expected = await alone[tenant]!.submit(name, { [inputName]: tensorOf('f32', shape, data) });
        const [[output, score] = []] = Object.entries(expected);
        expect(await response.json()).toEqual({
          outputs: { [output!]: { shape: [1, 1], data: toNumbers(score!) } },
        });
        seen.add(toNumbers(score!)[0]);
      }),
    );
    // Nobody was given another's answer: nearly all of them differ.
    expect(seen.size).toBeGreaterThan(20);
    for (const program of alone) program.close();
  });

  const input = (value: unknown): string => JSON.stringify({ inputs: { [inputName]: value } });
  test.each([
    ['alice', '{', 400, 'not JSON'],
    ['alice', '[]', 400, 'must be {"inputs": {...}}'],
    ['alice', '{"inputs": {}}', 400, 'input "onnx::Flatten_0" (f32[1,16,96]) is missing'],
    ['alice', input([1]), 400, 'must be {"shape"'],
    ['alice', input({ shape: [1536], data: [] }), 400, 'has the shape [1536], expected [1,16,96]'],
    ['alice', input({ shape, data: [1] }), 400, 'has 1 elements, expected 1536'],
    ['alice', input({ shape, data: Array(1536).fill('x') }), 400, 'no numbers'],
    ['nobody', '{}', 404, 'no tenant "nobody"'],
    ['%zz', '{}', 400, 'percent-encoding'],
    ['alice', ' '.repeat(17 * 1024 * 1024), 413, 'larger than'],
  ])('refuses %s %.40s', async (tenant, body, status, message) => {
    const response = await post(tenant, body);
    expect(response.status).toBe(status);
    const { error } = (await response.json()) as { error: string };
    expect(error).toContain(message);
    expect(error).not.toContain('\n');
  });

  test('an input too many, a wrong method and a wrong path are refused', async () => {
    const data = inputOf(0, 0);
    const two = await post('alice', JSON.stringify({ inputs: { [inputName]: { shape, data }, extra: 1 } }));
    expect([two.status, await two.text()]).toEqual([400, '{"error":"there is no input \\"extra\\""}\n']);
    const get = await fetch(`${url}/v1/tenants/alice`);
    expect([get.status, get.headers.get('allow')]).toEqual([405, 'POST']);
    expect((await fetch(`${url}/elsewhere`)).status).toBe(404);
  });

  test('finishes what is in flight when told to stop', async () => {
    const body = JSON.stringify({ inputs: { [inputName]: { shape, data: inputOf(1, 1) } } });
    const closed = once(child, 'exit');
    // The body is sent in two halves with the signal between them, so the request is surely in flight.
    const halves = new ReadableStream<Uint8Array>({
      async start(controller) {
        controller.enqueue(new TextEncoder().encode(body.slice(0, 100)));
        await new Promise((resolve) => setTimeout(resolve, 300));
        child.kill('SIGTERM');
        await new Promise((resolve) => setTimeout(resolve, 300));
        controller.enqueue(new TextEncoder().encode(body.slice(100)));
        controller.close();
      },
    });
    const response = await fetch(`${url}/v1/tenants/bob`, {
      method: 'POST',
      body: halves,
      duplex: 'half',
    } as RequestInit);
    expect(response.status).toBe(200);
    expect(Object.keys(((await response.json()) as { outputs: object }).outputs)).toEqual(['39']);
    expect(await closed).toEqual([0, null]);
    await expect(fetch(`${url}/healthz`)).rejects.toThrow();
  });
});
