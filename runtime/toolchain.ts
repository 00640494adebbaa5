/**
 * @file Compilers of emitted code: NVRTC for CUDA targets, the system's C++ compiler for the host. Both answer "which version", since
 * the cache keeps versions apart.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { arch } from 'node:os';
import { loadNative } from './native.ts';

/** Compiles a source text for one target. */
export interface Toolchain {
  /** Target, compiler, version and flags: all that code depends on besides its source. */
  readonly identity: string;
  /** File extension of what it makes. */
  readonly extension: 'cubin' | 'so';
  /** Compiles to the file `path`. Throws with the compiler's first words. */
  compile(source: string, path: string): Promise<void>;
}

/** A toolchain is missing; the message says what to install. */
export class MissingToolchain extends Error {
  override readonly name = 'MissingToolchain';
}

// No contraction of a*b+c but where it is written, so bits do not depend on how code is arranged around it. Signalling traps and
// errno are of no use to us, and without them loops vectorise.
const hostFlags = [
  '-O3',
  '-march=native',
  '-std=c++17',
  '-ffp-contract=off',
  '-fno-math-errno',
  '-fno-trapping-math',
  '-fPIC',
  '-shared',
  '-w',
];

export interface HostCompiler {
  /** The command and its first arguments. */
  readonly command: readonly string[];
  readonly version: string;
}

let hostCompiler: HostCompiler | undefined;

/**
 * The system's C++ compiler with its version line: what CXX says (`ccache g++` too), else c++, g++ or clang++; undefined if there is
 * none. Throws MissingToolchain if CXX names one that does not run: another in its place would hide the mistake.
 */
export function findHostCompiler(): HostCompiler | undefined {
  if (hostCompiler) return hostCompiler;
  const chosen = process.env.CXX?.trim();
  for (const text of chosen ? [chosen] : ['c++', 'g++', 'clang++']) {
    const command = text.split(/\s+/);
    const { status, stdout } = spawnSync(command[0]!, [...command.slice(1), '--version'], {
      encoding: 'utf8',
    });
    const version = (stdout ?? '').split('\n')[0]!.trim();
    if (status === 0 && version) return (hostCompiler = { command, version });
  }
  if (chosen)
    throw new MissingToolchain(`CXX is '${chosen}', which does not answer --version: correct or unset it`);
  return undefined;
}

/** -march=native means another thing on another CPU, so its feature list is part of the identity. */
export function cpuIdentity(): string {
  try {
    const flags = /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? '';
    return `${arch()}-${createHash('sha256').update(flags).digest('hex').slice(0, 12)}`;
  } catch {
    return arch();
  }
}

export function hostToolchain(): Toolchain {
  const compiler = findHostCompiler();
  if (!compiler) {
    throw new MissingToolchain(
      'no C++ compiler: install g++ or clang++ (Debian: apt-get install g++), or set CXX to one',
    );
  }
  return {
    identity: ['host', cpuIdentity(), compiler.version, ...hostFlags].join(' '),
    extension: 'so',
    compile: (source, path) =>
      runCompiler(compiler.command, [...hostFlags, '-x', 'c++', '-', '-o', path, '-lm'], source),
  };
}

/** The line of a compiler's output that says what is wrong. */
const firstError = (output: string): string =>
  output
    .split('\n')
    .find((line) => /error|cannot|no space/i.test(line))
    ?.trim() ?? output.split('\n')[0]!.trim();

/** Runs a C++ compiler on a source text. Throws with its first words. */
export function runCompiler(
  [command, ...first]: readonly string[],
  args: readonly string[],
  input: string,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command!, [...first, ...args], { stdio: ['pipe', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve();
      else
        reject(
          new Error(
            `${command} failed on an emitted kernel: ${firstError(errors)}\n${errors.slice(0, 4000)}`,
          ),
        );
    });
    // A compiler that dies early closes its input; its own message says more than EPIPE would.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}

export function cudaToolchain(target: string): Toolchain {
  const native = loadNative();
  const { nvrtc } = native.probe();
  if (nvrtc.problem !== undefined) {
    throw new MissingToolchain(`no NVRTC: ${nvrtc.problem}`);
  }
  return {
    identity: `${target} nvrtc ${nvrtc.version ?? ''}`,
    extension: 'cubin',
    async compile(source, path) {
      const { image } = await native.compileCuda(source, target);
      await writeFile(path, image);
    },
  };
}

/** The toolchain of a target, `host` or `sm_NN`. */
export const toolchainOf = (target: string): Toolchain =>
  target === 'host' ? hostToolchain() : cudaToolchain(target);
