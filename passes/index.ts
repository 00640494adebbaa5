/**
 * @file The passes by name, as `wideword opt` runs them: each alone, on what a text holds.
 */
import type { Item } from '../ir/item.ts';
import type { Kernel } from '../ir/kernel.ts';
import type { Module } from '../ir/module.ts';
import { numbered } from '../ir/names.ts';
import type { Program } from '../ir/program.ts';
import { type Target, targetOf } from '../ir/target.ts';
import { beside } from './beside.ts';
import { orderChannels } from './channel_order.ts';
import { coalesce, type TierChoice, tiers } from './coalesce.ts';
import { constrain } from './constrain.ts';
import { fuse } from './fuse.ts';
import { fuseAttention } from './fuse_attention.ts';
import { layOut } from './layout.ts';
import { linkModules } from './link.ts';
import { estimatedTimes, pack } from './pack.ts';
import { packChannels } from './pack_channels.ts';
import { saturate, saturateKernel } from './saturate.ts';
import { schedule, scheduleKernel } from './schedule.ts';
import { slice } from './slice.ts';
import { stack } from './stack.ts';
import { unround, unroundKernel } from './unround.ts';
import { orderWeights } from './weight_order.ts';

/** A pass that does not fit what it is given: its name, its argument, or the text. */
export class PassError extends RangeError {
  override readonly name = 'PassError';
}

interface Documented {
  /** In one line. */
  readonly doc: string;
  /** How the argument is written, if the pass takes one; in brackets if it may be left out. */
  readonly argument?: string;
}

/** Rewrites kernels and modules, each by itself. */
interface ModulePass extends Documented {
  readonly on: 'modules';
  readonly kernel: (kernel: Kernel, target: Target) => Kernel;
  readonly module: (module: Module, target: Target) => Module;
}

/** Makes one program of all modules. */
interface LinkPass extends Documented {
  readonly on: 'link';
  readonly link: (modules: readonly Module[], target: Target, argument: string | undefined) => Program;
}

/** Rewrites a program; modules are scheduled and linked for it first. */
interface ProgramPass extends Documented {
  readonly on: 'program';
  readonly program: (program: Program, argument: string | undefined) => Program;
}

export type Pass = ModulePass | LinkPass | ProgramPass;

const same = (kernel: Kernel): Kernel => kernel;

export const passes = {
  saturate: {
    on: 'modules',
    doc: 'clamp what is computed in f32 and stored as f16 to finite values',
    kernel: saturateKernel,
    module: saturate,
  },
  fuse: {
    on: 'modules',
    doc: 'put element-wise work into the kernels that make or read its values',
    kernel: same,
    module: fuse,
  },
  unround: {
    on: 'modules',
    doc: 'keep what a kernel uses itself in f32, where saturate clamped and rounded it',
    kernel: unroundKernel,
    module: unround,
  },
  'fuse-attention': {
    on: 'modules',
    doc: 'for tensor cores: make one kernel of a matrix product, a softmax and a matrix product of 16-bit floats',
    kernel: same,
    module: fuseAttention,
  },
  stack: {
    on: 'modules',
    doc: 'for tensor cores: make one matrix product of several that multiply one value by weights of like shape',
    kernel: same,
    module: stack,
  },
  'pack-channels': {
    on: 'modules',
    doc: 'for tensor cores: give a picture of few channels pixels of 16 bytes, for the first convolution',
    kernel: same,
    module: packChannels,
  },
  layout: {
    on: 'modules',
    doc: 'for tensor cores: store pictures between convolutions with their channels last',
    kernel: same,
    module: layOut,
  },
  'channel-order': {
    on: 'modules',
    doc: 'for GPUs: sum over channels inside of a window, and lay constant weights out as neighbours read them',
    kernel: same,
    module: orderChannels,
  },
  'weight-order': {
    on: 'modules',
    doc: 'for the host: lay constant weights out as tiles of them are, with output channels innermost',
    kernel: same,
    module: orderWeights,
  },
  schedule: {
    on: 'modules',
    doc: 'choose a skeleton and a tile for every kernel, for the target',
    kernel: scheduleKernel,
    module: schedule,
  },
  'plan-memory': {
    on: 'link',
    doc: 'make all modules one program, N tenants (default: 1) each: values in places, kernels in classes, a task a word',
    argument: '[N]',
    link: (modules, target, count = '1') => {
      const tenants = modules.flatMap((m) => new Array<Module>(countOf('plan-memory', count)).fill(m));
      return linkModules(named(tenants), target.name);
    },
  },
  coalesce: {
    on: 'program',
    doc: 'put tasks of one class, from different tenants, into one word',
    argument: '[generic|specialised|auto]',
    program: (p, tier = 'generic') => ({ ...p, words: coalesce(p.tenants, tierOf('coalesce', tier)) }),
  },
  pack: {
    on: 'program',
    doc: 'put tasks of unlike classes side by side in wide words, by an estimate of what each takes',
    argument: '[generic|specialised|auto]',
    program: (p, tier = 'generic') => {
      const target = targetOf(p.target);
      const { units } = target;
      const timeOf = estimatedTimes(target, units);
      return { ...p, words: pack(p.tenants, { tier: tierOf('pack', tier), target, units, timeOf }).words };
    },
  },
  beside: {
    on: 'program',
    doc: 'run words of one slot under their schedule for words beside others',
    program: (p) => ({ ...p, words: beside(p.tenants, p.words) }),
  },
  constrain: {
    on: 'program',
    doc: 'give each slot at most N physical blocks',
    argument: 'N',
    program: (p, blocks) => ({ ...p, words: constrain(p.words, countOf('constrain', blocks)) }),
  },
  slice: {
    on: 'program',
    doc: 'run at most N virtual blocks of a slot in a word, and the rest in words behind it',
    argument: 'N',
    program: (p, blocks) => ({ ...p, words: slice(p.tenants, p.words, countOf('slice', blocks)) }),
  },
} as const satisfies Record<string, Pass>;

