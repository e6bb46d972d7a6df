// An allowlist text compiled into tables for the kernel, with every wrong place of it. Runs in a Piscina task
// (src/pipeline/tasks/allowlist.ts). Pure.
import type { CompiledAllowlist } from "xdp-socket";
import type { Problem } from "../errors.js";
import { parseEntryBytes, parseIpv4 } from "./entry.js";
import { Groups, type Owners } from "./owners.js";
import { Problems } from "./problems.js";
import { nobody, readList, type ListSink } from "./read.js";
import { countOf, recordOf, shapes, sortTable, tableNames, tableOf, withoutCovered, type TableName } from "./table.js";

export interface Compiled {
  /** What is listed, without duplicates: what people see and edit. */
  entries: CompiledAllowlist;
  /** The same addresses for the kernel: entries that a prefix covers are left out. */
  compiled: CompiledAllowlist;
  count: number;
  /** null: no organization is named. */
  owners: Owners | null;
  /** Entries that stood in the text again. */
  duplicates: number;
  /** Entries that a prefix of the list covers. */
  covered: number;
  /** Wrong entries that were left out, and how many there were. */
  skipped: Problem[];
  skippedCount: number;
  /** The file is fine, but somebody should know. */
  warnings: string[];
}

export type CompileResult = { ok: true; value: Compiled } | { ok: false; problems: Problem[]; count: number };

export interface CompileOptions {
  /** Leave out entries that are wrong instead of refusing the file. */
  skipInvalid?: boolean;
  /** Bytes read so far, for who watches from another thread. */
  progress?: Int32Array;
}

export function compileAllowlist(bytes: Uint8Array, file: string, options: CompileOptions = {}): CompileResult {
  const problems = new Problems();
  const collected = new Collected(bytes, problems, options.progress);
  readList(bytes, collected);
  const refused = problems.fatal || (options.skipInvalid !== true && problems.count > 0);
  const placed = problems.placed(bytes, file);
  if (refused) return { ok: false, problems: placed, count: problems.count };
  const { entries, owners, duplicates } = collected.finish();
  const compiled = withoutCovered(entries);
  const count = countOf(entries);
  if (count === 0 && problems.count > 0)
    return { ok: false, problems: [nothingRight(file, problems)], count: problems.count };
  const warnings = warningsOf(bytes, collected.stated, count);
  const covered = count - countOf(compiled);
  const skipped = { skipped: placed, skippedCount: problems.count };
  return { ok: true, value: { entries, compiled, count, owners, duplicates, covered, ...skipped, warnings } };
}

/** Left out one by one, all of them, they would leave an empty list: nothing would be allowed. */
function nothingRight(file: string, { count }: Problems): Problem {
  return { file, line: 1, column: 1, message: `none of its ${count} entries is an IP address or prefix` };
}

function warningsOf(bytes: Uint8Array, stated: number | null, count: number): string[] {
  // Not one with a comment: somebody meant that.
  const warnings = bytes.length === 0 ? ["it is empty: no address is allowed"] : [];
  if (stated !== null && stated !== count)
    warnings.push(`total_ips says ${stated}, the file lists ${count} different entries`);
  return warnings;
}

/** Entries between two looks at the progress. */
const stride = 8192;

class Collected implements ListSink {
  stated: number | null = null;
  private readonly collectors: Record<TableName, Collector>;
  private readonly groups = new Groups();
  private readonly names: string[] = [];
  private seen = 0;
  /** Of the organization whose entries are being read. */
  private current = { organization: nobody, group: 0 };

  constructor(
    private readonly bytes: Uint8Array,
    private readonly problems: Problems,
    private readonly progress: Int32Array | undefined,
  ) {
    const [exact4, exact6, prefix4, prefix6] = [0, 0, 0, 0].map(() => new Collector());
    this.collectors = { exact4, exact6, prefix4, prefix6 } as Record<TableName, Collector>;
  }

