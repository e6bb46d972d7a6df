// Configuration text in, configuration or every problem of it out. Called by `config check` and at start on the main thread,
// at reload and for edits that are saved in a Piscina task. Never throws, whatever the text.
import { statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { Ajv } from "ajv";
import type { Problem } from "../errors.js";
import type { Config, StaticRule } from "./config.js";
import { readDocument, type ConfigDocument, type Json } from "./document.js";
import { checkSourceNat, type Found } from "./check-source-nat.js";
import { formats } from "./formats.js";
import { dotted, schemaProblems } from "./messages.js";
import { schema } from "./schema.js";

export interface Checked {
  /** null: there are problems. */
  config: Config | null;
  problems: Problem[];
  /** What is legal and probably not meant. */
  warnings: Problem[];
}

const validate = makeValidator();

function makeValidator(): ReturnType<Ajv["compile"]> {
  const ajv = new Ajv({ allErrors: true, verbose: true, useDefaults: true, strictTypes: false });
  ajv.addVocabulary(["expected", "refused"]);
  for (const [name, explain] of Object.entries(formats)) {
    ajv.addFormat(name, { type: "string", validate: (text: string) => explain(text) === null });
  }
  return ajv.compile(schema);
}

/** `file` names the text in messages; paths in it are relative to its directory. */
export function checkConfig(bytes: Uint8Array, file: string): Checked {
  const { document, problems } = readDocument(bytes, file);
  if (document === null) return { config: null, problems, warnings: [] };
  const value = fillSections(document.value, schema);
  const bad = new Set<string>();
  if (!validate(value)) {
    for (const problem of schemaProblems(validate.errors ?? [])) {
      bad.add(problem.pointer);
      problems.push(document.problem(problem.pointer, problem.at, problem.message));
    }
  }
  const directory = dirname(resolve(file));
  const { problems: more, warnings } = semanticProblems(value, document, bad, directory);
  problems.push(...more);
  if (problems.length > 0) return { config: null, problems: inOrder(problems), warnings: inOrder(warnings) };
  const config = value as unknown as Config;
  if (config.allowlist?.file !== undefined) config.allowlist.file = resolve(directory, config.allowlist.file);
  const records = config.nat.source?.records;
  if (typeof records?.file === "string") records.file = resolve(directory, records.file);
  return { config, problems, warnings: inOrder(warnings) };
}

function inOrder(problems: Problem[]): Problem[] {
  return problems.sort((a, b) => a.line - b.line || a.column - b.column);
}

/** `allowlist:` with nothing below it is a section that is present and empty, not a null. */
function fillSections(value: Json, node: object): Json {
  const sections = "properties" in node ? (node.properties as Record<string, object>) : null;
  if (sections === null || typeof value !== "object" || value === null || Array.isArray(value)) return value;
  for (const [key, section] of Object.entries(sections)) {
    if (!Object.hasOwn(value, key)) continue;
    const child = value[key] ?? null;
    if (child === null && "type" in section && section.type === "object") value[key] = fillSections({}, section);
    else if (child === null && "type" in section && section.type === "array") value[key] = [];
    else value[key] = fillSections(child, section);
  }
  return value;
}

/** What a schema cannot say: how values fit each other and this host's files. Skips what is already wrong. */
function semanticProblems(value: Json, document: ConfigDocument, bad: Set<string>, directory: string): Found {
  const get = (pointer: string): Json | undefined => {
    if (bad.has(pointer)) return undefined;
    let node: Json | undefined = value;
    for (const part of pointer.split("/").slice(1)) {
      if (typeof node !== "object" || node === null) return undefined;
      node = Array.isArray(node) ? node[Number(part)] : Object.hasOwn(node, part) ? node[part] : undefined;
    }
    return node;
  };
  const problems: Problem[] = [];
  const inside = get("/inside/interface");
  const outside = get("/outside/interface");
  if (typeof inside === "string" && inside === outside) {
    problems.push(
      document.problem("/outside/interface", "value", `outside.interface is the inside interface: ${inside}`),
    );
  }
  const listed = get("/allowlist/file");
  if (typeof listed === "string") {
    const path = resolve(directory, listed);
    const wrong = unreadable(path);
    if (wrong !== null)
      problems.push(document.problem("/allowlist/file", "value", `allowlist.file: ${path}: ${wrong}`));
  }
  const [count, cpus] = [get("/workers/count"), get("/workers/cpus")];
  const unused = typeof count === "number" && Array.isArray(cpus) ? unusedCpus(count, cpus, document) : [];
  const rules = get("/nat/destination");
  if (Array.isArray(rules)) problems.push(...ruleProblems(rules, document, bad));
  const found = checkSourceNat({
    get,
    problem: (pointer, message) => document.problem(pointer, "value", message),
    line: (pointer) => document.line(pointer),
  });
  return { problems: [...problems, ...found.problems], warnings: [...unused, ...found.warnings] };
}

/** They are taken in turn. That workers share one is said where they are placed. */
function unusedCpus(count: number, cpus: Json[], document: ConfigDocument): Problem[] {
  const used = new Set(cpus.slice(0, count));
  const unused = [...new Set(cpus)].filter((cpu) => !used.has(cpu));
  const [first] = unused;
  if (first === undefined) return [];
  const left = `CPU ${unused.join(", ")} ${unused.length === 1 ? "is" : "are"} left unused`;
  const message = `workers.cpus: workers.count is ${count}: ${left}`;
  return [document.problem(`/workers/cpus/${cpus.indexOf(first)}`, "value", message)];
}

function unreadable(path: string): string | null {
  try {
    return statSync(path).isDirectory() ? "it is a directory" : null;
  } catch {
    return "there is no such file";
  }
}

/** Two rules may not answer for the same protocol and port; `any` answers for both. */
function ruleProblems(rules: Json[], document: ConfigDocument, bad: Set<string>): Problem[] {
  const problems: Problem[] = [];
  const taken = new Map<string, string>();
  rules.forEach((rule, index) => {
    const pointer = `/nat/destination/${index}`;
    if (!isRule(rule) || bad.has(`${pointer}/protocol`) || bad.has(`${pointer}/port`)) return;
    const keys = ruleKeys(rule);
    const earlier = keys.map((key) => taken.get(key)).find((found) => found !== undefined);
    if (earlier === undefined) {
      for (const key of keys) taken.set(key, pointer);
      return;
    }
    const message = `${dotted(pointer)}: ${rule.protocol} port ${rule.port} has a rule already, in line ${document.line(earlier)}`;
    problems.push(document.problem(pointer, "value", message));
  });
  return problems;
}

function isRule(rule: Json): rule is { protocol: StaticRule["protocol"]; port: number } {
  return (
    typeof rule === "object" &&
    rule !== null &&
    !Array.isArray(rule) &&
    typeof rule["protocol"] === "string" &&
    typeof rule["port"] === "number"
  );
}

/** The protocol and port pairs a rule answers for. */
export function ruleKeys(rule: { protocol: StaticRule["protocol"]; port: number }): string[] {
  const protocols = rule.protocol === "any" ? ["tcp", "udp"] : [rule.protocol];
  return protocols.map((protocol) => `${protocol}/${rule.port}`);
}
