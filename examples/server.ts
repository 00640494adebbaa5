/**
 * @file A server that embeds Wideword: models are compiled at start, one device is kept open, and requests of
 * different tenants are served as they come, together where that helps. A tenant of weight 2 gets twice the share of
 * the device when there is more to do than it can.
 *
 *     node --import tsx examples/server.ts --port 8080 alice=resnet.onnx@2 bob=resnet.onnx carol=bert.onnx
 *
 *     GET  /healthz              is it up, and on which device
 *     GET  /v1/tenants           names, inputs and outputs
 *     POST /v1/tenants/NAME      {"inputs": {"x": {"shape": [1, 2], "data": [0.5, 1]}}} gives {"outputs": {...}}
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseArgs } from 'node:util';
import { compileModel, type DeviceKind, type Model, openDevice } from '../index.ts';
import { requestListener, type Service } from './http_api.ts';

/** How long requests in flight may take to finish once the server is told to stop. */
const graceMs = 10_000;

const options = {
  port: { type: 'string', default: '8080' },
  host: { type: 'string', default: '127.0.0.1' },
  device: { type: 'string', default: 'auto' },
} as const;

try {
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const service = await prepare(values.device, positionals);
  serve(service, Number(values.port), values.host);
} catch (error) {
  console.error(`server: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}

/** Compiles the models and has every tenant served on one device. */
async function prepare(kind: string, args: readonly string[]): Promise<Service> {
  if (!['auto', 'cuda', 'host'].includes(kind)) throw new Error(`no device '${kind}': auto, cuda or host`);
  const { models, weights } = await compileTenants(args);
  const device = await openDevice(kind as DeviceKind);
  try {
    const tenants = [...models].map(([name, model]) => ({ name, model }));
    return { device, engine: await device.serve(tenants, { weights }), models };
  } catch (error) {
    device.close();
    throw error;
  }
}

/** From NAME=FILE or NAME=FILE@WEIGHT arguments. Tenants may share a compiled model; on the device each has memory of its own. */
async function compileTenants(
  args: readonly string[],
): Promise<{ models: Map<string, Model>; weights: { [tenant: string]: number } }> {
  const files = new Map<string, Model>();
  const models = new Map<string, Model>();
  const weights: { [tenant: string]: number } = {};
  for (const arg of args) {
    const [, name, file, weight] = /^([^=]+)=(.+?)(?:@([\d.]+))?$/.exec(arg) ?? [];
    if (name === undefined || file === undefined)
      throw new Error(`'${arg}' is not NAME=MODEL.onnx or NAME=MODEL.onnx@WEIGHT`);
    if (models.has(name)) throw new Error(`there are two tenants '${name}'`);
    const model = files.get(file) ?? (await compileModel(file));
    files.set(file, model);
    models.set(name, model);
    if (weight !== undefined) weights[name] = Number(weight);
  }
  if (models.size === 0) throw new Error('name at least one tenant: NAME=MODEL.onnx');
  return { models, weights };
}

/** Serves until SIGINT or SIGTERM; then requests in flight finish. A second signal ends the process at once. */
function serve(service: Service, port: number, host: string): void {
  const { device, engine, models } = service;
  const close = (): void => {
    engine.close();
    device.close();
  };
  const server = createServer(requestListener(service));
  server.once('error', (error) => {
    console.error(`server: ${error.message}`);
    process.exitCode = 1;
    close();
  });
  server.listen(port, host, () => {
    const at = server.address() as AddressInfo;
    console.log(`${models.size} tenants on ${device.name}, listening on http://${at.address}:${at.port}`);
  });
  const stop = (): void => {
    server.close(close);
    // Connections kept alive go as soon as they are idle, and those of hanging clients in the end.
    setInterval(() => server.closeIdleConnections(), 50).unref();
    setTimeout(() => server.closeAllConnections(), graceMs).unref();
  };
  process.once('SIGINT', stop).once('SIGTERM', stop);
}
