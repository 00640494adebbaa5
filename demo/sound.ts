/**
 * @file Sounds for the wake-word tenants, made in code: the project ships no recorded speech. None of them says a
 * wake word, so a head that works gives all of them a low score.
 */

export const sampleRate = 16_000;

/** Samples of 16-bit PCM as plain numbers, -32768..32767: the range openWakeWord was trained on. */
export type Sound = Float32Array;

/** A wave as a function of the sample's number, scaled so that its peak is half of full scale. */
function sampled(length: number, wave: (i: number) => number): Sound {
  const raw = Float32Array.from({ length }, (_, i) => wave(i));
  const peak = raw.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-9);
  return raw.map((x) => Math.round((x / peak) * 16384));
}

/** A bell struck twice a second, each strike on another note. */
function bell(length: number): Sound {
  const notes = [523.25, 659.26, 783.99, 1046.5];
  const partials = [
    [1, 1, 3],
    [2.76, 0.6, 5],
    [5.4, 0.25, 9],
  ] as const;
  return sampled(length, (i) => {
    const t = (i / sampleRate) % 0.5;
    const note = notes[Math.floor(i / sampleRate / 0.5) % notes.length]!;
    return partials.reduce(
      (sum, [ratio, loudness, decay]) =>
        sum + loudness * Math.exp(-decay * t) * Math.sin(2 * Math.PI * note * ratio * t),
      0,
    );
  });
}

/** A siren: a tone gliding between 300 and 2400 Hz. */
function siren(length: number): Sound {
  let phase = 0;
  return sampled(length, (i) => {
    const glide = 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / sampleRate / 1.6);
    phase += (2 * Math.PI * 300 * 8 ** glide) / sampleRate;
    return Math.sin(phase);
  });
}

/** First two formants of five vowels, in Hz. */
const vowels = [
  [730, 1090],
  [530, 1840],
  [270, 2290],
  [570, 840],
  [300, 870],
] as const;

/** Humming that is shaped like vowels: pulses at a voice's pitch through two resonators. As near as we get to speech. */
function humming(length: number): Sound {
  const memory = [0, 0, 0, 0];
  let phase = 0;
  return sampled(length, (i) => {
    const t = i / sampleRate;
    phase += (120 + 20 * Math.sin(2 * Math.PI * 0.7 * t)) / sampleRate;
    const pulse = phase >= 1 ? 1 : 0;
    phase -= pulse;
    const vowel = vowels[Math.floor(t / 0.28) % vowels.length]!;
    const syllable = Math.sin(Math.PI * ((t / 0.28) % 1)) ** 2;
    const voice = vowel.reduce((sum, formant, f) => {
      // A two-pole resonator, 80 Hz wide.
      const r = Math.exp((-Math.PI * 80) / sampleRate);
      const y =
        pulse +
        2 * r * Math.cos((2 * Math.PI * formant) / sampleRate) * memory[2 * f]! -
        r * r * memory[2 * f + 1]!;
      memory[2 * f + 1] = memory[2 * f]!;
      memory[2 * f] = y;
      return sum + y;
    }, 0);
    return syllable * voice;
  });
}

/** What the demo's microphones hear, by room. */
export const rooms = { hall: bell, street: siren, kitchen: humming } as const;
export type Room = keyof typeof rooms;
export const roomNames = Object.keys(rooms) as readonly Room[];
