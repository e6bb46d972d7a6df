// Changes to the running gateway: each makes the next plan of the plan in force. Called by routes.ts, on the main thread.
import {
  add,
  allowedBy,
  fromCompiled,
  nothingAllowed,
  parseEntries,
  remove,
  type Allowlist,
} from "../pipeline/allowlist/edit.js";
import { formatEntry, parseEntry, type Entry } from "../pipeline/allowlist/entry.js";
import type { AllowlistLoader } from "../pipeline/allowlist/load.js";
import { VxpipeError, type Problem } from "../pipeline/errors.js";
import { addRule, parseRule, parseRuleKey, removeRule } from "../pipeline/rules.js";
import type { Runtime } from "../pipeline/runtime.js";
import type { Saver } from "../pipeline/save.js";
import type { ImportProgress } from "./import-progress.js";

/** Without an allowlist section only --enforce makes a list of what is open to all. */
function enforced(list: Allowlist | null, enforce: boolean): Allowlist {
  if (list !== null) return list;
  if (enforce) return nothingAllowed;
  throw new VxpipeError("ALLOWLIST_NOT_ENFORCED", "no allowlist is in force: every address is allowed");
}

/** Whether an edit is saved, and with what. */
export type Save = Saver | null;

/** Where an edit was saved, in its answer. */
interface Saved {
  saved?: string;
}

function savedTo(path: string | null): Saved {
  return path === null ? {} : { saved: path };
}

const written = (entries: readonly Entry[]): string[] =>
  entries.map(({ family, address, length }) => formatEntry(family, address, length));

export async function addEntries(
  runtime: Runtime,
  given: readonly string[],
  enforce: boolean,
  save: Save,
): Promise<{ added: number; alreadyListed: number; total: number } & Saved> {
  const entries = parseEntries(given);
  let result = { added: 0, alreadyListed: 0, total: 0 };
  const path = await runtime.change(
    (plan) => {
      const old = enforced(plan.allowlist, enforce);
      const allowlist = add(old, entries);
      const added = allowlist.count - old.count;
      result = { added, alreadyListed: entries.length - added, total: allowlist.count };
      return allowlist.count === plan.allowlist?.count ? plan : { ...plan, allowlist };
    },
    `allowlist add ${given.join(" ")}`,
    save === null ? null : () => save.list({ add: written(entries), remove: [] }),
  );
  return { ...result, ...savedTo(path) };
}

export async function removeEntries(
  runtime: Runtime,
  given: readonly string[],
  save: Save,
): Promise<{ removed: number; total: number } & Saved> {
  const entries = parseEntries(given);
  let result = { removed: 0, total: 0 };
  const path = await runtime.change(
    (plan) => {
      const old = plan.allowlist;
      if (old === null) throw new VxpipeError("ADDRESS_NOT_LISTED", "no allowlist is in force: nothing is listed");
      const allowlist = remove(old, entries);
      result = { removed: old.count - allowlist.count, total: allowlist.count };
      return { ...plan, allowlist };
    },
    `allowlist remove ${given.join(" ")}`,
    save === null ? null : () => save.list({ add: [], remove: written(entries) }),
  );
  return { ...result, ...savedTo(path) };
}

export async function clearAllowlist(
  runtime: Runtime,
  enforce: boolean,
  save: Save,
): Promise<{ removed: number; total: number } & Saved> {
  let removed = 0;
  const path = await runtime.change(
    (plan) => {
      removed = enforced(plan.allowlist, enforce).count;
      return { ...plan, allowlist: nothingAllowed };
    },
    "allowlist clear",
    save === null ? null : () => save.list({ add: [], remove: "all" }),
    { wholeList: true },
  );
  return { removed, total: 0, ...savedTo(path) };
}

export interface Imported {
  dryRun: boolean;
  added: number;
  removed: number;
  total: number;
  /** Entries that stood in the file again, and those that a prefix of it covers. */
  duplicates: number;
  covered: number;
  /** Wrong entries that were left out; the first of them by place. */
  skippedCount: number;
  skipped: Problem[];
  warnings: string[];
  saved?: string;
}

export interface ImportOptions {
  name: string;
  dryRun: boolean;
  enforce: boolean;
  skipInvalid: boolean;
  save: Save;
}

/** Replaces the whole list. `progress` is kept up to date for those who ask meanwhile. */
export async function importAllowlist(
  runtime: Runtime,
  loader: AllowlistLoader,
  text: Uint8Array,
  options: ImportOptions,
  progress: ImportProgress,
): Promise<Imported> {
  enforced(runtime.plan.allowlist, options.enforce);
  progress.at("reading", 0, text.byteLength);
  const { save } = options;
  // The task takes the text.
  const kept = save === null || options.dryRun ? null : text.slice();
  const compiled = await loader.fromText(text, options.name, {
    skipInvalid: options.skipInvalid,
    progress: (bytes) => progress.at("reading", bytes),
  });
  const allowlist = fromCompiled(compiled);
  let change = { added: 0, removed: 0 };
  let path: string | null = null;
  const compare = async (old: Allowlist): Promise<void> => {
    progress.at("comparing", 0, allowlist.count);
    change = await loader.difference(old.entries, allowlist.entries);
  };
  if (options.dryRun) await compare(runtime.plan.allowlist ?? nothingAllowed);
  else {
    path = await runtime.change(
      async (plan) => {
        await compare(enforced(plan.allowlist, options.enforce));
        progress.at("filling", 0, allowlist.count);
        return { ...plan, allowlist };
      },
      `allowlist import ${options.name}`,
      save === null || kept === null ? null : () => save.text(kept, compiled.skippedCount === 0),
      { wholeList: true },
    );
  }
  const { duplicates, covered, skipped, skippedCount, warnings } = compiled;
  const found = { duplicates, covered, skippedCount, skipped, warnings };
  return { dryRun: options.dryRun, ...change, total: allowlist.count, ...found, ...savedTo(path) };
}

export function testAddress(
  runtime: Runtime,
  address: string,
): { address: string; allowed: boolean; by: string | null } {
  const entry = parseEntry(address);
  if (typeof entry === "string") throw new VxpipeError("ADDRESS_INVALID", entry);
  const list = runtime.plan.allowlist;
  if (list === null) return { address, allowed: true, by: null };
  const by = allowedBy(list, entry);
  return { address, allowed: by !== null, by };
}

export async function putRule(
  runtime: Runtime,
  body: object,
  save: Save,
): Promise<{ rule: object; added: boolean } & Saved> {
  const rule = parseRule(body);
  let added = false;
  const path = await runtime.change(
    (plan) => {
      if (plan.datapath.sourceNat !== null)
        throw new VxpipeError("NAT_RULES_ONE_WAY", "there is source NAT: replies would not be translated back");
      const rules = addRule(plan.rules, rule);
      added = rules !== plan.rules;
      return added ? { ...plan, rules } : plan;
    },
    `nat rule add --protocol ${rule.protocol} --port ${rule.port} --to ${rule.to}`,
    save === null ? null : () => save.rules({ add: rule }),
  );
  return { rule, added, ...savedTo(path) };
}

export async function deleteRule(runtime: Runtime, query: object, save: Save): Promise<{ removed: object } & Saved> {
  const key = parseRuleKey(query);
  const path = await runtime.change(
    (plan) => ({ ...plan, rules: removeRule(plan.rules, key) }),
    `nat rule remove --protocol ${key.protocol} --port ${key.port}`,
    save === null ? null : () => save.rules({ remove: key }),
  );
  return { removed: key, ...savedTo(path) };
}
