/**
 * @file The ways to run a program of the IR, besides interpreting it: on the host, with emulated CUDA, and on a GPU. Each runs the
 * programs of its own target.
 */
import type { TensorsByTenant } from '../../ir/interpret_program.ts';
import type { Program } from '../../ir/program.ts';
import type { Tensor } from '../../ir/tensor.ts';
import { loadNative, type NativeDevice } from '../../runtime/native.ts';
import { Emulator, type Watch } from './emulator/emulator.ts';
import { runProgram } from './run_program.ts';

/** Outputs by tenant and name. */
export type Outputs = Map<string, Map<string, Tensor>>;

export interface Way {
  readonly name: string;
  readonly target: string;
  /** Compiles what the programs need. Only prepared programs can be run. */
  prepare(programs: readonly Program[]): Promise<void>;
  /** Runs a program once for all its tenants. */
  run(program: Program, inputs: TensorsByTenant): Promise<Outputs>;
  close(): void;
}

export interface WayKind {
  readonly name: string;
  /** Why it cannot be had here. */
  readonly problem?: string | undefined;
  open(): Way;
}

/** Emulated CUDA, watched by sanitizers. */
export function emulatedWay(watch: Watch = 'memory', target = 'sm_90'): Way {
  let emulator: Emulator | undefined;
  return {
    name: `emulated, ${watch}`,
    target,
    async prepare(programs) {
      emulator = await Emulator.compile(programs, watch);
    },
    async run(program, inputs) {
      if (!emulator) throw new Error('prepare the program first');
      return emulator.run(program, inputs);
    },
    close() {},
  };
}

function deviceWay(name: string, device: NativeDevice): Way {
  return {
    name,
    target: device.target,
    async prepare() {}, // code is compiled when a program is run, and cached
    run: (program, inputs) => runProgram(device, program, inputs),
    close: () => device.close(),
  };
}

/** Every way, with the reason where it cannot be had. */
export function wayKinds(): { readonly host: WayKind; readonly emulated: WayKind; readonly cuda: WayKind } {
  const { cuda, nvrtc } = loadNative().probe();
  return {
    host: { name: 'host', open: () => deviceWay('host', loadNative().openHost(2)) },
    emulated: { name: 'emulated CUDA', open: () => emulatedWay() },
    cuda: {
      name: 'cuda',
      problem: cuda.problem ?? nvrtc.problem,
      open: () => deviceWay('cuda', loadNative().openCuda(0)),
    },
  };
}

/** The title of a suite that is skipped where its way cannot be had. */
export const titled = (title: string, { problem }: WayKind): string =>
  problem === undefined ? title : `${title} (skipped: ${problem})`;
