// Runs when the package is installed: the addon that it carries serves the platform it was packed on; anywhere else it is
// built here. In a checkout there is nothing to do, since `npm run build` builds it.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const addon = `${root}build/Release/wideword.node`;

function loads() {
  try {
    createRequire(import.meta.url)(addon);
    return true;
  } catch {
    return false;
  }
}

if (!existsSync(`${root}tsconfig.json`) && !loads()) {
  const { status } = spawnSync('npx', ['cmake-js', 'compile', '--log-level', 'error'], {
    cwd: root,
    stdio: 'inherit',
    shell: true,
  });
  if (status !== 0) {
    console.error(
      'wideword: the native addon could not be built: install CMake and a C++20 compiler, then npm rebuild wideword',
    );
  }
  process.exitCode = status ?? 1;
}
