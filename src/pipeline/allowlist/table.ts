// Tables of addresses and prefixes as the kernel takes them (bpf/abi/abi.h): sorted, without duplicates.
// Called by the compiler in a Piscina task, and by the daemon for single edits. Pure.
import type { CompiledAllowlist } from "xdp-socket";
import { vxPrefix4, vxPrefix6 } from "../abi.gen.js";
import { formatEntry, type Entry } from "./entry.js";

export type TableName = keyof CompiledAllowlist;
export type PrefixName = "prefix4" | "prefix6";

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
  return makeRecord(tableOf(entry), entry.address, entry.length);
}

export function makeRecord(name: TableName, address: Uint8Array, length: number): Uint8Array {
  const shape = shapes[name];
  const record = new Uint8Array(shape.bytes);
  if (shape.prefix) record[lengthOffset] = length;
  record.set(address, shape.offset);
  return record;
}

/** The record in table `name` at a byte offset. */
export function entryAt(name: TableName, table: Uint8Array, at: number): Entry {
  const { family, bytes, offset, prefix } = shapes[name];
  const length = prefix ? (table[at + lengthOffset] as number) : family === 4 ? 32 : 128;
  return { family, address: table.subarray(at + offset, at + bytes), length };
}

export function empty(): CompiledAllowlist {
  return { exact4: new Uint8Array(), exact6: new Uint8Array(), prefix4: new Uint8Array(), prefix6: new Uint8Array() };
}

export function countOf(tables: CompiledAllowlist): number {
  return tableNames.reduce((sum, name) => sum + tables[name].length / shapes[name].bytes, 0);
}

export function sameTables(a: CompiledAllowlist, b: CompiledAllowlist): boolean {
  return tableNames.every((name) => a[name] === b[name] || Buffer.compare(a[name], b[name]) === 0);
}

/** Entries as text, in table order. */
export function* texts(tables: CompiledAllowlist): Generator<string> {
  for (const name of tableNames) {
    const table = tables[name];
    for (let at = 0; at < table.length; at += shapes[name].bytes) yield textAt(name, table, at);
  }
}

export function textAt(name: TableName, table: Uint8Array, at: number): string {
  const { family, address, length } = entryAt(name, table, at);
  return formatEntry(family, address, length);
}

/** Where records of `order` go so that they are sorted by address, then by length: radix sort, one pass a key byte. */
export function sortedOrder(name: TableName, table: Uint8Array): Uint32Array {
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
  return order;
}

/** Sorted records without duplicates; `each` is told where a record came from and where it went, in order. */
export function sortTable(
  name: TableName,
  table: Uint8Array,
  each?: (from: number, to: number, duplicate: boolean) => void,
): Uint8Array {
  const { bytes } = shapes[name];
  const sorted = new Uint8Array(table.length);
  let used = 0;
  for (const record of sortedOrder(name, table)) {
    const duplicate = used > 0 && sameBytes(sorted, used - bytes, table, record, bytes);
    if (!duplicate) {
      for (let index = 0; index < bytes; index++) sorted[used + index] = table[record + index] as number;
      used += bytes;
    }
    each?.(record / bytes, used / bytes - 1, duplicate);
  }
  return used === sorted.length ? sorted : sorted.slice(0, used);
}

function sameBytes(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, length: number): boolean {
  for (let index = 0; index < length; index++) if (a[aAt + index] !== b[bAt + index]) return false;
  return true;
}

function compare(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, length: number): number {
  for (let index = 0; index < length; index++) {
    const order = (a[aAt + index] as number) - (b[bAt + index] as number);
    if (order !== 0) return order;
  }
  return 0;
}

/** By address, then by length. */
function compareRecords(name: TableName, a: Uint8Array, aAt: number, b: Uint8Array, bAt: number): number {
  const { bytes, offset, prefix } = shapes[name];
  const order = compare(a, aAt + offset, b, bAt + offset, bytes - offset);
  return order !== 0 || !prefix ? order : (a[aAt + lengthOffset] as number) - (b[bAt + lengthOffset] as number);
}

/** Offset of the first record that is not less than this one. */
export function placeOf(name: TableName, table: Uint8Array, record: Uint8Array): number {
  const { bytes } = shapes[name];
  let low = 0;
  let high = table.length / bytes;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareRecords(name, table, middle * bytes, record, 0) < 0) low = middle + 1;
    else high = middle;
  }
  return low * bytes;
}

