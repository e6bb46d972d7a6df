// `vxpipe config check` and `vxpipe config schema`: no root, no daemon. Main thread.
import { AllowlistLoader } from "../../pipeline/allowlist/load.js";
import { problemLine, VxpipeError, type Problem } from "../../pipeline/errors.js";
import { loadAllowlist, readConfig } from "../../pipeline/load-config.js";
import { schema } from "../../pipeline/config/schema.js";
import { note, print, type Format } from "../output.js";

/** The allowlist file is a part of the configuration: what is wrong in it is reported as well. */
export async function checkFile(file: string, format: Format): Promise<void> {
  const { config, problems, warnings } = await readConfig(file);
  if (config === null) throw invalid(file, problems);
  for (const warning of warnings) note(format, problemLine(warning));
  const loader = new AllowlistLoader();
  const allowlistWarnings: string[] = [];
  try {
    const list = await loadAllowlist(config, loader, (warning) => void allowlistWarnings.push(warning));
    for (const warning of allowlistWarnings) note(format, warning);
    const allowed = list === null ? "no allowlist: every address is allowed" : `allowlist of ${list.count} entries`;
    print(
      format,
      { ok: true, file, allowlistEntries: list?.count ?? null, warnings, allowlistWarnings },
      () => `${file}: valid; ${allowed}`,
    );
  } finally {
    await loader.close();
  }
}

function invalid(file: string, problems: readonly Problem[]): VxpipeError {
  return new VxpipeError(
    "CONFIG_INVALID",
    `${file}: ${problems.length} ${problems.length === 1 ? "error" : "errors"}`,
    {
      problems,
    },
  );
}

export function printSchema(): void {
  process.stdout.write(`${JSON.stringify(schema, null, 2)}\n`);
}