export type PassName = keyof typeof passes;

const isPass = (name: string): name is PassName => Object.hasOwn(passes, name);

function tierOf(pass: string, text: string): TierChoice {
  const tier = tiers.find((t) => t === text);
  if (tier) return tier;
  throw new PassError(`${pass}=${text}: expected generic, specialised or auto`);
}

function countOf(pass: string, text: string | undefined): number {
  if (text !== undefined && /^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw new PassError(`${pass}${text === undefined ? '' : `=${text}`}: expected a number from 1, ${pass}=8`);
}

/** Tenants by their modules' names, with a number where two are called the same. */
function named(modules: readonly Module[]): { readonly name: string; readonly module: Module }[] {
  const names = numbered(modules.map((m) => m.name));
  return modules.map((module, n) => ({ module, name: names[n]! }));
}

/** One step of a pipeline: a pass and its argument. */
export interface Step {
  readonly name: PassName;
  readonly argument?: string;
}

/** Reads `fuse,coalesce,constrain=8`. Throws PassError. */
export function parsePasses(text: string): Step[] {
  return text
    .split(',')
    .filter((part) => part !== '')
    .map((part): Step => {
      const [name, argument] = part.split(/=(.*)/s) as [string, string?];
      if (!isPass(name)) throw new PassError(`no pass '${name}': expected ${Object.keys(passes).join(', ')}`);
      const pass: Pass = passes[name];
      if (argument !== undefined && pass.argument === undefined)
        throw new PassError(`${name} takes no argument, got '${argument}'`);
      return argument === undefined ? { name } : { name, argument };
    });
}

/** Runs one pass on all that a text holds. Throws PassError if it does not fit. */
export function runPass({ name, argument }: Step, items: readonly Item[], target: Target): Item[] {
  const pass: Pass = passes[name];
  switch (pass.on) {
    case 'modules':
      return items.map((item): Item => {
        if (item.kind === 'kernel') return { kind: 'kernel', kernel: pass.kernel(item.kernel, target) };
        if (item.kind === 'module') return { kind: 'module', module: pass.module(item.module, target) };
        throw new PassError(`${name} takes kernels and modules, the text has a program`);
      });
    case 'link':
      return link(name, pass, items, target, argument);
    case 'program': {
      const programs = items.some((i) => i.kind === 'module')
        ? link(name, passes['plan-memory'], items, target, undefined)
        : items;
      return programs.map((item): Item => {
        if (item.kind === 'program')
          return { kind: 'program', program: pass.program(item.program, argument) };
        throw new PassError(`${name} takes modules or a program, the text has a kernel by itself`);
      });
    }
    default:
      return pass satisfies never;
  }
}

/** All modules as one program. Kernels that have no schedule yet get one. */
function link(
  name: string,
  pass: LinkPass,
  items: readonly Item[],
  target: Target,
  argument: string | undefined,
): Item[] {
  const modules = items.map((item): Module => {
    if (item.kind !== 'module') throw new PassError(`${name} takes modules, the text has a ${item.kind}`);
    const calls = item.module.calls.map((call) =>
      call.kernel.schedule ? call : { ...call, kernel: scheduleKernel(call.kernel, target) },
    );
    return { ...item.module, calls };
  });
  return [{ kind: 'program', program: pass.link(modules, target, argument) }];
}
