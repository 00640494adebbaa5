/**
 * @file From a sound to what openWakeWord's heads score: a mel spectrogram, then embeddings of windows of it, then
 * the last few of those. Spectrogram and embeddings are models too, so this file only cuts and scales tensors.
 */
import { makeTensor, type Tensor, toNumbers } from '../index.ts';
import { type Room, type Sound, sampleRate } from './sound.ts';

/** Mel bands, spectrogram frames in a window, frames from one window to the next. */
const bands = 32;
const window = 76;
const step = 8;

/** The head that looks back furthest (timer) needs this many embeddings. */
export const embeddings = 34;
const embeddingSize = 96;

/** The spectrogram's frames are 512 samples long, one every 10 ms. */
const frames = (embeddings - 1) * step + window;
export const soundLength = (frames - 1) * (sampleRate / 100) + 512;

export interface WakeWord {
  readonly name: string;
  /** Its model's file, without `.onnx`. */
  readonly model: string;
  /** Which sound the demo lets it hear. */
  readonly room: Room;
}

export const wakeWords: readonly WakeWord[] = [
  { name: 'alexa', model: 'alexa_v0.1', room: 'hall' },
  { name: 'hey mycroft', model: 'hey_mycroft_v0.1', room: 'hall' },
  { name: 'hey jarvis', model: 'hey_jarvis_v0.1', room: 'street' },
  { name: 'hey rhasspy', model: 'hey_rhasspy_v0.1', room: 'street' },
  { name: 'weather', model: 'weather_v0.1', room: 'kitchen' },
  { name: 'timer', model: 'timer_v0.1', room: 'kitchen' },
];

/** melspectrogram.onnx's input for a sound of `soundLength` samples. */
export const spectrogramInput = (sound: Sound): Tensor => makeTensor('f32', [1, sound.length], sound);

/** embedding_model.onnx's input: all windows of a spectrogram, scaled as openWakeWord does. */
export function embeddingInput(spectrogram: Tensor): Tensor {
  const mel = toNumbers(spectrogram);
  const data = new Float32Array(embeddings * window * bands);
  for (let e = 0; e < embeddings; e++) {
    for (let i = 0; i < window * bands; i++) {
      data[e * window * bands + i] = mel[e * step * bands + i]! / 10 + 2;
    }
  }
  return makeTensor('f32', [embeddings, window, bands, 1], data);
}

/** A head's input: the last `count` embeddings. */
export function headInput(embedded: Tensor, count: number): Tensor {
  const rows = toNumbers(embedded).slice(-count * embeddingSize);
  return makeTensor('f32', [1, count, embeddingSize], Float32Array.from(rows));
}

/** The probability that a head's word was said. The timer's head tells durations apart, class 0 being none. */
export function score(output: Tensor): number {
  const values = toNumbers(output);
  return values.length === 1 ? values[0]! : Math.max(...values.slice(1));
}
