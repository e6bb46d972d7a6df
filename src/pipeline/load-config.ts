// A configuration file, read, checked, and turned into a plan with its allowlist compiled. Called at start, at reload, for
// edits that are saved and by `config check`, on the main thread.
import { fromCompiled, nothingAllowed, type Allowlist } from "./allowlist/edit.js";
import type { AllowlistLoader } from "./allowlist/load.js";
import { checkConfig, type Checked } from "./config/check.js";
import type { Config } from "./config/config.js";
import { problemLine, systemReason, VxpipeError } from "./errors.js";
import { planOf, type Plan } from "./plan.js";
import { readBounded } from "./read-file.js";
import type { CheckTask } from "./tasks/config.js";
import type { TaskThread } from "./tasks/thread.js";

/** More than a configuration may have, so that the check can say so. */
export const configBytesMax = 2 * 1024 * 1024;

/** On this thread, or beside it. */
export type Check = (bytes: Uint8Array, file: string) => Checked | Promise<Checked>;

/** For a daemon that has others to answer meanwhile. */
export function checkBeside(thread: TaskThread): Check {
  return (bytes, file) => thread.run<Checked>("config", "check", { bytes, file } satisfies CheckTask);
}

export async function readConfig(file: string, check: Check = checkConfig): Promise<Checked> {
  try {
    return await check(await readBounded(file, configBytesMax), file);
  } catch (error) {
    throw new VxpipeError("CONFIG_UNREADABLE", `${file}: ${systemReason(error)}`, { cause: error });
  }
}

/** `event`: under which name the daemon tells it. */
export type Warn = (message: string, event: "allowlist_warning" | "config_warning") => void;

export async function loadPlan(
  file: string,
  loader: AllowlistLoader,
  warn: Warn,
  check: Check = checkConfig,
): Promise<Plan> {
  const { config, problems, warnings } = await readConfig(file, check);
  if (config === null) {
    const count = problems.length;
    throw new VxpipeError("CONFIG_INVALID", `${file}: ${count} ${count === 1 ? "error" : "errors"}`, { problems });
  }
  for (const warning of warnings) warn(problemLine(warning), "config_warning");
  return planOf(config, await loadAllowlist(config, loader, warn));
}

/** null: there is no allowlist section, every address is allowed. */
export async function loadAllowlist(config: Config, loader: AllowlistLoader, warn: Warn): Promise<Allowlist | null> {
  if (config.allowlist === undefined) return null;
  const file = config.allowlist.file;
  if (file === undefined) return nothingAllowed;
  const compiled = await loader.fromFile(file);
  for (const warning of compiled.warnings) warn(`${file}: ${warning}`, "allowlist_warning");
  return fromCompiled(compiled);
}
