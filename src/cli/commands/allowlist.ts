// `vxpipe allowlist ...`: looks at and edits the running gateway's list. Main thread.
import type { Imported } from "../../api/edits.js";
import { allowlistBytesMax } from "../../pipeline/allowlist/load.js";
import { systemReason, VxpipeError } from "../../pipeline/errors.js";
import { readBounded } from "../../pipeline/read-file.js";
import { ask, parameters } from "../client.js";
import { note, print, type Format } from "../output.js";

export interface Listed {
  enforced: boolean;
  match: string;
  total: number;
  entries: string[];
}

export async function list(socket: string, format: Format): Promise<void> {
  const listed = await ask<Listed>(socket, "/api/v1/allowlist");
  if (!listed.enforced) note(format, "no allowlist is in force: every address is allowed");
  // As text it is a file that `import` takes.
  const head = `# ${listed.total} entries, match ${listed.match}`;
  print(format, listed, () => [head, ...listed.entries].join("\n"));
}

/** Exit code: 0 allowed, 3 not. */
export async function test(socket: string, format: Format, address: string): Promise<void> {
  const path = `/api/v1/allowlist/test?${parameters({ address })}`;
  const result = await ask<{ address: string; allowed: boolean; by: string | null }>(socket, path);
  if (!result.allowed)
    throw new VxpipeError("ADDRESS_NOT_LISTED", `${address} is not allowed: nothing on the list covers it`);
  const why = result.by === null ? "no allowlist is in force" : `by ${result.by}`;
  print(format, result, () => `${address} is allowed: ${why}`);
}

export async function load(
  socket: string,
  format: Format,
  file: string,
  options: { dryRun: boolean; enforce: boolean },
): Promise<void> {
  let bytes: Buffer;
  try {
    bytes = await readBounded(file === "-" ? "/dev/stdin" : file, allowlistBytesMax);
  } catch (error) {
    throw new VxpipeError("ALLOWLIST_UNREADABLE", `${file}: ${systemReason(error)}`, { cause: error });
  }
  if (bytes.length > allowlistBytesMax) throw new VxpipeError("ALLOWLIST_UNREADABLE", `${file}: is larger than 1 GiB`);
  const path = `/api/v1/allowlist?${parameters({ name: file, ...options })}`;
  const result = await ask<Imported>(socket, path, { method: "PUT", bytes });
  for (const warning of result.warnings) note(format, `${file}: ${warning}`);
  const verb = result.dryRun ? "would be" : "were";
  print(
    format,
    result,
    () => `${file}: ${result.total} entries; ${result.added} ${verb} added, ${result.removed} ${verb} removed`,
  );
}

export async function add(socket: string, format: Format, entries: string[], enforce: boolean): Promise<void> {
  const path = `/api/v1/allowlist/entries?${parameters({ enforce })}`;
  const result = await ask<{ added: number; alreadyListed: number; total: number }>(socket, path, {
    method: "POST",
    body: { entries },
  });
  print(format, result, () => `${result.added} added, ${result.alreadyListed} listed already; ${result.total} entries`);
}

export async function remove(socket: string, format: Format, entries: string[]): Promise<void> {
  const question = { method: "DELETE", body: { entries } } as const;
  const result = await ask<{ removed: number; total: number }>(socket, "/api/v1/allowlist/entries", question);
  print(format, result, () => `${result.removed} removed; ${result.total} entries`);
}

export async function clear(socket: string, format: Format, enforce: boolean): Promise<void> {
  const path = `/api/v1/allowlist?${parameters({ enforce })}`;
  const result = await ask<{ removed: number; total: number }>(socket, path, { method: "DELETE" });
  print(format, result, () => `${result.removed} removed; the list is empty: nothing is allowed`);
}
