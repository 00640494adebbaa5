/**
 * @file The demo's models on the host device against onnxruntime, as the demo runs them.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { listen } from '../../demo/listen.ts';
import { directionFile, recogniserFile, wakeModelFile } from '../../demo/models.ts';
import { answers, failures, firstRound, turnedRound } from '../../demo/rounds.ts';
import { type Room, roomNames, rooms } from '../../demo/sound.ts';
import { answer, castTenants, type DemoTenant } from '../../demo/tenants.ts';
import { embeddingInput, soundLength, spectrogramInput } from '../../demo/wake_words.ts';
import { type Device, openDevice, type Tensor, toNumbers } from '../../index.ts';
import { openSession, runOne } from './onnx.ts';

// The first run compiles some hundred kernels.
const slow = 400_000;

let device: Device;
let features: ReadonlyMap<Room, Tensor>;
beforeAll(async () => {
  device = await openDevice('host');
  ({ features } = await listen(device, {}));
}, slow);
afterAll(() => device.close());

/** The largest difference, against the largest magnitude where that is above 1. */
function distance(a: Tensor, b: Tensor): number {
  expect(a.shape).toEqual(b.shape);
  const [x, y] = [toNumbers(a), toNumbers(b)];
  const most = y.reduce((m, v) => Math.max(m, Math.abs(v)), 1);
  return x.reduce((m, v, i) => Math.max(m, Math.abs(v - y[i]!)), 0) / most;
}

test('features of sounds', { timeout: slow }, async () => {
  const spectrogram = await openSession(wakeModelFile('melspectrogram'));
  const embedding = await openSession(wakeModelFile('embedding_model'));
  for (const room of roomNames) {
    const mel = await runOne(spectrogram, spectrogramInput(rooms[room](soundLength)));
    expect(distance(features.get(room)!, await runOne(embedding, embeddingInput(mel)))).toBeLessThan(1e-3);
  }
});

test('what every tenant is answered', { timeout: slow }, async () => {
  const cast = await castTenants();
  const tenants: readonly DemoTenant[] = [...cast.readers, ...cast.classifiers, ...cast.listeners];
  const program = await device.load(tenants);
  const requests = firstRound(cast, features);
  const { outputs } = await program.run(requests);
  for (const tenant of tenants) {
    const session = await openSession(modelFile(tenant));
    const peer = await runOne(session, Object.values(requests[tenant.name]!)[0]!);
    expect(distance(answer(tenant, outputs[tenant.name]), peer), tenant.name).toBeLessThan(1e-3);
    await session.release();
  }
  const found = answers(cast, outputs, await turnedRound(program, cast, outputs));
  expect(failures(found)).toEqual([]);
  // What lies upside down cannot be read as it lies, so turning it was worth a round.
  expect(
    failures(answers(cast, outputs, new Map(cast.readers.map((r) => [r, answer(r, outputs[r.name])])))),
  ).toHaveLength(cast.readers.filter((r) => r.shown.upsideDown).length);
});

function modelFile(tenant: DemoTenant): string {
  if (tenant.kind === 'reader') return recogniserFile();
  return tenant.kind === 'direction' ? directionFile() : wakeModelFile(tenant.word.model);
}
