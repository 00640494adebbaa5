/**
 * @file How many blocks a multiprocessor holds at once: what one block takes, against what there is (CUDA C++ Programming Guide, technical
 * specifications per compute capability).
 */
import type { Target } from './target.ts';

/** What code takes. */
export interface Resources {
  /** Threads of a block. */
  readonly threads: number;
  /** Registers of a thread. */
  readonly registers: number;
  /** Shared memory of a block in bytes: what the code declares, and what it asks for. */
  readonly sharedBytes: number;
}

/** Registers are handed out by the warp in pieces of so many; shared memory in pieces of so many bytes, some of which each block loses. */
const registerPiece = 256;
const sharedPiece = 128;
const sharedOfSystem = 1024;

const roundUp = (n: number, piece: number): number => Math.ceil(n / piece) * piece;

/** All registers of a block, as they are handed out. */
const registersOfBlock = ({ threads, registers }: Resources, { warp }: Target): number =>
  Math.ceil(threads / warp) * roundUp(registers * warp, registerPiece);

/**
 * Whether a multiprocessor has the registers of one block. Compilers make do with fewer where they can, and put the rest in memory; not where one
 * instruction needs more (a wgmma of 128x256 sums has 128 a thread for these alone).
 */
export const hasRegistersFor = (resources: Resources, target: Target): boolean =>
  target.kind === 'host' || registersOfBlock(resources, target) <= target.unit.registers;

/** At least 1: code that fits no multiprocessor is not launched at all. On the host a thread runs one block at a time. */
export function blocksPerUnit(resources: Resources, target: Target): number {
  const { threads, sharedBytes } = resources;
  const { kind, unit, warp } = target;
  if (kind === 'host') return 1;
  const warps = Math.ceil(threads / warp);
  const ofRegisters = registersOfBlock(resources, target);
  const ofShared = roundUp(sharedBytes + sharedOfSystem, sharedPiece);
  const fits = [
    unit.blocks,
    unit.threads / (warps * warp),
    unit.registers / Math.max(1, ofRegisters),
    unit.sharedBytes / ofShared,
  ];
  return Math.max(1, Math.floor(Math.min(...fits)));
}

/** What code with several bodies takes: the most of each, as any block may run any of them. */
export const most = (all: readonly Resources[]): Resources => ({
  threads: Math.max(...all.map((r) => r.threads)),
  registers: Math.max(...all.map((r) => r.registers)),
  sharedBytes: Math.max(...all.map((r) => r.sharedBytes)),
});
