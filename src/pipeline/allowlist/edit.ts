// The allowlist of the running gateway: what is listed, and edits that make a new one of it. Values never change, so
// that a plan can hold the old and the new one. Called by plan.ts and the API, on the main thread. Pure.
//
// An edit of a list of a million copies its tables, which takes a millisecond, and looks only at what lies within the
// entries it is about; what changes for the kernel is kept with the new list, so that it can be changed in place.
import type { CompiledAllowlist } from "xdp-socket";
import { VxpipeError } from "../errors.js";
import type { Compiled } from "./compile.js";
import { formatEntry, parseEntry, type Entry } from "./entry.js";
import type { Owners } from "./owners.js";
import {
  countOf,
  covering,
  empty,
  entryAt,
  holds,
  mergeTables,
  placeOf,
  rangeOf,
  recordOf,
  shapes,
  sortTable,
  tableNames,
  tableOf,
  within,
  withoutCovered,
  type TableName,
} from "./table.js";

/** What leads from one list to another in the kernel's tables. */
export interface Delta {
  /** Of the list it starts from. */
  from: symbol;
  added: CompiledAllowlist;
  removed: CompiledAllowlist;
}

export interface Allowlist {
  /** What is listed, without duplicates: what people see and edit. */
  entries: CompiledAllowlist;
  /** The same addresses for the kernel: entries that a prefix covers are left out. */
  compiled: CompiledAllowlist;
  count: number;
  /** null: no organization is named. */
  owners: Owners | null;
  /** Different for each value. */
  id: symbol;
  /** null: a list of its own, or an edit so large that the kernel's tables are better made anew. */
  delta: Delta | null;
}

/** More changes than this are not made in place. */
const deltaRecordsMax = 8192;

export const nothingAllowed: Allowlist = {
  entries: empty(),
  compiled: empty(),
  count: 0,
  owners: null,
  id: Symbol("empty"),
  delta: null,
};

export function fromCompiled({ entries, compiled, count, owners }: Compiled): Allowlist {
  return { entries, compiled, count, owners, id: Symbol("compiled"), delta: null };
}

/** All of them, or an error that names every wrong one. */
export function parseEntries(texts: readonly string[]): Entry[] {
  const entries: Entry[] = [];
  const wrong: string[] = [];
  for (const text of texts) {
    const entry = parseEntry(text);
    if (typeof entry === "string") wrong.push(entry);
    else entries.push(entry);
  }
  if (wrong.length > 0) throw new VxpipeError("ADDRESS_INVALID", wrong.join("; "));
  return entries;
}

export function listed(list: Allowlist, entry: Entry): boolean {
  const name = tableOf(entry);
  return holds(name, list.entries[name], recordOf(entry));
}

/** The entry that lets this address or prefix through, or null. */
export function allowedBy(list: Allowlist, entry: Entry): string | null {
  const by = listed(list, entry) ? entry : covering(list.compiled, entry);
  return by === null ? null : formatEntry(by.family, by.address, by.length);
}

export function add(list: Allowlist, entries: readonly Entry[]): Allowlist {
  return edited(
    list,
    entries.filter((entry) => !listed(list, entry)),
    true,
  );
}

/** All of them or, when one is not listed, none. */
export function remove(list: Allowlist, entries: readonly Entry[]): Allowlist {
  const missing = entries.filter((entry) => !listed(list, entry));
  if (missing.length > 0)
    throw new VxpipeError("ADDRESS_NOT_LISTED", missing.map((entry) => why(list, entry)).join("; "));
  return edited(list, entries, false);
}

function why(list: Allowlist, entry: Entry): string {
  const text = formatEntry(entry.family, entry.address, entry.length);
  const cover = allowedBy(list, entry);
  return cover === null ? `${text} is not on the list` : `${text} is not on the list itself; ${cover} covers it`;
}

/** A place of a table, in bytes, and what stands there instead. */
interface Cut {
  from: number;
  to: number;
  bytes: Uint8Array;
}

type Cuts = Record<TableName, Cut[]>;

const noCuts = (): Cuts => ({ exact4: [], exact6: [], prefix4: [], prefix6: [] });

/** With or without entries that are all missing from it, or all in it. */
function edited(list: Allowlist, given: readonly Entry[], present: boolean): Allowlist {
  const cuts = noCuts();
  const changed = sortedEntries(given);
  for (const entry of changed) {
    const name = tableOf(entry);
    const record = recordOf(entry);
    const from = placeOf(name, list.entries[name], record);
    cuts[name].push(present ? { from, to: from, bytes: record } : { from, to: from + record.length, bytes: nothing });
  }
  const entries = splice(list.entries, cuts);
  const { compiled, added, removed } = recompile(list.compiled, entries, outermost(changed));
  return {
    entries,
    compiled,
    count: countOf(entries),
    owners: list.owners === null ? null : { ...list.owners, of: spliceOwners(list.owners, cuts) },
    id: Symbol("edited"),
    delta: added === null || removed === null ? null : { from: list.id, added, removed },
  };
}

