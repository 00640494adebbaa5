/**
 * @file The wake words' features, computed by a Wideword program of its own: every room's spectrogram in one round,
 * every room's embeddings in the next.
 */
import { compileModel, type Device, type LoadOptions, type ProgramStats, type Tensor } from '../index.ts';
import { wakeModelFile } from './models.ts';
import { type Room, roomNames, rooms } from './sound.ts';
import { answer, request } from './tenants.ts';
import { embeddingInput, embeddings, soundLength, spectrogramInput } from './wake_words.ts';

export interface Heard {
  readonly features: ReadonlyMap<Room, Tensor>;
  readonly stats: ProgramStats;
  /** Device time of the two rounds together. */
  readonly milliseconds: number;
}

export async function listen(device: Device, options: LoadOptions): Promise<Heard> {
  const spectrogram = await compileModel(wakeModelFile('melspectrogram'), {
    shapes: { input: [1, soundLength] },
  });
  const embedding = await compileModel(wakeModelFile('embedding_model'), {
    shapes: { input_1: [embeddings, 76, 32, 1] },
  });
  const ears = roomNames.map((room) => ({ room, name: `spectrogram ${room}`, model: spectrogram }));
  const minds = roomNames.map((room) => ({ room, name: `embedding ${room}`, model: embedding }));
  const program = await device.load([...ears, ...minds], options);
  try {
    const first = await program.run(
      Object.fromEntries(ears.map((e) => [e.name, request(e, spectrogramInput(rooms[e.room](soundLength)))])),
    );
    const second = await program.run(
      Object.fromEntries(
        minds.map((mind, i) => {
          const ear = ears[i]!;
          return [mind.name, request(mind, embeddingInput(answer(ear, first.outputs[ear.name])))];
        }),
      ),
    );
    return {
      features: new Map(minds.map((m) => [m.room, answer(m, second.outputs[m.name])])),
      stats: program.stats,
      milliseconds: first.milliseconds + second.milliseconds,
    };
  } finally {
    program.close();
  }
}
