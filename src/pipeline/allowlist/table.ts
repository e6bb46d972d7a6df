// Tables of addresses and prefixes as the kernel takes them (bpf/abi/abi.h): sorted, without duplicates.
// Called by the compiler in a Piscina task, and by the daemon for single edits. Pure.
import type { CompiledAllowlist } from "xdp-socket";
import { vxPrefix4, vxPrefix6 } from "../abi.gen.js";
import { formatEntry, type Entry } from "./entry.js";

export type TableName = keyof CompiledAllowlist;

interface Shape {
  family: 4 | 6;
  bytes: number;
  /** Of the address in a record. */
  offset: number;
  /** Records carry a prefix length in front. */
  prefix: boolean;
}

export const shapes: Record<TableName, Shape> = {
  exact4: { family: 4, bytes: 4, offset: 0, prefix: false },
  prefix4: { family: 4, bytes: vxPrefix4.bytes, offset: vxPrefix4.offset.addressBe, prefix: true },
  exact6: { family: 6, bytes: 16, offset: 0, prefix: false },
  prefix6: { family: 6, bytes: vxPrefix6.bytes, offset: vxPrefix6.offset.address, prefix: true },
};
export const tableNames = Object.keys(shapes) as TableName[];

/** Lengths are in host order; the hosts that XDP runs on with this daemon are little-endian. */
const lengthOffset = vxPrefix4.offset.length;

export function tableOf(entry: Entry): TableName {
  if (entry.family === 4) return entry.length === 32 ? "exact4" : "prefix4";
  return entry.length === 128 ? "exact6" : "prefix6";
}

export function recordOf(entry: Entry): Uint8Array {
  const shape = shapes[tableOf(entry)];
  const record = new Uint8Array(shape.bytes);
  if (shape.prefix) record[lengthOffset] = entry.length;
  record.set(entry.address, shape.offset);
  return record;
}

export function empty(): CompiledAllowlist {
  return { exact4: new Uint8Array(), exact6: new Uint8Array(), prefix4: new Uint8Array(), prefix6: new Uint8Array() };
}

export function countOf(tables: CompiledAllowlist): number {
  return tableNames.reduce((sum, name) => sum + tables[name].length / shapes[name].bytes, 0);
}

/** Entries as text, in table order. */
export function* texts(tables: CompiledAllowlist): Generator<string> {
  for (const name of tableNames) {
    const { family, bytes, offset, prefix } = shapes[name];
    const table = tables[name];
    for (let at = 0; at < table.length; at += bytes) {
      const length = prefix ? (table[at + lengthOffset] as number) : family === 4 ? 32 : 128;
      yield formatEntry(family, table.subarray(at + offset, at + bytes), length);
    }
  }
}

/** Bytes that grow as records are appended. */
export class Collector {
  private buffer = new Uint8Array(4096);
  private used = 0;

  /** Where the next record of `bytes` goes. */
  reserve(bytes: number): { buffer: Uint8Array; at: number } {
    if (this.used + bytes > this.buffer.length) {
      const larger = new Uint8Array(this.buffer.length * 2);
      larger.set(this.buffer);
      this.buffer = larger;
    }
    const at = this.used;
    this.used += bytes;
    return { buffer: this.buffer, at };
  }

  push(record: Uint8Array): void {
    const { buffer, at } = this.reserve(record.length);
    buffer.set(record, at);
  }

  take(): Uint8Array {
    return this.buffer.slice(0, this.used);
  }
}

/** Sorts records by address, then by length, and drops duplicates: radix sort, one pass for each byte of the key. */
export function sortTable(name: TableName, table: Uint8Array): Uint8Array {
  const { bytes, offset, prefix } = shapes[name];
  const count = table.length / bytes;
  let order = new Uint32Array(count).map((_, index) => index * bytes);
  let next = new Uint32Array(count);
  const keys: number[] = prefix ? [lengthOffset] : [];
  for (let at = bytes - 1; at >= offset; at--) keys.push(at);
  for (const key of keys) {
    const starts = new Uint32Array(257);
    for (let at = key; at < table.length; at += bytes) {
      const slot = (table[at] as number) + 1;
      starts[slot] = (starts[slot] as number) + 1;
    }
    for (let value = 0; value < 256; value++) {
      starts[value + 1] = (starts[value + 1] as number) + (starts[value] as number);
    }
    for (const record of order) {
      const value = table[record + key] as number;
      const place = starts[value] as number;
      starts[value] = place + 1;
      next[place] = record;
    }
    [order, next] = [next, order];
  }
  const sorted = new Uint8Array(table.length);
  let used = 0;
  for (const record of order) {
    if (used > 0 && sameBytes(sorted, used - bytes, table, record, bytes)) continue;
    for (let index = 0; index < bytes; index++) sorted[used + index] = table[record + index] as number;
    used += bytes;
  }
  return sorted.slice(0, used);
}

