// An allowlist text compiled into tables for the kernel: all of it, or nothing and every wrong place. Runs in a Piscina
// task (src/pipeline/tasks/compile-allowlist.ts). Pure.
import type { CompiledAllowlist } from "xdp-socket";
import type { Problem } from "../errors.js";
import { clip, parseEntryBytes, parseIpv4, type Entry } from "./entry.js";
import { walkJson, type JsonPath } from "./json.js";
import {
  Collector,
  countOf,
  recordOf,
  sortTable,
  tableNames,
  tableOf,
  withoutCovered,
  type TableName,
} from "./table.js";

/** Beyond this many wrong places a file is simply not an allowlist. */
const problemsMax = 10_000;

export interface Compiled {
  /** What is listed, without duplicates: what people see and edit. */
  entries: CompiledAllowlist;
  /** The same addresses for the kernel: entries that a prefix covers are left out. */
  compiled: CompiledAllowlist;
  count: number;
  /** The file is fine, but somebody should know. */
  warnings: string[];
}

export type CompileResult = { ok: true; value: Compiled } | { ok: false; problems: Problem[] };

export function compileAllowlist(bytes: Uint8Array, file: string): CompileResult {
  const problems: Problem[] = [];
  const tables = new Tables();
  const start = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
  let total: number | null = null;
  if (looksLikeJson(bytes, start)) total = compileJson(bytes, file, tables, problems);
  else compileText(bytes, start, file, tables, problems);
  if (problems.length > 0) return { ok: false, problems };
  const entries = tables.take();
  const count = countOf(entries);
  const warnings =
    total === null || total === count ? [] : [`total_ips says ${total}, the file lists ${count} different entries`];
  return { ok: true, value: { entries, compiled: withoutCovered(entries), count, warnings } };
}

/** Collects entries by table; sorts at the end. */
class Tables {
  private readonly collectors: Record<TableName, Collector> = {
    exact4: new Collector(),
    exact6: new Collector(),
    prefix4: new Collector(),
    prefix6: new Collector(),
  };

  /** The common case without allocations. */
  ipv4(value: number): void {
    const { buffer, at } = this.collectors.exact4.reserve(4);
    buffer[at] = value >>> 24;
    buffer[at + 1] = value >>> 16;
    buffer[at + 2] = value >>> 8;
    buffer[at + 3] = value;
  }

  entry(entry: Entry): void {
    this.collectors[tableOf(entry)].push(recordOf(entry));
  }

  /** null: taken; else what is wrong. */
  bytes(bytes: Uint8Array, start: number, end: number): string | null {
    const four = parseIpv4(bytes, start, end);
    if (four >= 0) {
      this.ipv4(four);
      return null;
    }
    const entry = parseEntryBytes(bytes, start, end);
    if (typeof entry === "string") return entry;
    this.entry(entry);
    return null;
  }

  take(): CompiledAllowlist {
    const table = (name: TableName): Uint8Array => sortTable(name, this.collectors[name].take());
    const [exact4, prefix4, exact6, prefix6] = tableNames.map(table) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    return { exact4, exact6, prefix4, prefix6 };
  }
}

export function entriesTables(entries: readonly Entry[]): CompiledAllowlist {
  const tables = new Tables();
  for (const entry of entries) tables.entry(entry);
  return tables.take();
}

function looksLikeJson(bytes: Uint8Array, start: number): boolean {
  let at = start;
  while (at < bytes.length && [0x20, 0x09, 0x0a, 0x0d].includes(bytes[at] as number)) at++;
  return bytes[at] === 0x7b || bytes[at] === 0x5b;
}

/** One entry a line; # starts a comment. */
function compileText(bytes: Uint8Array, from: number, file: string, tables: Tables, problems: Problem[]): void {
  let lineNumber = 0;
  for (let start = from; start < bytes.length;) {
    lineNumber++;
    let end = bytes.indexOf(0x0a, start);
    if (end < 0) end = bytes.length;
    const next = end + 1;
    const lineStart = start;
    while (start < end && isBlank(bytes[start] as number)) start++;
    let stop = start;
    while (stop < end && bytes[stop] !== 0x23) stop++;
    while (stop > start && isBlank(bytes[stop - 1] as number)) stop--;
    if (stop > start) {
      const wrong = tables.bytes(bytes, start, stop);
      if (wrong !== null) {
        const problem = { file, line: lineNumber, column: start - lineStart + 1, message: wrong };
        if (!report(problems, problem)) return;
      }
    }
    start = next;
  }
}

function isBlank(byte: number): boolean {
  return byte === 0x20 || byte === 0x09 || byte === 0x0d;
}

