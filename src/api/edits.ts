// Changes to the running gateway: each makes the next plan of the plan in force. Called by routes.ts, on the main thread.
import {
  add,
  allowedBy,
  difference,
  fromCompiled,
  listed,
  nothingAllowed,
  parseEntries,
  remove,
  type Allowlist,
} from "../pipeline/allowlist/edit.js";
import { parseEntry } from "../pipeline/allowlist/entry.js";
import type { AllowlistLoader } from "../pipeline/allowlist/load.js";
import { texts } from "../pipeline/allowlist/table.js";
import { VxpipeError } from "../pipeline/errors.js";
import { addRule, parseRule, parseRuleKey, removeRule } from "../pipeline/rules.js";
import type { Runtime } from "../pipeline/runtime.js";

/** Without an allowlist section only --enforce makes a list of what is open to all. */
function enforced(list: Allowlist | null, enforce: boolean): Allowlist {
  if (list !== null) return list;
  if (enforce) return nothingAllowed;
  throw new VxpipeError("ALLOWLIST_NOT_ENFORCED", "no allowlist is in force: every address is allowed");
}

export async function addEntries(
  runtime: Runtime,
  given: readonly string[],
  enforce: boolean,
): Promise<{ added: number; alreadyListed: number; total: number }> {
  const entries = parseEntries(given);
  let result = { added: 0, alreadyListed: 0, total: 0 };
  await runtime.change(
    (plan) => {
      const old = enforced(plan.allowlist, enforce);
      const allowlist = add(old, entries);
      const added = allowlist.count - old.count;
      result = { added, alreadyListed: entries.length - added, total: allowlist.count };
      return { ...plan, allowlist };
    },
    `allowlist add ${given.join(" ")}`,
  );
  return result;
}

export async function removeEntries(
  runtime: Runtime,
  given: readonly string[],
): Promise<{ removed: number; total: number }> {
  const entries = parseEntries(given);
  let result = { removed: 0, total: 0 };
  await runtime.change(
    (plan) => {
      const old = plan.allowlist;
      if (old === null) throw new VxpipeError("ADDRESS_NOT_LISTED", "no allowlist is in force: nothing is listed");
      const allowlist = remove(old, entries);
      result = { removed: old.count - allowlist.count, total: allowlist.count };
      return { ...plan, allowlist };
    },
    `allowlist remove ${given.join(" ")}`,
  );
  return result;
}

export async function clearAllowlist(runtime: Runtime, enforce: boolean): Promise<{ removed: number; total: number }> {
  let removed = 0;
  await runtime.change((plan) => {
    removed = enforced(plan.allowlist, enforce).count;
    return { ...plan, allowlist: nothingAllowed };
  }, "allowlist clear");
  return { removed, total: 0 };
}

export interface Imported {
  dryRun: boolean;
  added: number;
  removed: number;
  total: number;
  warnings: string[];
}

export async function importAllowlist(
  runtime: Runtime,
  loader: AllowlistLoader,
  text: Uint8Array,
  options: { name: string; dryRun: boolean; enforce: boolean },
): Promise<Imported> {
  enforced(runtime.plan.allowlist, options.enforce);
  const compiled = await loader.fromText(text, options.name);
  const allowlist = fromCompiled(compiled);
  let change = { added: 0, removed: 0 };
  if (options.dryRun) change = difference(runtime.plan.allowlist ?? nothingAllowed, allowlist);
  else {
    await runtime.change((plan) => {
      change = difference(enforced(plan.allowlist, options.enforce), allowlist);
      return { ...plan, allowlist };
    }, `allowlist import ${options.name}`);
  }
  return { dryRun: options.dryRun, ...change, total: allowlist.count, warnings: compiled.warnings };
}

export function testAddress(
  runtime: Runtime,
  address: string,
): { address: string; allowed: boolean; by: string | null } {
  const entry = parseEntry(address);
  if (typeof entry === "string") throw new VxpipeError("ADDRESS_INVALID", entry);
  const list = runtime.plan.allowlist;
  if (list === null) return { address, allowed: true, by: null };
  const by = listed(list, entry) ? address : allowedBy(list, entry);
  return { address, allowed: by !== null, by };
}

/** The list as JSON text, a piece at a time: it may have millions of entries. */
export function* listJson(runtime: Runtime): Generator<string> {
  const { allowlist, match } = runtime.plan;
  const total = allowlist?.count ?? 0;
  yield `{"enforced":${allowlist !== null},"match":"${match}","total":${total},"entries":[`;
  let piece: string[] = [];
  let first = true;
  for (const text of allowlist === null ? [] : texts(allowlist.entries)) {
    piece.push(`"${text}"`);
    if (piece.length < 4096) continue;
    yield (first ? "" : ",") + piece.join(",");
    first = false;
    piece = [];
  }
  yield `${first || piece.length === 0 ? "" : ","}${piece.join(",")}]}`;
}

export async function putRule(runtime: Runtime, body: object): Promise<{ rule: object; added: boolean }> {
  const rule = parseRule(body);
  let added = false;
  await runtime.change((plan) => {
    const rules = addRule(plan.rules, rule);
    added = rules !== plan.rules;
    return { ...plan, rules };
  }, `nat rule add --protocol ${rule.protocol} --port ${rule.port} --to ${rule.to}`);
  return { rule, added };
}

export async function deleteRule(runtime: Runtime, query: object): Promise<{ removed: object }> {
  const key = parseRuleKey(query);
  const what = `nat rule remove --protocol ${key.protocol} --port ${key.port}`;
  await runtime.change((plan) => ({ ...plan, rules: removeRule(plan.rules, key) }), what);
  return { removed: key };
}
