// Edits made at run time, written to the files they belong to: rules to the configuration, addresses to its allowlist file.
// The files are read as they are on the disk now; what takes long is done beside the main thread. Called by the API for edits
// with --save, on the main thread.
import { isDeepStrictEqual } from "node:util";
import { allowlistBytesMax, tooLarge, type AllowlistLoader } from "./allowlist/load.js";
import type { ListEdit } from "./allowlist/rewrite.js";
import type { Config, StaticRule } from "./config/config.js";
import type { RuleEdit } from "./config/rewrite.js";
import { systemReason, VxpipeError } from "./errors.js";
import { checkBeside, configBytesMax, readConfig, type Check } from "./load-config.js";
import { readBounded } from "./read-file.js";
import { addRule } from "./rules.js";
import type { RewriteTask } from "./tasks/config.js";
import { prepareFile, versionOf, type Pending } from "./write-file.js";

export class Saver {
  private readonly check: Check;

  constructor(
    /** Of the configuration. */
    private readonly file: string,
    private readonly loader: AllowlistLoader,
  ) {
    this.check = checkBeside(loader.thread);
  }

  /** Edits the allowlist file. */
  async list(edit: ListEdit): Promise<Pending> {
    const path = await this.listFile();
    const version = await attempt(path, () => versionOf(path));
    const old = await attempt(path, () => readBounded(path, allowlistBytesMax));
    if (old.length > allowlistBytesMax) throw tooLarge(path);
    const changed = await attempt(path, () => this.loader.rewrite(old, edit));
    return changed === null ? unchanged(path) : attempt(path, () => prepareFile(path, changed, version));
  }

  /** Replaces the allowlist file by a text that has been imported; without its wrong entries, if it has any. */
  async text(text: Uint8Array, clean: boolean): Promise<Pending> {
    const path = await this.listFile();
    const edit: ListEdit = { add: [], remove: "invalid" };
    const changed = clean ? text : ((await attempt(path, () => this.loader.rewrite(text.slice(), edit))) ?? text);
    return attempt(path, () => prepareFile(path, changed));
  }

  async rules(edit: RuleEdit): Promise<Pending> {
    const { file } = this;
    const version = await attempt(file, () => versionOf(file));
    const config = await this.config();
    const wanted = editedRules(config.nat.destination, edit);
    if (wanted === config.nat.destination) return unchanged(file);
    const old = (await attempt(file, () => readBounded(file, configBytesMax))).toString("utf8");
    const text = await attempt(file, () => this.rewritten(old, edit));
    const { config: check } = text === null ? { config: null } : await this.check(Buffer.from(text), file);
    // The library writes the file anew: that it means what it should is not left to trust.
    if (
      text === null ||
      check === null ||
      !isDeepStrictEqual(check, { ...config, nat: { ...config.nat, destination: [...wanted] } })
    ) {
      throw new VxpipeError(
        "NOT_SAVED",
        `${file}: nat.destination is written in a way that --save cannot change; nothing was changed`,
      );
    }
    return attempt(file, () => prepareFile(file, text, version));
  }

  private rewritten(text: string, edit: RuleEdit): Promise<string | null> {
    return this.loader.thread.run("config", "rewrite", { text, edit } satisfies RewriteTask);
  }

  private async config(): Promise<Config> {
    const { config, problems } = await readConfig(this.file, this.check);
    if (config !== null) return config;
    throw new VxpipeError("NOT_SAVED", `${this.file} has errors; nothing was changed`, { problems });
  }

  private async listFile(): Promise<string> {
    const { allowlist } = await this.config();
    if (allowlist?.file !== undefined) return allowlist.file;
    throw new VxpipeError("NOT_SAVED", `${this.file} names no allowlist.file to save to; nothing was changed`);
  }
}

function editedRules(rules: readonly StaticRule[], edit: RuleEdit): readonly StaticRule[] {
  if ("add" in edit) return addRule(rules, edit.add);
  const { protocol, port } = edit.remove;
  const rest = rules.filter((rule) => rule.protocol !== protocol || rule.port !== port);
  return rest.length === rules.length ? rules : rest;
}

function unchanged(path: string): Pending {
  const nothing = (): Promise<void> => Promise.resolve();
  return { path, commit: nothing, abandon: nothing };
}

async function attempt<Value>(path: string, work: () => Promise<Value>): Promise<Value> {
  try {
    return await work();
  } catch (error) {
    throw new VxpipeError("NOT_SAVED", `${path}: ${systemReason(error)}; nothing was changed`, { cause: error });
  }
}
