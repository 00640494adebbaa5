/**
 * @file What compiled code takes of a multiprocessor, read from the cubin: an ELF file of 64 bits whose sections are named after the
 * kernel. Registers and the stack's size stand in `.nv.info` as attributes of the kernel's symbol (older compilers: registers in the
 * upper byte of the code section's sh_info); `.nv.shared.NAME` is as long as the shared memory that the code declares, and what the
 * system reserves of it where a section of the file says that it does.
 */

/** Per thread, but for shared memory, which is a block's. */
export interface CodeResources {
  readonly registers: number;
  /** What the code declares; what it asks for when launched comes on top. */
  readonly sharedBytes: number;
  /** Stack in device memory: spilled registers and arrays. */
  readonly localBytes: number;
}

const sectionTypes = { symbols: 2, info: 0x70000000 };
const attributes = { registers: 0x2f, frame: 0x11 };
const reserved = { section: '.nv.shared.reserved.0', bytes: 1024 };
/** How an attribute's value is kept: in its head, or behind it. */
const behind = 4;

interface Section {
  readonly name: string;
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
  readonly info: number;
}

/** Throws RangeError if the bytes are no cubin, are cut short, or hold no kernel of the name. */
export function cubinResources(image: Uint8Array, kernel: string): CodeResources {
  const file = new Reader(image);
  const sections = file.sections();
  const text = sections.find((s) => s.name === `.text.${kernel}`);
  if (!text) throw new RangeError(`the cubin has no kernel ${kernel}`);
  const symbols = sections.find((s) => s.type === sectionTypes.symbols);
  const strings = symbols && sections[symbols.link];
  const isOurs = (symbol: number): boolean =>
    symbols !== undefined && strings !== undefined && file.symbol(symbols, strings, symbol) === kernel;
  const found = new Map<number, number>();
  for (const s of sections) {
    if (s.type !== sectionTypes.info || s.name !== '.nv.info') continue;
    for (const { attribute, symbol, value } of file.attributes(s))
      if (isOurs(symbol)) found.set(attribute, value);
  }
  const shared = sections.find((s) => s.name === `.nv.shared.${kernel}`)?.size ?? 0;
  const ofSystem = sections.some((s) => s.name === reserved.section) ? reserved.bytes : 0;
  return {
    registers: found.get(attributes.registers) ?? text.info >>> 24,
    sharedBytes: Math.max(0, shared - ofSystem),
    localBytes: found.get(attributes.frame) ?? 0,
  };
}

/** Reads numbers and names; every place is checked before it is read. */
class Reader {
  readonly #view: DataView;

  constructor(image: Uint8Array) {
    this.#view = new DataView(image.buffer, image.byteOffset, image.byteLength);
    // 64 bits, little-endian.
    if (image.byteLength < 64 || this.#u32(0) !== 0x464c457f || this.#view.getUint16(4) !== 0x0201)
      throw new RangeError('not a cubin: no ELF file of 64 bits');
  }

  sections(): Section[] {
    const table = this.#u64(0x28);
    const [size, count, names] = [this.#u16(0x3a), this.#u16(0x3c), this.#u16(0x3e)];
    if (size < 64) throw new RangeError(`a cubin with section headers of ${size} bytes`);
    this.#check(table, count * size);
    const raw = Array.from({ length: count }, (_, n) => {
      const at = table + n * size;
      return {
        nameAt: this.#u32(at),
        type: this.#u32(at + 4),
        offset: this.#u64(at + 24),
        size: this.#u64(at + 32),
        link: this.#u32(at + 40),
        info: this.#u32(at + 44),
      };
    });
    const strings = raw[names];
    if (!strings) throw new RangeError('a cubin without names of sections');
    return raw.map(({ nameAt, ...s }) => ({ ...s, name: this.#name(strings, nameAt) }));
  }

  /** The name of a symbol; undefined if there is none of the number. */
  symbol({ offset, size }: Section, strings: Section, number: number): string | undefined {
    const bytes = 24;
    if ((number + 1) * bytes > size) return undefined;
    return this.#name(strings, this.#u32(offset + number * bytes));
  }

  /** Attributes that are a number of a symbol. */
  *attributes({ offset, size }: Section): Generator<{
    readonly attribute: number;
    readonly symbol: number;
    readonly value: number;
  }> {
    this.#check(offset, size);
    const end = offset + size;
    for (let at = offset; at + 4 <= end; ) {
      const [format, attribute, length] = [this.#u8(at), this.#u8(at + 1), this.#u16(at + 2)];
      at += 4;
      if (format !== behind) continue;
      if (at + length > end) throw new RangeError('a cubin whose attributes are cut short');
      if (length === 8) yield { attribute, symbol: this.#u32(at), value: this.#u32(at + 4) };
      at += length;
    }
  }

  #name({ offset, size }: Pick<Section, 'offset' | 'size'>, at: number): string {
    this.#check(offset, size);
    const bytes = new Uint8Array(this.#view.buffer, this.#view.byteOffset + offset, size);
    const end = bytes.indexOf(0, at);
    if (at >= size || end < 0) throw new RangeError('a cubin with a name that does not end');
    return Buffer.from(bytes.subarray(at, end)).toString('latin1');
  }

  #u8(at: number): number {
    this.#check(at, 1);
    return this.#view.getUint8(at);
  }
  #u16(at: number): number {
    this.#check(at, 2);
    return this.#view.getUint16(at, true);
  }
  #u32(at: number): number {
    this.#check(at, 4);
    return this.#view.getUint32(at, true);
  }
  #u64(at: number): number {
    this.#check(at, 8);
    return Number(this.#view.getBigUint64(at, true));
  }

  #check(at: number, bytes: number): void {
    if (!(at >= 0 && at + bytes <= this.#view.byteLength))
      throw new RangeError(`a cubin cut short: ${bytes} bytes at ${at} of ${this.#view.byteLength}`);
  }
}