export function holds(name: TableName, table: Uint8Array, record: Uint8Array): boolean {
  const place = placeOf(name, table, record);
  return place < table.length && compareRecords(name, table, place, record, 0) === 0;
}

/** The records in a table that lie within an entry: bytes from and to. */
export function rangeOf(name: TableName, table: Uint8Array, entry: Entry): [from: number, to: number] {
  const last = entry.address.slice();
  const whole = entry.length >> 3;
  if (whole < last.length) {
    last[whole] = (last[whole] as number) | (0xff >> (entry.length & 7));
    last.fill(255, whole + 1);
  }
  const from = placeOf(name, table, makeRecord(name, entry.address, entry.length));
  // No length is 255, so this stands behind every record of the last address.
  const to = placeOf(name, table, makeRecord(name, last, 255));
  if (shapes[name].prefix) return [from, to];
  return [from, holds(name, table, makeRecord(name, last, 0)) ? to + shapes[name].bytes : to];
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
function outermost(name: PrefixName, table: Uint8Array): Uint8Array {
  const { bytes, offset } = shapes[name];
  const kept = new Uint8Array(table.length);
  let used = 0;
  for (let at = 0; at < table.length; at += bytes) {
    const last = used - bytes;
    if (used > 0 && covers(kept, last + offset, kept[last + lengthOffset] as number, table, at + offset)) continue;
    kept.set(table.subarray(at, at + bytes), used);
    used += bytes;
  }
  return used === kept.length ? table : kept.slice(0, used);
}

/** The addresses outside of disjoint prefixes. */
function uncovered(exact: TableName, table: Uint8Array, prefix: PrefixName, prefixes: Uint8Array): Uint8Array {
  const kept: Uint8Array[] = [];
  let done = 0;
  for (let at = 0; at < prefixes.length; at += shapes[prefix].bytes) {
    const [from, to] = rangeOf(exact, table, entryAt(prefix, prefixes, at));
    if (from === to) continue;
    kept.push(table.subarray(done, from));
    done = to;
  }
  if (done === 0) return table;
  return new Uint8Array(Buffer.concat([...kept, table.subarray(done)]));
}

function covers(prefix: Uint8Array, at: number, length: number, address: Uint8Array, addressAt: number): boolean {
  const whole = length >> 3;
  if (!sameBytes(prefix, at, address, addressAt, whole)) return false;
  const bits = length & 7;
  if (bits === 0) return true;
  return (((prefix[at + whole] as number) ^ (address[addressAt + whole] as number)) & (0xff00 >> bits) & 255) === 0;
}

/** Whether an entry lies within another one, or is it. */
export function within(inner: Entry, outer: Entry): boolean {
  return (
    inner.family === outer.family &&
    outer.length <= inner.length &&
    covers(outer.address, 0, outer.length, inner.address, 0)
  );
}

/** The record that covers an entry, in tables without covered ones; null: none, or only parts of it. */
export function covering(compiled: CompiledAllowlist, entry: Entry): Entry | null {
  const name: PrefixName = entry.family === 4 ? "prefix4" : "prefix6";
  const table = compiled[name];
  // Disjoint prefixes: only the last one that does not start behind the entry can cover it.
  const at = placeOf(name, table, makeRecord(name, entry.address, 255)) - shapes[name].bytes;
  if (at >= 0) {
    const candidate = entryAt(name, table, at);
    if (within(entry, candidate)) return candidate;
  }
  const own = tableOf(entry);
  return holds(own, compiled[own], recordOf(entry)) ? entry : null;
}

/** A merge of two tables: what only one of them has, or both have. */
export function mergeTables(
  name: TableName,
  a: Uint8Array,
  b: Uint8Array,
  each: (where: "a" | "b" | "both", aAt: number, bAt: number) => void,
): void {
  const { bytes } = shapes[name];
  for (let aAt = 0, bAt = 0; aAt < a.length || bAt < b.length;) {
    const order = aAt >= a.length ? 1 : bAt >= b.length ? -1 : compareRecords(name, a, aAt, b, bAt);
    each(order < 0 ? "a" : order > 0 ? "b" : "both", aAt, bAt);
    if (order <= 0) aAt += bytes;
    if (order >= 0) bAt += bytes;
  }
}

/** How many entries one list has that the other has not. */
export function difference(from: CompiledAllowlist, to: CompiledAllowlist): { added: number; removed: number } {
  const counts = { a: 0, b: 0, both: 0 };
  for (const name of tableNames) mergeTables(name, from[name], to[name], (where) => counts[where]++);
  return { added: counts.b, removed: counts.a };
}
