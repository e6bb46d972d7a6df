// A YAML text as a plain value that knows where each of its parts stands. Called by check.ts.
//
// The conversion is our own instead of the library's toJS(), because a configuration may be hostile: aliases are
// counted and may not go in circles, depth is bounded, duplicate keys are found in linear time (the library compares
// every pair of keys), keys must be scalars.
import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  type Document,
  type Node,
  type Pair,
  type YAMLError,
} from "yaml";
import type { Problem } from "../errors.js";

const bytesMax = 1024 * 1024;
const depthMax = 32;
const nodesMax = 1_000_000;
const aliasesMax = 1000;

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

interface Place {
  key: number;
  value: number;
}

export interface ConfigDocument {
  value: Json;
  /** The place of a JSON pointer's key or value; of the nearest enclosing one when it does not exist. */
  problem(pointer: string, at: keyof Place, message: string): Problem;
  /** Line of a value, to refer to it in a message. */
  line(pointer: string): number;
}

export function readDocument(
  bytes: Uint8Array,
  file: string,
): { document: ConfigDocument | null; problems: Problem[] } {
  const text = decode(bytes, file);
  if (typeof text !== "string") return { document: null, problems: [text] };
  const lines = new LineCounter();
  const parsed = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    uniqueKeys: false,
    version: "1.2",
    // Nothing is logged either way, but "silent" also silences the error about a second document.
    logLevel: "error",
  });
  const problemAt = (offset: number, message: string): Problem => {
    const { line, col } = lines.linePos(Math.min(Math.max(offset, 0), text.length));
    return { file, line: Math.max(line, 1), column: Math.max(col, 1), message };
  };
  const wrong = [...parsed.errors, ...parsed.warnings];
  if (wrong.length > 0) {
    return { document: null, problems: syntaxProblems(wrong, problemAt) };
  }
  const converter = new Converter(parsed, problemAt);
  const value = converter.convert();
  if (converter.fatal) return { document: null, problems: converter.problems };
  if (value === null) {
    return { document: null, problems: [problemAt(0, "the configuration is empty")] };
  }
  const placeOf = (pointer: string): Place => {
    for (let rest = pointer; ; rest = rest.slice(0, rest.lastIndexOf("/"))) {
      const place = converter.places.get(rest);
      if (place !== undefined) return place;
      if (rest === "") return { key: 0, value: 0 };
    }
  };
  return {
    document: {
      value,
      problem: (pointer, at, message) => problemAt(placeOf(pointer)[at], message),
      line: (pointer) => problemAt(placeOf(pointer).value, "").line,
    },
    problems: converter.problems,
  };
}

/** One a place: the parser repeats itself where brackets stay open. */
function syntaxProblems(
  errors: readonly YAMLError[],
  problemAt: (offset: number, message: string) => Problem,
): Problem[] {
  const exhausted = errors.find((error) => error.code === "RESOURCE_EXHAUSTION");
  const problems = new Map<number, Problem>();
  for (const error of exhausted === undefined ? errors : [exhausted]) {
    if (problems.has(error.pos[0])) continue;
    problems.set(error.pos[0], problemAt(error.pos[0], sentence(error.code, error.message)));
  }
  return [...problems.values()];
}

function decode(bytes: Uint8Array, file: string): string | Problem {
  const whole = (message: string): Problem => ({ file, line: 1, column: 1, message });
  if (bytes.length > bytesMax) {
    return whole("is larger than 1 MiB: addresses belong in an allowlist file, which may be large");
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return whole("is not UTF-8 text");
  }
  const control = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f]/.exec(text);
  if (control === null) return text;
  const before = text.slice(0, control.index).split("\n");
  const code = text.charCodeAt(control.index).toString(16).padStart(2, "0");
  return {
    file,
    line: before.length,
    column: (before.at(-1)?.length ?? 0) + 1,
    message: `control character 0x${code}: this is not a YAML text`,
  };
}

function sentence(code: string, message: string): string {
  if (code === "RESOURCE_EXHAUSTION") return "is nested too deeply";
  if (code === "MULTIPLE_DOCS") return "a second YAML document starts here; a configuration is one";
  const first = message.split("\n")[0] ?? message;
  return `${first.charAt(0).toLowerCase()}${first.slice(1)}`;
}

class Converter {
  readonly problems: Problem[] = [];
  readonly places = new Map<string, Place>();
  fatal = false;
  private nodes = 0;
  private aliases = 0;
  private readonly open = new Set<Node>();

  constructor(
    private readonly document: Document,
    private readonly problemAt: (offset: number, message: string) => Problem,
  ) {}

  convert(): Json {
    const contents = this.document.contents;
    return contents === null ? null : this.node(contents, "", 0, 0);
  }

  private fail(offset: number, message: string): null {
    if (!this.fatal) this.problems.push(this.problemAt(offset, message));
    this.fatal = true;
    return null;
  }

  private node(node: unknown, pointer: string, keyOffset: number, depth: number): Json {
    const offset = offsetOf(node) ?? keyOffset;
    if (!this.places.has(pointer)) this.places.set(pointer, { key: keyOffset, value: offset });
    if (this.fatal) return null;
    if (++this.nodes > nodesMax) return this.fail(offset, "has more than a million values");
    if (depth > depthMax) return this.fail(offset, `is nested more than ${depthMax} levels deep`);
    if (isAlias(node)) return this.alias(node.resolve(this.document), offset, pointer, keyOffset, depth);
    if (isScalar(node)) return scalar(node.value);
    if (isSeq(node)) {
      return node.items.map((item, index) =>
        this.node(item, `${pointer}/${index}`, offsetOf(item) ?? offset, depth + 1),
      );
    }
    if (isMap(node)) return this.map(node.items, pointer, offset, depth);
    return null;
  }

  private alias(target: Node | undefined, offset: number, pointer: string, keyOffset: number, depth: number): Json {
    if (target === undefined) return this.fail(offset, "refers to an anchor that does not exist");
    if (this.open.has(target)) return this.fail(offset, "refers to itself");
    if (++this.aliases > aliasesMax) return this.fail(offset, `uses more than ${aliasesMax} aliases`);
    this.open.add(target);
    const value = this.node(target, pointer, keyOffset, depth + 1);
    this.open.delete(target);
    return value;
  }

  private map(pairs: Pair[], pointer: string, offset: number, depth: number): Json {
    const entries = new Map<string, Json>();
    for (const pair of pairs) {
      const keyOffset = offsetOf(pair.key) ?? offset;
      if (!isScalar(pair.key)) {
        this.problems.push(this.problemAt(keyOffset, "a key must be a plain word"));
        continue;
      }
      const key = String(pair.key.value);
      if (entries.has(key)) {
        this.problems.push(this.problemAt(keyOffset, `key "${key}" is here twice`));
        continue;
      }
      entries.set(key, this.node(pair.value, `${pointer}/${escapePointer(key)}`, keyOffset, depth + 1));
    }
    // fromEntries defines own properties, so a key named __proto__ stays a key.
    return Object.fromEntries(entries);
  }
}

function scalar(value: unknown): Json {
  if (value === null || typeof value === "string" || typeof value === "boolean" || typeof value === "number") {
    return value;
  }
  return String(value);
}

function offsetOf(node: unknown): number | null {
  const range = typeof node === "object" && node !== null && "range" in node ? node.range : null;
  return Array.isArray(range) && typeof range[0] === "number" ? range[0] : null;
}

export function escapePointer(key: string): string {
  return key.replaceAll("~", "~0").replaceAll("/", "~1");
}
