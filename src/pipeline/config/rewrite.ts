// A configuration file with a static rule added or taken out, comments kept. Called in a Piscina task
// (src/pipeline/tasks/config.ts) for edits that are saved. Pure.
//
// The yaml library writes a document anew. How far lists are indented, and the like, is found by trying which way of
// writing comes closest to the old text; of what is written that way only the lines that differ are taken.
import { isAlias, isMap, isSeq, parseDocument, Scalar, type Document, type ToStringOptions, type YAMLMap } from "yaml";
import type { StaticRule } from "./config.js";

export type RuleEdit = { add: StaticRule } | { remove: Pick<StaticRule, "protocol" | "port"> };

/** null: the file is written in a way that this cannot change. */
export function rewriteRules(text: string, edit: RuleEdit): string | null {
  const document = parseDocument(text, { version: "1.2", uniqueKeys: false });
  if (document.errors.length > 0) return null;
  const style = styleOf(document, text);
  const before = document.toString(style);
  const done = "add" in edit ? addRule(document, edit.add) : removeRule(document, edit.remove);
  return done ? transferred(text, before, document.toString(style)) : null;
}

/** What changed from `before` to `after`, in the text that `before` is another way of writing of, line by line. */
function transferred(text: string, before: string, after: string): string {
  const [own, old, wanted] = [text, before, after].map((one) => one.split("\n")) as [string[], string[], string[]];
  if (own.length !== old.length) return after;
  const fewer = Math.min(old.length, wanted.length);
  let head = 0;
  while (head < fewer && old[head] === wanted[head]) head++;
  let tail = 0;
  while (tail < fewer - head && old.at(-1 - tail) === wanted.at(-1 - tail)) tail++;
  return [...own.slice(0, head), ...wanted.slice(head, wanted.length - tail), ...own.slice(own.length - tail)].join(
    "\n",
  );
}

function addRule(document: Document, { protocol, port, to }: StaticRule): boolean {
  const target = new Scalar(to);
  target.type = Scalar.QUOTE_DOUBLE;
  const rule = document.createNode({ protocol, port, to: target }) as YAMLMap;
  rule.flow = true;
  const nat = document.get("nat", true);
  if (isAlias(nat)) return false;
  if (!isMap(nat)) {
    document.set("nat", document.createNode({ destination: [rule] }));
    return true;
  }
  const rules = nat.get("destination", true);
  if (isAlias(rules)) return false;
  if (!isSeq(rules)) {
    nat.set("destination", document.createNode([rule]));
    return true;
  }
  const last = rules.items.at(-1);
  if (isMap(last) && last.flow !== true && rules.flow !== true) rule.flow = false;
  rules.add(rule);
  return true;
}

function removeRule(document: Document, key: Pick<StaticRule, "protocol" | "port">): boolean {
  const rules = document.getIn(["nat", "destination"], true);
  if (!isSeq(rules)) return false;
  const index = rules.items.findIndex(
    (item) => isMap(item) && item.get("protocol") === key.protocol && item.get("port") === key.port,
  );
  if (index < 0) return false;
  rules.items.splice(index, 1);
  return true;
}

function styleOf(document: Document, text: string): ToStringOptions {
  const lines = new Set(text.split("\n"));
  let best: { style: ToStringOptions; strange: number } | null = null;
  for (const indent of [2, 4, 3, 1, 8]) {
    for (const indentSeq of [true, false]) {
      for (const flowCollectionPadding of [true, false]) {
        const style = { indent, indentSeq, flowCollectionPadding, lineWidth: 0 };
        const strange = document
          .toString(style)
          .split("\n")
          .filter((line) => !lines.has(line)).length;
        if (best === null || strange < best.strange) best = { style, strange };
        if (strange === 0) return style;
      }
    }
  }
  return best?.style ?? {};
}
