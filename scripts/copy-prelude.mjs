// The prelude's texts are read at run time, so the build takes them along.
import { cpSync } from 'node:fs';

cpSync('codegen/prelude', 'dist/codegen/prelude', { recursive: true });
