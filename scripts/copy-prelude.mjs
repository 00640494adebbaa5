// Texts that are read at run time, so the build takes them along: the prelude, and the emulation of it.
import { cpSync } from 'node:fs';

cpSync('codegen/prelude', 'dist/codegen/prelude', { recursive: true });

for (const name of ['fibers.h', 'cuda.h', 'main.h'])
  cpSync(`test/support/emulator/${name}`, `dist/test/support/emulator/${name}`);