/** false: enough. */
function report(problems: Problem[], problem: Problem): boolean {
  if (problems.length < problemsMax) {
    problems.push(problem);
    return true;
  }
  problems.push({ ...problem, message: `more than ${problemsMax} entries are wrong; the rest was not looked at` });
  return false;
}

/** Returns the file's own total_ips, when it has one. */
function compileJson(bytes: Uint8Array, file: string, tables: Tables, problems: Problem[]): number | null {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    problems.push({ file, line: 1, column: 1, message: "is not UTF-8 text" });
    return null;
  }
  let root: unknown;
  try {
    root = JSON.parse(text) as unknown;
  } catch {
    explain(text, file, problems);
    return null;
  }
  if (isRecord(root)) {
    const organizations = root["organizations"];
    const flat = root["flat_ip_list"];
    const lists = [
      ...(Array.isArray(organizations)
        ? (organizations as unknown[]).map((one) => (isRecord(one) ? one["ips"] : null))
        : []),
      ...(flat === undefined ? [] : [flat]),
    ];
    const shaped =
      (organizations === undefined || Array.isArray(organizations)) && (organizations ?? flat) !== undefined;
    if (shaped && lists.every((list) => takeList(list, tables))) {
      return typeof root["total_ips"] === "number" ? root["total_ips"] : null;
    }
  }
  explain(text, file, problems);
  return null;
}

const scratch = Buffer.alloc(256);

/** false: something in the list is wrong. */
function takeList(list: unknown, tables: Tables): boolean {
  if (!Array.isArray(list)) return false;
  for (const item of list as unknown[]) {
    if (typeof item !== "string" || item.length > 60) return false;
    if (tables.bytes(scratch, 0, scratch.write(item, "utf8")) !== null) return false;
  }
  return true;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isEntryPath(path: JsonPath): boolean {
  if (path.length === 2) return path[0] === "flat_ip_list";
  return path.length === 4 && path[0] === "organizations" && path[2] === "ips";
}

/** What each place of the seed format must be. */
function expectedAt(path: JsonPath): "object" | "array" | null {
  if (path.length === 0) return "object";
  if (path.length === 1) return path[0] === "organizations" || path[0] === "flat_ip_list" ? "array" : null;
  if (path[0] !== "organizations") return null;
  if (path.length === 2) return "object";
  return path.length === 3 && path[2] === "ips" ? "array" : null;
}

/** Finds every wrong place of a JSON text that could not be taken. */
function explain(text: string, file: string, problems: Problem[]): void {
  const wrong: { offset: number; message: string }[] = [];
  const note = (offset: number, message: string): void => void wrong.push({ offset, message });
  const name = (path: JsonPath): string => (path.length === 0 ? "the file" : path.join("."));
  let lists = 0;
  const organizations = new Map<number, number>();
  const syntax = walkJson(text, {
    leaf(path, value, offset) {
      const expected = expectedAt(path);
      if (expected !== null) note(offset, `${name(path)} must be an ${expected}`);
      if (!isEntryPath(path)) return;
      if (typeof value !== "string")
        return note(offset, `an entry must be a string in quotes, not ${clip(JSON.stringify(value))}`);
      const entryBytes = Buffer.from(value, "utf8");
      const entry = parseEntryBytes(entryBytes, 0, entryBytes.length);
      if (typeof entry === "string") note(offset + 1, entry);
    },
    open(path, kind, offset) {
      const expected = expectedAt(path);
      if (expected !== null && expected !== kind) note(offset, `${name(path)} must be an ${expected}`);
      if (isEntryPath(path)) note(offset, `an entry must be a string in quotes, not an ${kind}`);
      if (path.length === 1 && expected !== null) lists++;
      if (path.length === 2 && path[0] === "organizations") organizations.set(path[1] as number, offset);
      if (path.length === 3 && path[2] === "ips") organizations.delete(path[1] as number);
    },
  });
  for (const [index, offset] of organizations) note(offset, `organizations.${index} has no ips`);
  if (syntax !== null) wrong.push(syntax);
  else if (wrong.length === 0) {
    note(0, lists === 0 ? "has neither organizations nor flat_ip_list" : "is not an allowlist: a key is in it twice");
  }
  wrong.sort((a, b) => a.offset - b.offset);
  let line = 1;
  let lineStart = 0;
  for (const { offset, message } of wrong) {
    for (let end = text.indexOf("\n", lineStart); end >= 0 && end < offset; end = text.indexOf("\n", lineStart)) {
      line++;
      lineStart = end + 1;
    }
    if (!report(problems, { file, line, column: offset - lineStart + 1, message })) return;
  }
}
