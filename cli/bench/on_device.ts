/**
 * @file What measurements on a device have in common: the device is opened and closed, the report begins with what it is, and a run whose
 * outputs are wrong prints no number and fails.
 */
import { type Device, type DeviceKind, openDevice } from '../../driver/device.ts';
import { exitCodes } from '../output.ts';
import { CheckFailed } from './check.ts';

export interface OnDeviceOptions {
  readonly device: DeviceKind;
  /** Threads of the host device. */
  readonly threads?: number;
  readonly json: boolean;
}

/** How reports begin. */
export interface DeviceHead {
  readonly device: { readonly kind: string; readonly name: string; readonly target: string };
}

/**
 * Calls `run` with the device and what reports begin with, `about` in it, and gives the exit code: 0, or 1 if `run` throws CheckFailed, whose
 * message is then printed.
 */
export async function onDevice<About extends object>(
  { device: kind, threads, json }: OnDeviceOptions,
  about: About,
  run: (device: Device, head: DeviceHead & About) => Promise<void>,
): Promise<number> {
  const device = await openDevice(kind, threads === undefined ? {} : { threads });
  const head = { device: { kind: device.kind, name: device.name, target: device.target }, ...about };
  try {
    await run(device, head);
    return exitCodes.ok;
  } catch (error) {
    if (!(error instanceof CheckFailed)) throw error;
    if (json) console.log(JSON.stringify({ ...head, ok: false, problem: error.message }));
    else console.error(`wideword: ${error.message}`);
    return exitCodes.failure;
  } finally {
    device.close();
  }
}
