/**
 * @file Estimates how long words of a contraction on tensor cores take under a schedule, from what its blocks issue, wait for and move. Good
 * enough to choose a schedule by; bench/fit.ts holds it against measurements, and finds the constants.
 */
import { indicesOf } from '../ir/affine.ts';
import { type Contraction, hasWholeSteps, type Operand, volume } from '../ir/contraction.ts';
import type { Buffer, Expr, MmaSchedule } from '../ir/kernel.ts';
import { mmaBlocksHeld, mmaSharedBytes, partDepth, partsOf } from '../ir/mma.ts';
import { blocksPerUnit } from '../ir/occupancy.ts';
import type { Target } from '../ir/target.ts';
import { byteSize } from '../ir/types.ts';
import { childrenOf } from '../ir/walk.ts';
import { opCost } from './clocks.ts';

/**
 * Clocks and rates of one multiprocessor. Fitted by `bench/fit.ts` to the times of 1,328 schedules of ResNet-50, BERT-base and the MLP on an
 * H100, at widths from 1 to 64 (docs/performance.md, 2026-11-27). What is issued and what is multiplied partly hides behind waiting, so these
 * are what makes the sum right, not what a data sheet says. Of schedules whose tiles blocks share (`join`, `takes`) little is asked: their
 * exchange is still changing, so they count half in the fit.
 */
export const machine = {
  /**
   * Registers of a thread: at least; for each sum; for each buffer besides the output that its epilogue reads by vectors. And how far off that may
   * be, as a part of it. From what NVRTC said of 43 schedules of ResNet-50, not fitted.
   */
  registers: { mma: 66, wgmma: 40 },
  sum: 1.4,
  carried: 8,
  doubt: 0.1,
  /** Thread instructions a clock. */
  issue: 80.4,
  /** Multiplications a clock. */
  multiply: { mma: 836, wgmma: 2660 },
  /** Bytes a clock from the L2 cache, and from device memory. */
  cache: 49.7,
  memory: 12,
  /** MB of operands and results of all tenants of which the L2 cache keeps half. */
  room: 35.7,
  /** Instructions of an asynchronous copy: in whole steps, and where each has coordinates of its own. */
  copy: 9.65,
  copyApart: 24.7,
  /** Of an element that passes through registers; for each guard of it; of one in whole steps. From an earlier fit to such kernels. */
  element: 8.6,
  guard: 2.9,
  wholeStep: 2.9,
  /** Clocks of an ldmatrix with its conflicts and addresses, and of an instruction of a thread that waits for the one before. */
  fragment: 2.94,
  serial: 1.5,
  /** Clocks for a product by itself, of a thread that has one in 64. */
  product: 3.25,
  /** Instructions of the epilogue: for an output, for each part of its sum, for an operation, for an access. */
  output: 0.708,
  part: 0.7,
  op: 2.08,
  access: 10.2,
  /** Clocks from a copy's issue to its arrival; of a step's barrier; of an epilogue's barriers, and of its reads, so many of which a thread has on their way. */
  latency: 453,
  step: { mma: 48.7, wgmma: 31.9 },
  epilogue: 170,
  read: 304,
  readsAtOnce: 2,
  /** Clocks of a word that has next to nothing to do, and of each further wave of its blocks. */
  word: 2950,
  wave: 2100,
  /** Of blocks that share a tile: clocks until the last knows that it is, and bytes a clock at which it then takes the sums of all. */
  join: 3910,
  takes: 27.3,
};

/** What the estimate knows of a multiprocessor. */
export type Machine = typeof machine;