function sameBytes(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, length: number): boolean {
  for (let index = 0; index < length; index++) if (a[aAt + index] !== b[bAt + index]) return false;
  return true;
}

/** The same set of addresses in fewer records: what a prefix of the list covers anyway is left out. */
export function withoutCovered(tables: CompiledAllowlist): CompiledAllowlist {
  const prefix4 = outermost("prefix4", tables.prefix4);
  const prefix6 = outermost("prefix6", tables.prefix6);
  return {
    exact4: uncovered("exact4", tables.exact4, "prefix4", prefix4),
    exact6: uncovered("exact6", tables.exact6, "prefix6", prefix6),
    prefix4,
    prefix6,
  };
}

/** Prefixes are disjoint or nested, and sorted a prefix stands before what it covers: one look back is enough. */
function outermost(name: "prefix4" | "prefix6", table: Uint8Array): Uint8Array {
  const { bytes, offset } = shapes[name];
  const kept = new Uint8Array(table.length);
  let used = 0;
  for (let at = 0; at < table.length; at += bytes) {
    const last = used - bytes;
    if (used > 0 && covers(kept, last + offset, kept[last + lengthOffset] as number, table, at + offset)) continue;
    kept.set(table.subarray(at, at + bytes), used);
    used += bytes;
  }
  return kept.slice(0, used);
}

function uncovered(exact: TableName, table: Uint8Array, prefix: TableName, prefixes: Uint8Array): Uint8Array {
  if (prefixes.length === 0) return table;
  const step = shapes[prefix].bytes;
  const { offset } = shapes[prefix];
  const { bytes } = shapes[exact];
  const kept = new Uint8Array(table.length);
  let used = 0;
  let candidate = 0;
  for (let at = 0; at < table.length; at += bytes) {
    // The last prefix that does not start behind this address is the only one that may cover it.
    while (candidate + step < prefixes.length && compare(prefixes, candidate + step + offset, table, at, bytes) <= 0) {
      candidate += step;
    }
    if (covers(prefixes, candidate + offset, prefixes[candidate + lengthOffset] as number, table, at)) continue;
    for (let index = 0; index < bytes; index++) kept[used + index] = table[at + index] as number;
    used += bytes;
  }
  return kept.slice(0, used);
}

function compare(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, length: number): number {
  for (let index = 0; index < length; index++) {
    const difference = (a[aAt + index] as number) - (b[bAt + index] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}

function covers(prefix: Uint8Array, at: number, length: number, address: Uint8Array, addressAt: number): boolean {
  const whole = length >> 3;
  if (!sameBytes(prefix, at, address, addressAt, whole)) return false;
  const bits = length & 7;
  if (bits === 0) return true;
  return (((prefix[at + whole] as number) ^ (address[addressAt + whole] as number)) & (0xff00 >> bits) & 255) === 0;
}

/** Index of a record in bytes; -1 - the place it belongs when it is not there. */
export function find(name: TableName, table: Uint8Array, record: Uint8Array): number {
  const { bytes, offset, prefix } = shapes[name];
  let low = 0;
  let high = table.length / bytes;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const at = middle * bytes;
    let order = compare(table, at + offset, record, offset, bytes - offset);
    if (order === 0 && prefix) order = (table[at + lengthOffset] as number) - (record[lengthOffset] as number);
    if (order === 0) return at;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return -1 - low * bytes;
}

/** The listed entry that covers this one: itself, or the widest prefix around it. */
export function covering(tables: CompiledAllowlist, entry: Entry): string | null {
  const prefix: TableName = entry.family === 4 ? "prefix4" : "prefix6";
  const { bytes, offset } = shapes[prefix];
  const table = tables[prefix];
  for (let at = 0; at < table.length; at += bytes) {
    const length = table[at + lengthOffset] as number;
    if (length <= entry.length && covers(table, at + offset, length, entry.address, 0)) {
      return formatEntry(entry.family, table.subarray(at + offset, at + bytes), length);
    }
  }
  const name = tableOf(entry);
  return find(name, tables[name], recordOf(entry)) >= 0 ? formatEntry(entry.family, entry.address, entry.length) : null;
}
