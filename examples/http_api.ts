/**
 * @file The server's HTTP side: paths, limits, and what is said when a request is wrong.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Device, Engine, Model } from '../index.ts';
import { BadBody, inputsFromJson, outputsToJson } from './tensor_json.ts';

/** Larger bodies are refused, and so are requests beyond this many in flight: memory stays bounded. */
const maxBodyBytes = 16 * 1024 * 1024;
const maxInFlight = 256;

/** What is served. */
export interface Service {
  readonly device: Device;
  readonly engine: Engine;
  readonly models: ReadonlyMap<string, Model>;
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
  readonly headers?: Record<string, string>;
}

/** An answer other than 200; the message is for the client. */
class HttpError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly headers: Record<string, string> = {},
  ) {
    super(message);
  }
}

export function requestListener(service: Service): RequestListener {
  let inFlight = 0;
  return (request, response) => {
    inFlight++;
    route(service, request, inFlight)
      .catch((error: unknown) => failure(error, request))
      .then((answer) => send(response, answer))
      .finally(() => inFlight--);
  };
}

async function route(service: Service, request: IncomingMessage, inFlight: number): Promise<Answer> {
  const { device, models } = service;
  const path = (request.url ?? '/').split('?', 1)[0]!;
  if (path === '/healthz') {
    allow(request, 'GET');
    return { status: 200, body: { status: 'ok', device: device.name } };
  }
  if (path === '/v1/tenants') {
    allow(request, 'GET');
    const tenants = [...models].map(([name, { inputs, outputs }]) => ({ name, inputs, outputs }));
    return { status: 200, body: { tenants } };
  }
  const [, encoded] = /^\/v1\/tenants\/([^/]+)$/.exec(path) ?? [];
  if (encoded === undefined) throw new HttpError(404, 'no such path; see /v1/tenants');
  allow(request, 'POST');
  if (inFlight > maxInFlight) throw new HttpError(503, 'too many requests in flight', { 'retry-after': '1' });
  return { status: 200, body: await infer(service, decode(encoded), request) };
}

/** One tenant's request. `submit` queues it behind the tenant's others; it runs beside those of other tenants, from the next word on. */
async function infer(
  { engine, models }: Service,
  tenant: string,
  request: IncomingMessage,
): Promise<unknown> {
  const model = models.get(tenant);
  if (!model) throw new HttpError(404, `no tenant ${JSON.stringify(tenant)}`);
  const inputs = inputsFromJson(await readBody(request), model.inputs);
  return outputsToJson(await engine.submit(tenant, inputs));
}

function allow(request: IncomingMessage, method: string): void {
  if (request.method !== method) throw new HttpError(405, `use ${method}`, { allow: method });
}

function decode(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    throw new HttpError(400, 'the path is not valid percent-encoding');
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  // Leaving the loop must not destroy the connection: the refusal still has to be sent.
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBodyBytes) throw new HttpError(413, `the body is larger than ${maxBodyBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** What the client is told; only its own faults come with a reason. */
function failure(error: unknown, request: IncomingMessage): Answer {
  request.resume(); // read and dropped, so that a client still sending gets to read the answer
  if (error instanceof HttpError) {
    return { status: error.status, body: { error: error.message }, headers: error.headers };
  }
  if (error instanceof BadBody) return { status: 400, body: { error: error.message } };
  // A client that hangs up in the middle of its body is no fault of ours.
  if (!request.errored) console.error(error);
  return { status: 500, body: { error: 'internal error' } };
}

function send(response: ServerResponse, { status, body, headers }: Answer): void {
  if (response.destroyed) return; // the client has gone
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(`${JSON.stringify(body)}\n`);
}
