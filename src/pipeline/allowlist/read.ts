// The two formats of an allowlist, plain text and the JSON of organizations, read entry by entry with the place of each.
// Called by compile.ts and rewrite.ts, in a Piscina task. Pure.
import { isUtf8 } from "node:buffer";
import { clip } from "./entry.js";
import { leafValue, walkJson, type JsonPath } from "./json.js";

/** Nobody's: plain text, or flat_ip_list. */
export const nobody = -1;

export interface ListSink {
  /** The text of an entry: `from` to `to` of `text`, which stands at `start` to `end` of the file, quotes included. */
  entry(text: Uint8Array, from: number, to: number, start: number, end: number, organization: number): void;
  /** An entry that is none, as JSON values go. */
  wrongEntry(start: number, end: number, message: string): void;
  /** The file is not an allowlist there. */
  wrong(offset: number, message: string): void;
  /** JSON only. */
  organization?(index: number, name: string): void;
  total?(value: number, start: number, end: number): void;
  /** A list of entries has been read: its brackets. */
  list?(organization: number, start: number, end: number): void;
  /** Plain text only: every line, with or without an entry, its end included. */
  line?(start: number, end: number): void;
}

export type ListFormat = "json" | "text";

export function readList(bytes: Uint8Array, sink: ListSink): ListFormat {
  const start = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
  if (isUtf16(bytes)) {
    sink.wrong(0, "is UTF-16 text; a list is UTF-8");
    return "text";
  }
  if (!looksLikeJson(bytes, start)) {
    readText(bytes, start, sink);
    return "text";
  }
  if (isUtf8(bytes)) readSeed(bytes, start, sink);
  else sink.wrong(0, "is not UTF-8 text");
  return "json";
}

/** By its byte order mark, which no UTF-8 text has. */
function isUtf16([first, second]: Uint8Array): boolean {
  return (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);
}

function looksLikeJson(bytes: Uint8Array, start: number): boolean {
  let at = start;
  while (at < bytes.length && [0x20, 0x09, 0x0a, 0x0d].includes(bytes[at] as number)) at++;
  return bytes[at] === 0x7b || bytes[at] === 0x5b;
}

/** One entry a line; # starts a comment. */
function readText(bytes: Uint8Array, from: number, sink: ListSink): void {
  for (let line = from; line < bytes.length;) {
    let end = bytes.indexOf(0x0a, line);
    if (end < 0) end = bytes.length;
    let start = line;
    while (start < end && isBlank(bytes[start] as number)) start++;
    let stop = start;
    while (stop < end && bytes[stop] !== 0x23) stop++;
    while (stop > start && isBlank(bytes[stop - 1] as number)) stop--;
    if (stop > start) sink.entry(bytes, start, stop, start, stop, nobody);
    sink.line?.(line, Math.min(end + 1, bytes.length));
    line = end + 1;
  }
}

function isBlank(byte: number): boolean {
  return byte === 0x20 || byte === 0x09 || byte === 0x0d;
}

/** Lists of nobody: that of the seed format, and that of `allowlist list -o json`. */
function isFlat(key: string | number | undefined): boolean {
  return key === "flat_ip_list" || key === "entries";
}

/** Below an organization's ips, or flat_ip_list. */
function isEntryPath(path: JsonPath): boolean {
  if (path.length === 2) return isFlat(path[0]);
  return path.length === 4 && path[0] === "organizations" && path[2] === "ips";
}

/** What each place of the seed format must be; null: anything, and nothing of ours. */
function expectedAt(path: JsonPath, found: "object" | "array" | "leaf"): "object" | "array" | null {
  if (path.length === 0) return "object";
  // Other formats may use the name for something else.
  if (path.length === 1 && path[0] === "entries") return found === "array" ? "array" : null;
  if (path.length === 1) return path[0] === "organizations" || path[0] === "flat_ip_list" ? "array" : null;
  if (path[0] !== "organizations") return null;
  if (path.length === 2) return "object";
  return path.length === 3 && path[2] === "ips" ? "array" : null;
}

const scratch = Buffer.alloc(512);

function readSeed(bytes: Uint8Array, start: number, sink: ListSink): void {
  const name = (path: JsonPath): string => (path.length === 0 ? "the file" : path.join("."));
  const organizationOf = (path: JsonPath): number => (path.length === 4 ? (path[1] as number) : nobody);
  let lists = 0;
  let hasIps = false;
  let shaped = true;
  let listStart = 0;
  const wrong = (offset: number, message: string): void => {
    shaped = false;
    sink.wrong(offset, message);
  };
  const opened: number[] = [];
  const syntax = walkJson(bytes, start, {
    leaf(path, from, to) {
      if (isEntryPath(path)) return readLeaf(bytes, from, to, organizationOf(path), sink);
      const expected = expectedAt(path, "leaf");
      if (path.length === 3) hasIps ||= expected !== null;
      if (expected !== null) return wrong(from, `${name(path)} must be an ${expected}`);
      if (path.length === 1 && path[0] === "total_ips") {
        const total = leafValue(bytes, from, to);
        if (typeof total === "number") sink.total?.(total, from, to);
      }
      if (path.length !== 3 || path[0] !== "organizations" || path[2] !== "name") return;
      const text = leafValue(bytes, from, to);
      if (typeof text === "string") sink.organization?.(path[1] as number, text);
    },
    open(path, kind, from) {
      opened.push(from);
      const expected = expectedAt(path, kind);
      if (expected === null) return true;
      if (expected !== kind) wrong(from, `${name(path)} must be an ${expected}`);
      if (path.length === 1) lists++;
      if (path.length === 2) hasIps = false;
      if (path.length === 3) hasIps = true;
      listStart = from;
      return expected !== kind;
    },
    close(path, kind, to) {
      const from = opened.pop() ?? 0;
      if (isEntryPath(path)) sink.wrongEntry(from, to, `an entry must be a string in quotes, not an ${kind}`);
      if (path.length === 2 && path[0] === "organizations" && kind === "object" && !hasIps)
        wrong(from, `${name(path)} has no ips`);
      const isList = isFlat(path[0]) ? path.length === 1 : path.length === 3;
      if (isList && kind === "array") sink.list?.(path.length === 1 ? nobody : (path[1] as number), listStart, to);
    },
    single: (path) => expectedAt(path, "array") !== null,
    repeated: (path, from) => wrong(from, `the key ${String(path.at(-1))} is here twice`),
  });
  if (syntax !== null) sink.wrong(syntax.offset, syntax.message);
  else if (lists === 0 && shaped) sink.wrong(0, "has neither organizations nor flat_ip_list");
}

function readLeaf(bytes: Uint8Array, from: number, to: number, organization: number, sink: ListSink): void {
  if (bytes[from] !== 0x22) {
    const value = clip(Buffer.from(bytes.subarray(from, to)).toString("utf8"));
    return sink.wrongEntry(from, to, `an entry must be a string in quotes, not ${value}`);
  }
  let at = from;
  while (at < to && bytes[at] !== 0x5c) at++;
  if (at === to) return sink.entry(bytes, from + 1, to - 1, from, to, organization);
  // Some writers escape the slash of a prefix.
  const text = leafValue(bytes, from, to) as string;
  sink.entry(scratch, 0, scratch.write(text, "utf8"), from, to, organization);
}
