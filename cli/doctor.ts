/**
 * @file `wideword doctor`: what is here, what is missing, and what to do about it.
 */
import { accessSync, constants, existsSync, readdirSync, statSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { defaultCacheDir } from '../runtime/cache.ts';
import { loadNative } from '../runtime/native.ts';
import { findHostCompiler, type HostCompiler } from '../runtime/toolchain.ts';
import { exitCodes, table } from './output.ts';

interface Finding {
  readonly what: string;
  readonly ok: boolean;
  readonly found: string;
  /** What to do if it is missed. */
  readonly advice?: string;
}

/** Exits 0 if at least one device can compile and run, 1 if none can. */
export async function doctor({ json }: { readonly json: boolean }): Promise<number> {
  const findings = [node(), addon()];
  if (findings.every((f) => f.ok)) findings.push(hostCompiler(), ...gpu());
  findings.push(cache());
  const usable = findings.some((f) => f.ok && (f.what === 'C++ compiler' || f.what === 'GPU'));
  if (json) {
    console.log(JSON.stringify({ usable, findings }));
  } else {
    console.log(table(findings.map((f) => [f.ok ? 'ok' : '--', f.what, f.found])));
    const advice = findings.filter((f) => !f.ok && f.advice);
    if (advice.length > 0) console.log(`\n${advice.map((f) => `${f.what}: ${f.advice}`).join('\n')}`);
  }
  return usable ? exitCodes.ok : exitCodes.failure;
}

const node = (): Finding => ({
  what: 'Node',
  ok: Number(process.versions.node.split('.')[0]) >= 20,
  found: process.version,
  advice: 'install Node 20 or later',
});

function addon(): Finding {
  try {
    loadNative();
    return { what: 'native addon', ok: true, found: 'loads' };
  } catch (error) {
    return {
      what: 'native addon',
      ok: false,
      found: (error as Error).message.split('\n')[0]!,
      advice: 'npm run build:native (needs CMake and a C++ compiler)',
    };
  }
}

function hostCompiler(): Finding {
  const cores = cpus().length;
  let compiler: HostCompiler | undefined;
  let problem = 'none';
  try {
    compiler = findHostCompiler();
  } catch (error) {
    problem = (error as Error).message;
  }
  return {
    what: 'C++ compiler',
    ok: compiler !== undefined,
    found: compiler
      ? `${compiler.command.join(' ')}: ${compiler.version}; the host device has ${cores} cores`
      : problem,
    advice: 'the host device needs g++ or clang++ (Debian: apt-get install g++), or CXX set to one',
  };
}

function gpu(): Finding[] {
  const { cuda, nvrtc } = loadNative().probe();
  const devices = cuda.devices.map(
    (d) => `${d.ordinal}: ${d.name}, ${d.target}, ${(d.memoryBytes / 2 ** 30).toFixed(0)} GiB`,
  );
  return [
    {
      what: 'GPU',
      ok: devices.length > 0,
      found: devices.length > 0 ? devices.join('; ') : (cuda.problem ?? 'the driver lists none'),
      advice: 'optional: without a GPU and its driver everything runs on the host device',
    },
    {
      what: 'NVRTC',
      ok: nvrtc.problem === undefined,
      found: nvrtc.problem ?? `${nvrtc.version} at ${nvrtc.path}`,
      advice:
        'compiles for GPUs (needs none itself): pip install nvidia-cuda-nvrtc, or set WIDEWORD_NVRTC to the folder of libnvrtc',
    },
  ];
}

function cache(): Finding {
  const dir = defaultCacheDir();
  const advice = 'set WIDEWORD_CACHE to a folder that can be written';
  let existing = dir;
  while (!existsSync(existing) && dirname(existing) !== existing) existing = dirname(existing);
  try {
    accessSync(existing, constants.W_OK);
  } catch {
    return { what: 'cache', ok: false, found: `${dir} cannot be written`, advice };
  }
  if (existing !== dir) return { what: 'cache', ok: true, found: `${dir} (empty)` };
  if (!statSync(dir).isDirectory())
    return { what: 'cache', ok: false, found: `${dir} is not a folder`, advice };
  const files = readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(so|cubin)$/.test(name))
    .map((name) => statSync(join(dir, name), { throwIfNoEntry: false }))
    .filter((s) => s?.isFile());
  const mib = files.reduce((n, s) => n + (s?.size ?? 0), 0) / 2 ** 20;
  return { what: 'cache', ok: true, found: `${dir}: ${files.length} kernels, ${mib.toFixed(1)} MiB` };
}