const nothing = new Uint8Array();

/** Each once, in table order. */
function sortedEntries(entries: readonly Entry[]): Entry[] {
  return tableNames.flatMap((name) => {
    const { bytes } = shapes[name];
    const table = sortTable(name, Buffer.concat(entries.filter((entry) => tableOf(entry) === name).map(recordOf)));
    return Array.from({ length: table.length / bytes }, (_, index) => entryAt(name, table, index * bytes));
  });
}

/** Those that no other one covers, by family in order of address. */
function outermost(entries: readonly Entry[]): Entry[] {
  const sorted = [...entries].sort(
    (a, b) => a.family - b.family || Buffer.compare(a.address, b.address) || a.length - b.length,
  );
  const kept: Entry[] = [];
  for (const entry of sorted) {
    const last = kept.at(-1);
    if (last === undefined || !within(entry, last)) kept.push(entry);
  }
  return kept;
}

/** The tables for the kernel, which can have changed only within `ranges`; null: too much changed to say what. */
function recompile(
  old: CompiledAllowlist,
  entries: CompiledAllowlist,
  ranges: readonly Entry[],
): { compiled: CompiledAllowlist; added: CompiledAllowlist | null; removed: CompiledAllowlist | null } {
  const cuts = noCuts();
  const added: Record<TableName, Uint8Array[]> = { exact4: [], exact6: [], prefix4: [], prefix6: [] };
  const removed: Record<TableName, Uint8Array[]> = { exact4: [], exact6: [], prefix4: [], prefix6: [] };
  let records = 0;
  for (const range of ranges) {
    const cover = covering(old, range);
    // A wider prefix that stays: nothing changes for the kernel.
    if (cover !== null && cover.length < range.length) continue;
    const names: TableName[] = range.family === 4 ? ["exact4", "prefix4"] : ["exact6", "prefix6"];
    const inside = empty();
    for (const name of names) inside[name] = entries[name].subarray(...rangeOf(name, entries[name], range));
    const now = withoutCovered(inside);
    for (const name of names) {
      const [from, to] = rangeOf(name, old[name], range);
      const bytes = now[name];
      cuts[name].push({ from, to, bytes });
      records += (to - from + bytes.length) / shapes[name].bytes;
      if (records > deltaRecordsMax) continue;
      const before = old[name].subarray(from, to);
      const step = shapes[name].bytes;
      mergeTables(name, before, bytes, (where, aAt, bAt) => {
        if (where === "a") removed[name].push(before.subarray(aAt, aAt + step));
        if (where === "b") added[name].push(bytes.subarray(bAt, bAt + step));
      });
    }
  }
  const compiled = splice(old, cuts);
  if (records > deltaRecordsMax) return { compiled, added: null, removed: null };
  return { compiled, added: joined(added), removed: joined(removed) };
}

function joined(parts: Record<TableName, Uint8Array[]>): CompiledAllowlist {
  const tables = empty();
  for (const name of tableNames) tables[name] = new Uint8Array(Buffer.concat(parts[name]));
  return tables;
}

function splice(tables: CompiledAllowlist, cuts: Cuts): CompiledAllowlist {
  const result = empty();
  for (const name of tableNames) result[name] = spliceTable(tables[name], cuts[name]);
  return result;
}

function spliceTable(table: Uint8Array, cuts: readonly Cut[]): Uint8Array {
  if (cuts.length === 0) return table;
  const result = new Uint8Array(
    cuts.reduce((length, { from, to, bytes }) => length - to + from + bytes.length, table.length),
  );
  let done = 0;
  let used = 0;
  for (const { from, to, bytes } of cuts) {
    result.set(table.subarray(done, from), used);
    used += from - done;
    result.set(bytes, used);
    used += bytes.length;
    done = to;
  }
  result.set(table.subarray(done), used);
  return result;
}

/** What is added is nobody's. */
function spliceOwners(owners: Owners, cuts: Cuts): Owners["of"] {
  const result = { ...owners.of };
  for (const name of tableNames) {
    if (cuts[name].length === 0) continue;
    const { bytes: step } = shapes[name];
    const scaled = cuts[name].map(({ from, to, bytes }) => ({
      from: (from / step) * 4,
      to: (to / step) * 4,
      bytes: new Uint8Array((bytes.length / step) * 4),
    }));
    const of = owners.of[name];
    result[name] = new Uint32Array(spliceTable(new Uint8Array(of.buffer, of.byteOffset, of.byteLength), scaled).buffer);
  }
  return result;
}