  entry(text: Uint8Array, from: number, to: number, start: number, _end: number, organization: number): void {
    if (this.progress !== undefined && ++this.seen % stride === 0) Atomics.store(this.progress, 0, start);
    if (organization !== this.current.organization) {
      this.current = { organization, group: organization === nobody ? 0 : this.groups.of([organization]) };
    }
    const four = parseIpv4(text, from, to);
    // The common case without allocations.
    if (four >= 0) return this.collectors.exact4.address4(four, this.current.group);
    const entry = parseEntryBytes(text, from, to);
    if (typeof entry !== "string") this.collectors[tableOf(entry)].push(recordOf(entry), this.current.group);
    else this.problems.note(text === this.bytes ? from : start + 1, entry);
  }

  wrongEntry(start: number, _end: number, message: string): void {
    this.problems.note(start, message);
  }

  wrong(offset: number, message: string): void {
    this.problems.fatal = true;
    this.problems.note(offset, message);
  }

  organization(index: number, name: string): void {
    this.names[index] = name;
  }

  total(value: number): void {
    this.stated = value;
  }

  finish(): { entries: CompiledAllowlist; owners: Owners | null; duplicates: number } {
    const taken = tableNames.map((name) => this.collectors[name].take(name, this.groups));
    const [exact4, prefix4, exact6, prefix6] = taken.map(({ table }) => table) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    const entries = { exact4, exact6, prefix4, prefix6 };
    const of = Object.fromEntries(tableNames.map((name, index) => [name, taken[index]?.owners])) as Owners["of"];
    const { list: groups } = this.groups;
    const names = Array.from(this.names, (name: string | undefined, index) => name ?? `organizations.${index}`);
    const owners = this.names.length === 0 ? null : { names, groups, of };
    return { entries, owners, duplicates: taken.reduce((sum, { duplicates }) => sum + duplicates, 0) };
  }
}

/** Records that grow as they are appended, with the group of organizations that lists each. */
class Collector {
  private bytes = new Uint8Array(4096);
  private used = 0;
  private groups = new Uint32Array(1024);
  private count = 0;

  address4(value: number, group: number): void {
    this.reserve(4, group);
    const at = this.used - 4;
    this.bytes[at] = value >>> 24;
    this.bytes[at + 1] = value >>> 16;
    this.bytes[at + 2] = value >>> 8;
    this.bytes[at + 3] = value;
  }

  push(record: Uint8Array, group: number): void {
    this.reserve(record.length, group);
    this.bytes.set(record, this.used - record.length);
  }

  private reserve(bytes: number, group: number): void {
    this.used += bytes;
    if (this.used > this.bytes.length) this.bytes = larger(this.bytes, new Uint8Array(this.bytes.length * 2));
    if (this.count === this.groups.length) this.groups = larger(this.groups, new Uint32Array(this.count * 2));
    this.groups[this.count++] = group;
  }

  /** Sorted, each once, with the group of all that list it. */
  take(name: TableName, groups: Groups): { table: Uint8Array; owners: Uint32Array; duplicates: number } {
    const owners = new Uint32Array(this.count);
    // Of the record at hand, all groups but the first: one is made of them when the last is known.
    const others = new Set<number>();
    let last = 0;
    const settle = (): void => {
      if (others.size > 0) owners[last] = groups.union([owners[last] as number, ...others]);
      others.clear();
    };
    const table = sortTable(name, this.bytes.subarray(0, this.used), (from, to, duplicate) => {
      const group = this.groups[from] as number;
      if (!duplicate) settle();
      if (!duplicate || owners[to] === 0) owners[to] = group;
      else if (group !== 0 && group !== owners[to]) others.add(group);
      last = to;
    });
    settle();
    const kept = table.length / shapes[name].bytes;
    return { table, owners: owners.slice(0, kept), duplicates: this.count - kept };
  }
}

function larger<Bytes extends Uint8Array | Uint32Array>(from: Bytes, to: Bytes): Bytes {
  to.set(from);
  return to;
}
