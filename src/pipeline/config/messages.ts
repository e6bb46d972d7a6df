// Validator errors as sentences for people: what is wrong, what is allowed, which key was probably meant.
// Called by check.ts, on the main thread. Pure.
import type { ErrorObject } from "ajv";
import { formats } from "./formats.js";
import { escapePointer } from "./document.js";

export interface SchemaProblem {
  /** JSON pointer of the value, or of the key that should not be there. */
  pointer: string;
  at: "key" | "value";
  message: string;
}

interface Annotated {
  expected?: string;
  refused?: string;
  properties?: Record<string, unknown>;
  type?: string;
}

/** One problem a place: a value that fails twice is wrong once. */
export function schemaProblems(errors: readonly ErrorObject[]): SchemaProblem[] {
  const problems = new Map<string, SchemaProblem>();
  for (const error of errors) {
    // `if` only repeats what its branch has said.
    if (error.keyword === "if") continue;
    const problem = problemOf(error);
    const key = `${problem.at} ${problem.pointer}${error.keyword === "required" ? problem.message : ""}`;
    if (!problems.has(key)) problems.set(key, problem);
  }
  return [...problems.values()];
}

function problemOf(error: ErrorObject): SchemaProblem {
  const pointer = error.instancePath;
  const schema = (error.parentSchema ?? {}) as Annotated;
  if (error.keyword === "additionalProperties") {
    const key = String(error.params["additionalProperty"]);
    const known = Object.keys(schema.properties ?? {});
    return { pointer: `${pointer}/${escapePointer(key)}`, at: "key", message: unknownKey(key, dotted(pointer), known) };
  }
  if (error.keyword === "required") {
    const key = String(error.params["missingProperty"]);
    return { pointer, at: "key", message: `${dotted(`${pointer}/${key}`)} is missing` };
  }
  if (error.keyword === "not" && schema.refused !== undefined) {
    return { pointer, at: "key", message: schema.refused };
  }
  const name = pointer === "" ? "the configuration" : dotted(pointer);
  return { pointer, at: "value", message: `${name}${valueMessage(error, schema)}` };
}

/** What follows the name of the value. */
function valueMessage(error: ErrorObject, schema: Annotated): string {
  const data: unknown = error.data;
  if (error.keyword === "format" && typeof data === "string") {
    return `: ${formats[String(error.params["format"])]?.(data) ?? "is wrong"}`.replace(/^: (is|contains) /, " $1 ");
  }
  if (error.keyword === "enum") {
    const allowed = (error.params["allowedValues"] as unknown[]).map(String);
    const near = typeof data === "string" ? nearest(data, allowed) : null;
    const list = schema.expected ?? orList(allowed);
    return ` must be ${list}, not ${show(data)}${near === null ? "" : `; did you mean ${near}?`}`;
  }
  if (error.keyword === "minItems") return " is an empty list: name at least one, or leave the key out";
  if (error.keyword === "maxItems" && (error.params["limit"] as number) > 1) {
    return ` has more than ${String(error.params["limit"])} entries`;
  }
  const expected = schema.expected ?? (error.keyword === "type" ? typeWords(schema) : null);
  return expected === null ? ` ${error.message ?? "is wrong"}` : ` must be ${expected}, not ${show(data)}`;
}

function typeWords(schema: Annotated): string {
  const keys = Object.keys(schema.properties ?? {});
  return schema.type === "object"
    ? `a section with the keys ${orList(keys).replace(/ or /, " and ")}`
    : "something else";
}

export function unknownKey(key: string, section: string, known: readonly string[]): string {
  const near = nearest(key, known);
  const where = section === "" ? "" : ` in ${section}`;
  return `unknown key "${clip(key)}"${where}; ${near === null ? `known: ${known.join(", ")}` : `did you mean ${near}?`}`;
}

/** `/nat/destination/0/port` as nat.destination[0].port. */
export function dotted(pointer: string): string {
  return pointer
    .split("/")
    .slice(1)
    .map((part) => clip(part.replaceAll("~1", "/").replaceAll("~0", "~")))
    .reduce((path, part) => (/^[0-9]+$/.test(part) ? `${path}[${part}]` : path === "" ? part : `${path}.${part}`), "");
}

function orList(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1) ?? ""}`;
}

function clip(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function show(value: unknown): string {
  if (value === null || value === undefined) return "empty";
  if (typeof value === "string") return `"${clip(value)}"`;
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : "a list";
  if (typeof value === "object") return "a section";
  return clip(String(value));
}

/** The known word that a mistyped one is closest to, or null when none is close. */
export function nearest(word: string, known: readonly string[]): string | null {
  if (word.length > 40) return null;
  let best: string | null = null;
  let least = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < least) [best, least] = [candidate, distance];
  }
  // Changing most of a short word is not a typing error.
  return best !== null && least < Math.max(word.length, best.length) / 2 + 0.5 ? best : null;
}

/** Levenshtein's, with neighbours swapped counted once. */
function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, index) => index)];
  const at = (row: number, column: number): number => rows[row]?.[column] ?? Number.POSITIVE_INFINITY;
  for (let i = 1; i <= a.length; i++) {
    rows.push([i]);
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + cost);
      if (a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) least = Math.min(least, at(i - 2, j - 2) + 1);
      rows[i]?.push(least);
    }
  }
  return at(a.length, b.length);
}
