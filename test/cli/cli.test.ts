/**
 * @file The command, run as a process: outputs, exit codes, and one clear line for every misuse.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lowerOnnx } from '../../compiler/index.ts';
import { buildModel, encodeTensor } from '../../compiler/onnx/writer.ts';
import { interpretModule } from '../../ir/interpret_module.ts';
import type { Tensor } from '../../ir/tensor.ts';
import { loadNative } from '../../runtime/native.ts';
import { convModel, mlpModel } from '../support/models.ts';
import { randomTensor } from '../support/random.ts';

const main = 'dist/cli/main.js';
const folder = mkdtempSync(join(tmpdir(), 'wideword-cli-'));
const file = (name: string): string => join(folder, name);

function wideword(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

function writeTestData(
  name: string,
  inputs: Record<string, Tensor>,
  outputs: Record<string, Tensor>,
): string {
  const set = file(`${name}/test_data_set_0`);
  mkdirSync(set, { recursive: true });
  const write = (kind: string, tensors: Record<string, Tensor>): void =>
    Object.entries(tensors).forEach(([n, t], i) =>
      writeFileSync(join(set, `${kind}_${i}.pb`), encodeTensor(t, n)),
    );
  write('input', inputs);
  write('output', outputs);
  return file(name);
}

beforeAll(() => {
  if (!existsSync(main)) throw new Error(`${main} is not built: run npm run build`);
  writeFileSync(file('mlp.onnx'), mlpModel([20, 33, 12]));
  writeFileSync(file('conv.onnx'), convModel());
  const x = randomTensor('f32', [1, 20], 5);
  const y = interpretModule(lowerOnnx(mlpModel([20, 33, 12]), { name: 'mlp' }), new Map([['x', x]])).get(
    'y',
  )!;
  writeTestData('right', { x }, { y });
  writeTestData('inputs', { x }, {});
  wideword('compile', file('mlp.onnx'), '-o', file('half.fp16.wwa'), '--precision', 'fp16');
  writeTestData('wrong', { x }, { y: randomTensor('f32', [1, 12], 6) });
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('wideword run', () => {
  it('prints outputs and what the program was', () => {
    const { status, stdout, stderr } = wideword(
      'run',
      `${file('mlp.onnx')}*2`,
      file('conv.onnx'),
      '--device',
      'host',
      '--rounds',
      '3',
    );
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^mlp#1\n {2}y f32\[1,12\]\n {4}\[\d+\]/);
    for (const line of [
      /kernels as lowered +\d+/,
      /words +\d+/,
      /widest word +2/,
      /coalesced +[\d.]+/,
      /time multiplexed/,
    ]) {
      expect(stdout).toMatch(line);
    }
  });

  it('--json is one object', () => {
    const { stdout } = wideword(
      'run',
      file('mlp.onnx'),
      '--replicas',
      '3',
      '--device',
      'host',
      '--rounds',
      '2',
      '--json',
    );
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ ok: true, program: { kernels: 6, words: 2, widest: 3 } });
    expect(report.tenants.map((t: { name: string }) => t.name)).toEqual(['mlp#1', 'mlp#2', 'mlp#3']);
    expect(report.milliseconds.coalesced).toBeGreaterThan(0);
  });

  it('compares with test data: 0 if as expected, 1 if not', () => {
    const right = wideword(
      'run',
      file('mlp.onnx'),
      '--device',
      'host',
      '--rounds',
      '1',
      '--test-data',
      file('right'),
    );
    expect(right.stdout).toContain('as expected: largest error');
    expect(right.status).toBe(0);
    const wrong = wideword(
      'run',
      file('mlp.onnx'),
      '--device',
      'host',
      '--rounds',
      '1',
      '--test-data',
      join(file('wrong'), 'test_data_set_0'),
    );
    expect(wrong.stdout).toContain('WRONG: largest error');
    expect(wrong.status).toBe(1);
  });
});

describe('wideword compile', () => {
  it('an artefact remembers its precision, and is checked by it', () => {
    const { status, stdout } = wideword(
      'run',
      file('half.fp16.wwa'),
      '--device',
      'host',
      '--rounds',
      '1',
      '--test-data',
      file('right'),
    );
    expect(stdout).toContain('(allowed 0.01)');
    expect(status).toBe(0);
  });

  it('writes an artefact that runs without compiling', () => {
    const made = wideword('compile', `${file('mlp.onnx')}*2`, '-o', file('two.wwa'), '--target', 'host');
    expect(made.status).toBe(0);
    expect(made.stdout).toMatch(/2 tenants, \d+ kernels for host/);
    const ran = wideword('run', file('two.wwa'), '--device', 'host', '--rounds', '1');
    expect(ran.stdout).toMatch(/nothing compiled: \d+ from the artefact/);
    const direct = wideword('run', `${file('mlp.onnx')}*2`, '--device', 'host', '--rounds', '1');
    expect(ran.stdout.split('\n').slice(0, 6)).toEqual(direct.stdout.split('\n').slice(0, 6));
  });
});

describe('wide words', () => {
  const both = [file('mlp.onnx'), file('conv.onnx')];
  const tenants = (stdout: string) => JSON.parse(stdout).tenants;

  it('give the outputs that coalesced ones do, from an artefact too', () => {
    const args = ['--device', 'host', '--rounds', '1', '--json'];
    const coalesced = wideword('run', ...both, ...args);
    const wide = wideword('run', ...both, ...args, '--words', 'wide');
    expect(wide.status).toBe(0);
    expect(tenants(wide.stdout)).toEqual(tenants(coalesced.stdout));
    const [a, b] = [coalesced, wide].map(({ stdout }) => JSON.parse(stdout).program.words);
    expect(b).toBeLessThan(a);
    expect(wideword('compile', ...both, '-o', file('wide.wwa'), '--words', 'wide').status).toBe(0);
    const shipped = wideword('run', file('wide.wwa'), ...args, '--words', 'wide');
    expect(JSON.parse(shipped.stdout)).toMatchObject({ notes: [], program: { compiled: 0, cached: 0 } });
    expect(tenants(shipped.stdout)).toEqual(tenants(coalesced.stdout));
  });

  it('give them as branches, and in whichever kind measures fastest, from an artefact too', () => {
    const args = ['--device', 'host', '--rounds', '1', '--json'];
    const coalesced = wideword('run', ...both, ...args);
    const branches = wideword('run', ...both, ...args, '--words', 'branches');
    expect(JSON.parse(branches.stdout)).toMatchObject({ words: 'branches', notes: [] });
    expect(tenants(branches.stdout)).toEqual(tenants(coalesced.stdout));
    expect(wideword('compile', ...both, '-o', file('any.wwa'), '--words', 'measured').status).toBe(0);
    const measured = wideword('run', file('any.wwa'), ...args, '--words', 'measured');
    const { words, notes, program } = JSON.parse(measured.stdout);
    const found = words === 'mixed' ? String.raw`branches with \d+ of \d+ wide words` : words;
    expect(notes).toEqual([expect.stringMatching(new RegExp(`^measured: ${found}, at .* ms a round; `))]);
    // The other kinds, and branches with some wide words or none.
    expect(notes[0].match(/ times as long/g).length).toBeGreaterThanOrEqual(3);
    expect(program).toMatchObject({ compiled: 0, cached: 0 });
    expect(tenants(measured.stdout)).toEqual(tenants(coalesced.stdout));
  });

  it('cannot be measured where nothing is run', () => {
    const { status, stderr } = wideword('dump', ...both, '--stage', 'word', '--words', 'measured');
    expect([status, stderr]).toEqual([2, expect.stringContaining('coalesced, wide, branches')]);
  });

  it('are printed, and read back', () => {
    const dumped = wideword('dump', ...both, '--stage', 'word', '--words', 'wide');
    expect(dumped.stdout).toMatch(/word @w\d+ generic \(@\w+, @\w+/);
    writeFileSync(file('wide.ir'), dumped.stdout);
    expect(wideword('opt', file('wide.ir')).stdout).toBe(dumped.stdout);
  });

  it('need a kind that there is', () => {
    const { status, stderr } = wideword('run', file('mlp.onnx'), '--words', 'narrow');
    expect(status).toBe(2);
    expect(stderr).toMatch(/Allowed choices are coalesced, wide/);
  });
});

describe('wideword dump', () => {
  for (const [stage, expected] of Object.entries({
    graph: /%h0: f32\[1,33\] = Gemm\(%x, %w0, %b0\) \{.*\} loc\("fc0"\)/,
    kernel: /kernel @gemm_relu\(%x0: f32\[1,20\], %x1: f32\[20,33\], %x2: f32\[33\]\)/,
    word: /word @w0 generic \(@gemm_relu\) \{\n {4}slot "mlp#1" task 0 @gemm_relu blocks \d+ of \d+/,
    cuda: /extern "C" __global__ void __launch_bounds__\(256\) word_gemm_relu/,
  })) {
    it(stage, () => {
      const { status, stdout } = wideword('dump', `${file('mlp.onnx')}*2`, '--stage', stage);
      expect(status).toBe(0);
      expect(stdout).toMatch(expected);
    });
  }
});

describe('wideword dump --stage resources', () => {
  const { problem } = loadNative().probe().nvrtc;
  const title = problem === undefined ? '' : ` (skipped: ${problem})`;
  it.skipIf(problem !== undefined)(`says what the code of each word takes${title}`, () => {
    const mlp = `${file('mlp.onnx')}*2`;
    const { status, stdout } = wideword('dump', mlp, '--stage', 'resources', '--target', 'sm_90');
    expect(status).toBe(0);
    const [head, ...rows] = stdout.trimEnd().split('\n');
    expect(head).toMatch(/^code +threads +registers +shared bytes +local bytes +blocks a multiprocessor$/);
    expect(rows).toHaveLength(2);
    for (const row of rows) expect(row).toMatch(/^word_gemm\w* +\d+ +\d+ +\d+ +\d+ +[1-9]\d*$/);
  });

  it('needs a GPU to be for', () => {
    const { status, stderr } = wideword('dump', file('mlp.onnx'), '--stage', 'resources', '--target', 'host');
    expect(status).toBe(2);
    expect(stderr).toMatch(/--stage resources needs a CUDA target/);
  });
});

describe('texts of the IR', () => {
  it('what dump prints, opt prints again, byte for byte', () => {
    const mlp = [`${file('mlp.onnx')}*2`];
    const conv = [file('conv.onnx'), '--shape', 'x=1,3,12,12'];
    for (const args of [
      [...conv, '--stage', 'kernel'],
      [...mlp, '--stage', 'word', '--tier', 'auto'],
      [...mlp, '--after', 'lower'],
      [...conv, '--after', 'plan-memory', '--precision', 'fp16'],
    ]) {
      const dumped = wideword('dump', ...args);
      expect(dumped.stderr).toBe('');
      writeFileSync(file('dump.ir'), dumped.stdout);
      const { status, stdout, stderr } = wideword('opt', file('dump.ir'));
      expect(stderr).toBe('');
      expect(stdout).toBe(dumped.stdout);
      expect(status).toBe(0);
    }
  });

  it('opt runs passes, and says what they took', () => {
    const { stdout } = wideword('dump', file('mlp.onnx'), '--after', 'lower');
    writeFileSync(file('mlp.ir'), stdout);
    const passes = 'fuse,plan-memory=3,coalesce,constrain=1';
    const opt = wideword('opt', file('mlp.ir'), '--pass', passes, '--verify-each', '--time');
    expect(opt.status).toBe(0);
    expect(opt.stderr).toMatch(/^fuse .*\nplan-memory .*\ncoalesce .*\nconstrain .*\n$/);
    expect(opt.stdout).toMatch(/slot "mlp#3" task 0 @gemm_relu blocks 1 of \d/);
    expect(wideword('opt', file('mlp.ir'), '--pass', 'fuse', '--print-after-all').stderr).toMatch(
      /^; after fuse\n/,
    );
    expect(wideword('opt', '--list').stdout).toMatch(/^constrain=N +give each slot/m);
    writeFileSync(file('coalesced.ir'), opt.stdout);
    const run = wideword('run', file('coalesced.ir'), '--interpret');
    expect(run.stdout).toMatch(/^mlp#1 \(3 constants are left out.*\n {2}y f32\[1,12\]\n/);
    expect(run.status).toBe(0);
  });

  it('errors are shown in their lines', () => {
    const text =
      'kernel @k(%x0: f32[8]) -> (%y0: f32[8])\n    parallel (i: 8) {\n  %0 = load %x0[j] : f32\n  store %y0[i] = %0\n}\n';
    writeFileSync(file('bad.ir'), text);
    const { status, stderr } = wideword('opt', file('bad.ir'));
    expect(stderr).toMatch(
      /bad\.ir:3:17: error: no index 'j' is bound here\n +3 \| {3}%0 = load.*\n +\| +\^\n$/,
    );
    expect(status).toBe(2);
  });
});

describe('texts that cannot be used', () => {
  it('modules of one name become tenants of different names', () => {
    const module = (name: string): string => `module "${name}" {
  input "x": f32[8]
  output "y" = "y": f32[8]
  kernel @k(%x0: f32[8]) -> (%y0: f32[8]) parallel (i: 8) {
    %0 = load %x0[i] : f32
    store %y0[i] = %0
  }
  call ("x") -> ("y": f32[8])
}
`;
    writeFileSync(file('three.ir'), ['m', 'm', 'm#1'].map(module).join('\n'));
    const { status, stdout, stderr } = wideword('opt', file('three.ir'), '--pass', 'plan-memory');
    expect(stderr).toBe('');
    expect([...stdout.matchAll(/tenant "(.*)" =/g)].map((m) => m[1])).toEqual(['m#2', 'm#3', 'm#1']);
    expect(status).toBe(0);
  });

  it('bytes that are no text are refused at once', () => {
    writeFileSync(file('latin.ir'), Buffer.from('; caf\xe9\n', 'latin1'));
    for (const command of [['opt'], ['run', '--interpret']]) {
      const model = wideword(...command, file('conv.onnx'));
      expect(model.stderr).toMatch(
        /^wideword: .*conv\.onnx: not a text: expected the IR.*; give an ONNX .*\n$/,
      );
      expect(model.status).toBe(2);
      const latin = wideword(...command, file('latin.ir'));
      expect(latin.stderr).toMatch(/^wideword: .*latin\.ir: not a text: expected the IR[^;]*\n$/);
      expect(latin.status).toBe(2);
    }
  });

  it('a chain of operations that is too long for the stack fails in one line', () => {
    const adds = Array.from({ length: 20_000 }, (_, n) => `  %${n + 1} = add %${n}, %0 : f32\n`).join('');
    const text = `kernel @k(%x0: f32[8]) -> (%y0: f32[8]) parallel (i: 8) {
  %0 = load %x0[i] : f32
${adds}  store %y0[i] = %20000
}
`;
    writeFileSync(file('long.ir'), text);
    for (const command of [['opt'], ['run', '--interpret']]) {
      const { status, stderr } = wideword(...command, file('long.ir'));
      expect(stderr).toMatch(/^wideword: a kernel is nested too deeply: .*\n$/);
      expect(status).toBe(1);
    }
  });
});

it('wideword doctor names what is there and what is missing', () => {
  const { stdout } = wideword('doctor');
  for (const line of [/Node +v\d/, /native addon +loads/, /C\+\+ compiler/, /GPU/, /NVRTC/, /cache/])
    expect(stdout).toMatch(line);
});

describe('misuse', () => {
  const cases: [string, () => string[], number, RegExp][] = [
    ['no command', () => [], 2, /Usage: wideword/],
    ['an unknown command', () => ['rum'], 2, /unknown command 'rum'.*Did you mean run/s],
    ['an unknown option', () => ['run', file('mlp.onnx'), '--fast'], 2, /unknown option '--fast'/],
    ['no model', () => ['run'], 2, /missing required argument 'model'/],
    ['a missing file', () => ['run', file('no.onnx')], 2, /no\.onnx: no such file/],
    ['a folder', () => ['run', folder], 2, /is a folder/],
    ['zero replicas', () => ['run', `${file('mlp.onnx')}*0`], 2, /1 to 4096 tenants/],
    ['a bad count', () => ['run', file('mlp.onnx'), '--rounds', 'x'], 2, /whole number from 1/],
    ['a bad shape', () => ['run', file('conv.onnx'), '--shape', 'x:1'], 2, /expected NAME=D,D/],
    [
      'a shape for no input',
      () => ['run', file('mlp.onnx'), '--shape', 'z=1,2'],
      2,
      /no model here has an input 'z'/,
    ],
    [
      'a shape against the model',
      () => ['run', file('mlp.onnx'), '--shape', 'x=1,21'],
      2,
      /fixes dimension 1 to 20/,
    ],
    ['a shape of another rank', () => ['run', file('conv.onnx'), '--shape', 'x=1,3,12'], 2, /4 dimensions/],
    [
      'an unknown target',
      () => ['compile', file('mlp.onnx'), '-o', file('x.wwa'), '--target', 'sm90'],
      2,
      /unknown target 'sm90'/,
    ],
    [
      'test data that is not there',
      () => ['run', file('mlp.onnx'), '--test-data', file('none')],
      2,
      /none: no such folder/,
    ],
    [
      'test data of another model',
      () => ['run', file('conv.onnx'), '--test-data', file('right')],
      2,
      /dimensions/,
    ],
    [
      'ptx of the host',
      () => ['dump', file('mlp.onnx'), '--stage', 'ptx', '--target', 'host'],
      2,
      /CUDA target/,
    ],
    ['a text without --interpret', () => ['run', file('bad.ir')], 2, /run it with --interpret/],
    ['opt without a file', () => ['opt'], 2, /needs a file/],
    ['opt with no such pass', () => ['opt', file('bad.ir'), '--pass', 'inline'], 2, /no pass 'inline'/],
    ['dump of nothing', () => ['dump', file('mlp.onnx')], 2, /--stage .*or --after/],
    [
      'an unknown stage',
      () => ['dump', file('mlp.onnx'), '--stage', 'llvm'],
      2,
      /graph, kernel, word, cuda, ptx/,
    ],
  ];
  for (const [name, args, code, message] of cases) {
    it(name, () => {
      const { status, stdout, stderr } = wideword(...args());
      expect(stdout + stderr).toMatch(message);
      expect(stderr).not.toMatch(/\n {4}at /);
      expect(status).toBe(code);
    });
  }

  it('files that are no model, or half of one', () => {
    const good = readFileSync(file('conv.onnx'));
    const bad: Record<string, Uint8Array> = {
      'empty.onnx': new Uint8Array(),
      'text.onnx': Buffer.from('this is not a model, but a text of some length'),
      'half.onnx': good.subarray(0, good.length >> 1),
      'short.onnx': good.subarray(0, good.length - 1),
      'half.wwa': Buffer.from('WIDEWORD\x01\0\0\0'),
    };
    for (const [name, bytes] of Object.entries(bad)) {
      writeFileSync(file(name), bytes);
      const { status, stderr } = wideword('run', file(name));
      expect(stderr.trim().split('\n')).toHaveLength(1);
      expect(stderr).toMatch(new RegExp(`^wideword: .*${name}`));
      expect(status).toBe(2);
    }
  });

  it('lists every unsupported node at once, by name, op and opset', () => {
    const nodes = [
      { op: 'Relu', name: 'fine', inputs: ['x'], outputs: ['a'] },
      { op: 'NoSuchOp', name: 'first', inputs: ['a'], outputs: ['b'] },
      { op: 'Elsewhere', domain: 'com.example', name: 'second', inputs: ['b'], outputs: ['y'] },
    ];
    writeFileSync(
      file('odd.onnx'),
      buildModel({ inputs: [{ name: 'x', shape: [1, 4] }], outputs: ['y'], nodes }),
    );
    const { status, stderr } = wideword('run', file('odd.onnx'));
    expect(stderr).toMatch(/NoSuchOp \(opset 18\) at node 'first'/);
    expect(stderr).toMatch(/com\.example\.Elsewhere.*'second'/);
    expect(status).toBe(2);
  });

  it('asks for a missing dimension with the option to give it', () => {
    const nodes = [{ op: 'Relu', inputs: ['x'], outputs: ['y'] }];
    writeFileSync(
      file('open.onnx'),
      buildModel({ inputs: [{ name: 'x', shape: ['N', 3, 'H'] }], outputs: ['y'], nodes }),
    );
    const { status, stderr } = wideword('run', file('open.onnx'));
    expect(stderr).toMatch(/--shape x=1,3,/);
    expect(status).toBe(2);
  });

  it('--verbose shows where', () => {
    expect(wideword('run', file('no.onnx'), '--verbose').stderr).toMatch(/\n {4}at /);
    expect(wideword('--verbose', 'run', file('no.onnx')).stderr).toMatch(/\n {4}at /);
  });
});
