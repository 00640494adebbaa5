/** @file Fewer blocks for words of branches: only where that leaves others much, and as far as there is time. */
import { describe, expect, it } from 'vitest';
import { blocksWithRoom } from '../../passes/leave_room.ts';

const on = (places: number, ...all: readonly (readonly [number, number])[]) => ({
  places,
  times: all.map(([blocks, milliseconds]) => ({ blocks, milliseconds })),
});

/** A large matrix by one row, on an H100: memory is what it waits for. */
const matrix = on(4224, [528, 0.233], [1024, 0.127], [2048, 0.084], [4096, 0.073]);

describe('blocks with room for others', () => {
  it('are fewer where memory is the limit', () => {
    expect(blocksWithRoom(matrix, 4096, 0.3)).toBe(1024);
  });

  it('are as many as the urgency asks for', () => {
    expect(blocksWithRoom(matrix, 4096, 0.8)).toBe(2048);
    expect(blocksWithRoom(matrix, 4096, 1)).toBe(4096);
    // However little hurry there is, it takes twice as long at most.
    expect(blocksWithRoom(matrix, 4096, 0)).toBe(1024);
  });

  it('are all where time is work over blocks', () => {
    expect(blocksWithRoom(on(264, [32, 4], [64, 2], [128, 1]), 128, 0.1)).toBe(128);
    // What is over soon takes nothing that others wait for.
    expect(blocksWithRoom(on(264, [16, 3e-3], [256, 2e-3]), 256, 0.1)).toBe(256);
    expect(blocksWithRoom(on(264, [32, 3], [64, 1.8], [128, 1]), 128, 0.1)).toBe(128);
  });

  it('are all where many wait for places: those that wait take none', () => {
    const waves = on(528, [264, 1.98], [528, 1], [1056, 1], [4224, 1]);
    expect(blocksWithRoom(waves, 4224, 0.5)).toBe(4224);
    // Two threads: time is work over blocks.
    expect(blocksWithRoom(on(2, [1, 26.8], [2, 14.9], [3, 17.9], [96, 14.6]), 96, 0.3)).toBe(96);
  });

  it('are all where nothing was measured, or not on all of them', () => {
    expect(blocksWithRoom(undefined, 96, 0.1)).toBe(96);
    expect(blocksWithRoom(matrix, 8192, 0.1)).toBe(8192);
  });
});
