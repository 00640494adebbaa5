/**
 * @file Half floats: every bit pattern survives a round trip, and rounding is to nearest, ties to even.
 */
import { expect, it } from 'vitest';
import { cast, constant } from '../../ir/build.ts';
import {
  castValue,
  converted,
  fromBf16Bits,
  fromF16Bits,
  makeTensor,
  reader,
  roundTo,
  tensorOf,
  toBf16Bits,
  toF16Bits,
  toNumbers,
} from '../../ir/tensor.ts';

it('every f16 and bf16 reads back to its own bits', () => {
  for (let bits = 0; bits < 65536; bits++) {
    for (const [from, to] of [
      [fromF16Bits, toF16Bits],
      [fromBf16Bits, toBf16Bits],
    ] as const) {
      const value = from(bits);
      if (!Number.isNaN(value)) expect(to(value)).toBe(bits);
      else expect(Number.isNaN(from(to(value)))).toBe(true);
    }
  }
});

it('rounds a whole tensor to f16 as each number', () => {
  // Every exponent with both signs, and mantissas at and beside ties; not from the buffer's beginning.
  const bits = Uint32Array.from({ length: 512 * 64 + 1 }, (_, i) => ((i >>> 6) << 23) | ((i % 64) * 0x1fff3));
  const data = new Float32Array(bits.buffer, 4);
  const halves = converted(makeTensor('f32', [data.length], data), 'f16').data;
  for (const [i, half] of halves.entries()) expect(half).toBe(toF16Bits(data[i]!));
});

it('rounds f16 to nearest, ties to even', () => {
  expect(toF16Bits(1 + 2 ** -11)).toBe(0x3c00); // a tie, to even below
  expect(toF16Bits(1 + 3 * 2 ** -11)).toBe(0x3c02); // a tie, to even above
  expect(toF16Bits(1 + 2 ** -11 + 2 ** -20)).toBe(0x3c01);
  expect(toF16Bits(65519)).toBe(0x7bff);
  expect(toF16Bits(65520)).toBe(0x7c00);
  expect(toF16Bits(65536)).toBe(0x7c00);
  expect(toF16Bits(-1e30)).toBe(0xfc00);
  expect(toF16Bits(Number.NEGATIVE_INFINITY)).toBe(0xfc00);
  expect(toF16Bits(2 ** -14 - 2 ** -26)).toBe(0x400); // up to the least normal number
  expect(toF16Bits(-(2 ** -15))).toBe(0x8200);
  expect(toF16Bits(2 ** -25)).toBe(0); // a tie with zero
  expect(toF16Bits(2 ** -25 * 1.01)).toBe(1);
});

it('integers wrap, i64 saturates at its ends', () => {
  expect(roundTo('u8', 257)).toBe(1);
  expect(roundTo('i8', 200)).toBe(-56);
  expect(toNumbers(tensorOf('i64', [2], [2 ** 63, -(2 ** 63)]))).toEqual([2 ** 63, -(2 ** 63)]);
});

it('casts to integers saturate, of literals too', () => {
  expect(castValue(300, 'f32', 'u8')).toBe(255);
  expect(castValue(-1.5, 'f32', 'i32')).toBe(-1);
  expect(castValue(Number.NaN, 'f16', 'i64')).toBe(0);
  expect(castValue(300, 'i32', 'u8')).toBe(44);
  expect(cast('i8', constant('f32', 1e9))).toEqual(constant('i8', 127));
});

it('data must fit the shape', () => {
  expect(() => makeTensor('f32', [2, 2], new Float32Array(3))).toThrow(/4 elements/);
  expect(() => makeTensor('f32', [2], new Int32Array(2))).toThrow(RangeError);
  expect(() => tensorOf('f32', [2], [1])).toThrow(/expected 2/);
  expect(reader(tensorOf('f16', [1], [1.5]))(0)).toBe(1.5);
});
