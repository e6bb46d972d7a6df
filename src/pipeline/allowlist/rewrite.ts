// An allowlist file with entries added and taken out, and everything else of it as it was: comments, order, organizations,
// white space. Called in a Piscina task (src/pipeline/tasks/allowlist.ts) for edits that are saved. Pure.
import { compileAllowlist } from "./compile.js";
import { formatEntry, parseEntryBytes } from "./entry.js";
import { nobody, readList, type ListSink } from "./read.js";

export interface ListEdit {
  /** As formatEntry writes them. */
  add: readonly string[];
  remove: readonly string[] | "all" | "invalid";
}

/** Bytes from and to, and what stands there instead. */
interface Cut {
  from: number;
  to: number;
  text: string;
}

/** The new content, or null where nothing changes. */
export function rewriteList(bytes: Uint8Array, edit: ListEdit): Uint8Array | null {
  const survey = new Survey(bytes, edit);
  const format = readList(bytes, survey);
  if (survey.broken !== null) throw new Error(survey.broken);
  const missing = edit.add.filter((text) => !survey.present.has(text));
  const cuts = [...survey.cuts, ...(format === "json" ? survey.jsonAdditions(missing) : textAdditions(bytes, missing))];
  if (cuts.length === 0) return null;
  const result = apply(bytes, cuts);
  return format === "json" ? withTotal(result) : result;
}

function apply(bytes: Uint8Array, cuts: Cut[]): Uint8Array {
  const pieces: Uint8Array[] = [];
  let done = 0;
  for (const { from, to, text } of cuts.sort((a, b) => a.from - b.from || a.to - b.to)) {
    pieces.push(bytes.subarray(done, from), Buffer.from(text));
    done = to;
  }
  pieces.push(bytes.subarray(done));
  return new Uint8Array(Buffer.concat(pieces));
}

function textAdditions(bytes: Uint8Array, missing: readonly string[]): Cut[] {
  if (missing.length === 0) return [];
  const first = bytes.indexOf(0x0a);
  const end = first > 0 && bytes[first - 1] === 0x0d ? "\r\n" : "\n";
  const open = bytes.length > 0 && bytes.at(-1) !== 0x0a;
  return [{ from: bytes.length, to: bytes.length, text: `${open ? end : ""}${missing.join(end)}${end}` }];
}

/** A total_ips says how many different entries there are. */
function withTotal(bytes: Uint8Array): Uint8Array {
  const compiled = compileAllowlist(bytes, "");
  if (!compiled.ok) throw new Error(compiled.problems[0]?.message);
  const cuts: Cut[] = [];
  const nothing = (): void => undefined;
  readList(bytes, {
    entry: nothing,
    wrongEntry: nothing,
    wrong: nothing,
    total: (_value, from, to) => void cuts.push({ from, to, text: String(compiled.value.count) }),
  });
  return apply(bytes, cuts);
}

interface Element {
  start: number;
  end: number;
  goes: boolean;
}

class Survey implements ListSink {
  readonly cuts: Cut[] = [];
  /** Of the entries to be added, those that are in the file. */
  readonly present = new Set<string>();
  broken: string | null = null;
  private readonly wanted: Set<string>;
  private readonly unwanted: Set<string>;
  /** Of the line, or of the JSON list, that is being read. */
  private elements: Element[] = [];
  /** The place of flat_ip_list, and what is left in it. */
  private flat: { start: number; end: number; left: Element[] } | null = null;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly edit: ListEdit,
  ) {
    this.wanted = new Set(edit.add);
    this.unwanted = new Set(typeof edit.remove === "string" ? [] : edit.remove);
  }

  entry(text: Uint8Array, from: number, to: number, start: number, end: number): void {
    const entry = parseEntryBytes(text, from, to);
    let goes = this.edit.remove === "all";
    if (typeof entry === "string") goes ||= this.edit.remove === "invalid";
    else if (this.wanted.size > 0 || this.unwanted.size > 0) {
      const name = formatEntry(entry.family, entry.address, entry.length);
      goes ||= this.unwanted.has(name);
      if (!goes && this.wanted.has(name)) this.present.add(name);
    }
    this.elements.push({ start, end, goes });
  }

  wrongEntry(start: number, end: number): void {
    this.elements.push({ start, end, goes: this.edit.remove === "all" || this.edit.remove === "invalid" });
  }

  wrong(_offset: number, message: string): void {
    this.broken ??= message;
  }

  line(start: number, end: number): void {
    if (this.elements.some(({ goes }) => goes)) this.cuts.push({ from: start, to: end, text: "" });
    this.elements = [];
  }

  list(organization: number, start: number, end: number): void {
    const left = this.elements.filter(({ goes }) => !goes);
    if (organization === nobody) this.flat = { start, end, left };
    const { elements } = this;
    const lastKept = elements.findLastIndex(({ goes }) => !goes);
    elements.forEach(({ start: from, goes }, index) => {
      // Up to the next one, so that its comma goes along.
      if (goes && index < lastKept) this.cuts.push({ from, to: (elements[index + 1] as Element).start, text: "" });
    });
    const [first, final] = [elements[0], elements.at(-1)];
    // Those at the end, with the comma in front of them.
    if (first !== undefined && final?.goes === true) {
      this.cuts.push({ from: elements[lastKept]?.end ?? first.start, to: final.end, text: "" });
    }
    this.elements = [];
  }

  jsonAdditions(missing: readonly string[]): Cut[] {
    if (missing.length === 0) return [];
    const texts = missing.map((text) => JSON.stringify(text));
    if (this.flat === null) return [this.newList(texts)];
    const { end, left } = this.flat;
    const last = left.at(-1);
    if (last === undefined) return [{ from: end - 1, to: end - 1, text: texts.join(", ") }];
    const before = left.at(-2);
    const between = before === undefined ? ", " : this.between(before.end, last.start);
    return [{ from: last.end, to: last.end, text: texts.map((text) => `${between}${text}`).join("") }];
  }

  /** What separates two elements; where others stand between them, or comments could, a comma. */
  private between(from: number, to: number): string {
    const text = Buffer.from(this.bytes.subarray(from, to)).toString("latin1");
    return /^\s*,\s*$/.test(text) ? text : ", ";
  }

  /** The file has organizations only. */
  private newList(texts: readonly string[]): Cut {
    let at = this.bytes.lastIndexOf(0x7d);
    while ([0x20, 0x09, 0x0a, 0x0d].includes(this.bytes[at - 1] as number)) at--;
    const space = this.bytes.includes(0x0a) ? "\n  " : " ";
    return { from: at, to: at, text: `,${space}"flat_ip_list": [${texts.join(", ")}]` };
  }
}
