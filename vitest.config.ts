import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Tests compile kernels with the system's compiler, which on two busy cores takes its time.
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