/** Clocks that `width` copies of the kernel take side by side. */
export function estimateMma(
  c: Contraction,
  s: MmaSchedule,
  width: number,
  target: Target,
  constants: Machine = machine,
): number {
  const { instruction, tile, warps, stages, segments, splits, threads } = s;
  const { units } = target;
  const { own, shared, accesses, ops } = trafficOf(c);
  const k = volume(c.k);
  const tiles = Math.ceil(volume(c.m) / tile.m) * Math.ceil(volume(c.n) / tile.n);
  const steps = Math.ceil(Math.min(k, partDepth(k, partsOf(s))) / tile.k);

  // What one step, of all segments, takes of the multiprocessor, and of time where nothing else runs.
  const staging = (o: Operand, side: number): number => {
    const whole = hasWholeSteps(o, tile.k);
    const element = whole ? constants.wholeStep : constants.element + constants.guard * o.guards.length;
    const copy = whole ? constants.copy : constants.copyApart;
    return side * tile.k * segments * (o.vector > 1 ? copy / o.vector : element);
  };
  const staged = staging(c.a, tile.m) + staging(c.b, tile.n);
  const products = tile.m * tile.n * tile.k * segments;
  const multiplied = products / constants.multiply[instruction];
  const loads = (threads / 32) * ((tile.m / warps.m + tile.n / warps.n) / 16) * (tile.k / 16);
  // Warpgroups load no fragments.
  const fragments = instruction === 'mma' ? loads * constants.fragment : 0;
  const ahead = stages - (instruction === 'mma' ? 1 : 2);
  const stepAlone =
    constants.latency / ahead +
    constants.step[instruction] +
    (constants.serial * staged) / threads +
    (instruction === 'mma' ? (constants.product * products) / (64 * threads) : multiplied);

  // The same of the epilogue. Of blocks that share a tile one has it, and takes the sums that all have left.
  const outputs = tile.m * tile.n;
  const left = splits > 1 ? 4 * outputs * segments : 0;
  const instructions =
    outputs *
    (constants.output +
      constants.part * segments +
      constants.op * ops +
      (constants.access * accesses) / c.epilogueVector);
  const turns = accesses > 1 ? outputs / (constants.readsAtOnce * c.epilogueVector * threads) : 0;
  const endAlone =
    constants.epilogue +
    constants.read * turns +
    (constants.serial * instructions) / threads +
    (splits > 1 ? constants.join + (splits * left) / constants.takes : 0);

  const blocks = width * volume(c.batch) * tiles * splits;
  const each = Math.ceil(blocks / units);
  /** Clocks of so many blocks at once. */
  const wave = (n: number): number =>
    steps * Math.hypot(stepAlone, n * multiplied, (n * staged) / constants.issue, n * fragments) +
    Math.hypot(endAlone, (n * instructions) / (splits * constants.issue));
  const inWaves = (fit: number): number => {
    const rest = each % fit;
    return (
      Math.floor(each / fit) * wave(fit) +
      (rest > 0 ? wave(rest) : 0) +
      (Math.ceil(each / fit) - 1) * constants.wave
    );
  };
  // A few registers more may halve the blocks that fit: where that is in doubt, either may be.
  const perThread =
    constants.registers[instruction] +
    (constants.sum * outputs * segments) / threads +
    constants.carried * (accesses - 1);
  const most = Math.min(target.registers, target.unit.registers / (threads * mmaBlocksHeld(c, s, target)));
  const inDoubt = [1 - constants.doubt, 1 + constants.doubt].map((part) => {
    const registers = Math.min(most, Math.ceil(part * perThread));
    return inWaves(blocksPerUnit({ threads, registers, sharedBytes: mmaSharedBytes(c, s) }, target));
  });
  const computed = (inDoubt[0]! + inDoubt[1]!) / 2;

  // What all blocks read and write, and what of it device memory sees: weights, and what the cache cannot keep of the rest.
  const bytes =
    2 * (tile.m + tile.n) * tile.k * segments * steps + (2 * outputs * accesses) / splits + 2 * left;
  const cached = (blocks * bytes) / (units * constants.cache);
  const missed = 1 / (1 + ((constants.room * 1e6) / (width * (own + shared))) ** 4);
  const moved = (width * (own + missed * shared)) / (units * constants.memory);
  // All of these go on at once, but never perfectly so.
  return constants.word + Math.hypot(computed, cached, moved);
}

/** What a contraction moves and computes, whatever its schedule. */
interface Traffic {
  /** Bytes of the operand that each tenant has of its own: with channels last, and in a product with a matrix of weights, the rows of m. */
  readonly own: number;
  /** Bytes of the other operand, the result, and what the epilogue reads. */
  readonly shared: number;
  /** How many buffers the epilogue reads or writes an element of for each output. */
  readonly accesses: number;
  /** Instructions of an output's epilogue. */
  readonly ops: number;
}
const traffic = new WeakMap<Contraction, Traffic>();

function trafficOf(c: Contraction): Traffic {
  const known = traffic.get(c);
  if (known) return known;
  const buffers = new Set<Buffer>([c.b.load.buffer, c.store.buffer]);
  const seen = new Set<Expr>([c.sum]);
  let ops = 0;
  const visit = (e: Expr): void => {
    if (seen.has(e)) return;
    seen.add(e);
    if (e.kind === 'load') buffers.add(e.buffer);
    if (e.kind === 'op') ops += opCost(e);
    childrenOf(e).forEach(visit);
  };
  visit(c.store.value);
  const found = {
    own: 2 * volume(c.batch) * volume(c.m) * volume(c.k),
    shared: [...buffers].reduce((sum, b) => sum + byteSize(b), 0),
    accesses: accessesOf(c),
    ops,
  };
  traffic.set(c, found);
  return found;
}

/** What is the same for all of n stays near, and does not count. */
const accessesOf = (c: Contraction): number =>
  Math.max(
    1,
    [...c.contiguous].filter(({ at }) => {
      const indices = at.flatMap((x) => ('terms' in x ? [x] : 'affine' in x ? [x.affine] : []));
      return volume(c.n) === 1 || indices.some((a) => [...indicesOf(a)].some((i) => c.n.includes(i)));
    }).length,
  );
