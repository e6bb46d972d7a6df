// The allowlist of the running gateway: what is listed, and edits that make a new one of it. Values never change, so
// that a plan can hold the old and the new one. Called by plan.ts and runtime.ts, on the main thread. Pure.
import { createHash } from "node:crypto";
import type { CompiledAllowlist } from "xdp-socket";
import { VxpipeError } from "../errors.js";
import { entriesTables, type Compiled } from "./compile.js";
import { formatEntry, parseEntry, type Entry } from "./entry.js";
import {
  countOf,
  covering,
  empty,
  find,
  recordOf,
  shapes,
  sortTable,
  tableNames,
  tableOf,
  withoutCovered,
} from "./table.js";

export interface Allowlist {
  entries: CompiledAllowlist;
  compiled: CompiledAllowlist;
  count: number;
  /** Of the entries: lists with the same are the same. */
  digest: string;
}

export const nothingAllowed: Allowlist = fromEntries(empty());

export function fromCompiled({ entries, compiled, count }: Compiled): Allowlist {
  return { entries, compiled, count, digest: digestOf(entries) };
}

function fromEntries(entries: CompiledAllowlist): Allowlist {
  return { entries, compiled: withoutCovered(entries), count: countOf(entries), digest: digestOf(entries) };
}

function digestOf(entries: CompiledAllowlist): string {
  const hash = createHash("sha256");
  for (const name of tableNames) hash.update(`${name} ${entries[name].length}\n`).update(entries[name]);
  return hash.digest("hex");
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
  return find(name, list.entries[name], recordOf(entry)) >= 0;
}

/** The entry that lets this address or prefix through, or null. */
export function allowedBy(list: Allowlist, entry: Entry): string | null {
  return covering(list.entries, entry);
}

export function add(list: Allowlist, entries: readonly Entry[]): Allowlist {
  return fromEntries(union(list.entries, entriesTables(entries)));
}

function union(a: CompiledAllowlist, b: CompiledAllowlist): CompiledAllowlist {
  const merged = empty();
  for (const name of tableNames) {
    const both = new Uint8Array(a[name].length + b[name].length);
    both.set(a[name]);
    both.set(b[name], a[name].length);
    merged[name] = b[name].length === 0 ? a[name] : sortTable(name, both);
  }
  return merged;
}

/** All of them or, when one is not listed, none. */
export function remove(list: Allowlist, entries: readonly Entry[]): Allowlist {
  const missing = entries.filter((entry) => !listed(list, entry));
  if (missing.length > 0)
    throw new VxpipeError("ADDRESS_NOT_LISTED", missing.map((entry) => why(list, entry)).join("; "));
  const removed = entriesTables(entries);
  const rest = empty();
  for (const name of tableNames) rest[name] = subtract(name, list.entries[name], removed[name]);
  return fromEntries(rest);
}

function why(list: Allowlist, entry: Entry): string {
  const text = formatEntry(entry.family, entry.address, entry.length);
  const cover = allowedBy(list, entry);
  return cover === null ? `${text} is not on the list` : `${text} is not on the list itself; ${cover} covers it`;
}

function subtract(name: (typeof tableNames)[number], table: Uint8Array, removed: Uint8Array): Uint8Array {
  if (removed.length === 0) return table;
  const { bytes } = shapes[name];
  const rest = new Uint8Array(table.length - removed.length);
  let from = 0;
  let used = 0;
  for (let at = 0; at < removed.length; at += bytes) {
    const found = find(name, table, removed.subarray(at, at + bytes));
    rest.set(table.subarray(from, found), used);
    used += found - from;
    from = found + bytes;
  }
  rest.set(table.subarray(from), used);
  return rest;
}

/** How many entries one list has that the other has not. */
export function difference(from: Allowlist, to: Allowlist): { added: number; removed: number } {
  const all = countOf(union(from.entries, to.entries));
  return { added: all - from.count, removed: all - to.count };
}
