/**
 * @file Runs a module on a device, as one tenant: what conformance tests by default.
 */
import type { Device } from '../../driver/device.ts';
import { SourceModel } from '../../driver/model.ts';
import type { Runner } from './suite.ts';

/** A runner on an open device. Code that two tests share is compiled once, as the cache is shared. */
export const deviceRunner =
  (device: Device): Runner =>
  async (module, inputs) => {
    const program = await device.load([{ name: 'test', model: new SourceModel(module) }]);
    try {
      const given = Object.fromEntries(module.inputs.map((name) => [name, inputs.get(name)!]));
      const { outputs } = await program.run({ test: given });
      return new Map(Object.entries(outputs.test!));
    } finally {
      program.close();
    }
  };
