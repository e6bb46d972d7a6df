// `vxpipe allowlist ...`: looks at and edits the running gateway's list. Main thread.
import { randomUUID } from "node:crypto";
import type { Imported } from "../../api/edits.js";
import { allowlistBytesMax, tooLarge } from "../../pipeline/allowlist/load.js";
import { printable, problemLine, systemReason, VxpipeError } from "../../pipeline/errors.js";
import { nothingWritten, readBounded } from "../../pipeline/read-file.js";
import { ask, parameters } from "../client.js";
import { note, print, savedText, type Format } from "../output.js";
import { withProgress } from "../progress.js";

export interface Listed {
  enforced: boolean;
  match: string;
  total: number;
  entries: string[];
  /** Who lists them, as far as the list says. */
  organizations: { name: string; ips: string[] }[];
}

export async function list(socket: string, format: Format): Promise<void> {
  const listed = await ask<Listed>(socket, "/api/v1/allowlist");
  if (!listed.enforced) note(format, "no allowlist is in force: every address is allowed");
  print(format, listed, () => listText(listed));
}

/** A file that `import` takes. */
function listText({ total, match, entries, organizations }: Listed): string {
  const owners = new Map<string, string[]>();
  for (const { name, ips } of organizations) {
    for (const entry of ips) {
      const names = owners.get(entry);
      if (names === undefined) owners.set(entry, [name]);
      else names.push(name);
    }
  }
  const lines = entries.map((entry) => {
    const names = owners.get(entry);
    return names === undefined ? entry : `${entry}  # ${printable(names.join(", "))}`;
  });
  return [`# ${total} entries, match ${match}`, ...lines].join("\n");
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

export interface LoadOptions {
  dryRun: boolean;
  enforce: boolean;
  skipInvalid: boolean;
  progress: boolean;
  save: boolean;
}

export interface EditOptions {
  enforce: boolean;
  save: boolean;
}

export async function load(socket: string, format: Format, file: string, options: LoadOptions): Promise<void> {
  const bytes = await readList(file);
  const { progress, ...flags } = options;
  const id = randomUUID();
  const path = `/api/v1/allowlist?${parameters({ name: file, id, ...flags })}`;
  const asked = ask<Imported>(socket, path, { method: "PUT", bytes });
  const wanted = progress || (process.stderr.isTTY && !format.json);
  const result = await withProgress(socket, format, id, wanted, asked);
  for (const problem of result.skipped) note(format, problemLine(problem));
  if (result.skippedCount > 0) note(format, `${file}: ${result.skippedCount} wrong entries were left out`);
  for (const warning of result.warnings) note(format, `${file}: ${warning}`);
  print(format, result, () => importedText(file, result));
}

/** Who makes a list while it is read, as in `import <(command)`, may take its time. */
const pipePatienceMs = 60_000;

async function readList(file: string): Promise<Uint8Array> {
  let bytes: Uint8Array;
  try {
    bytes = file === "-" ? await readStandardInput() : await readBounded(file, allowlistBytesMax, pipePatienceMs);
  } catch (error) {
    throw new VxpipeError("ALLOWLIST_UNREADABLE", `${file}: ${systemReason(error)}`, { cause: error });
  }
  if (bytes.length > allowlistBytesMax) throw tooLarge(file);
  return bytes;
}

/** Waits as long as it takes: whoever asked can stop it. That nothing comes means that what should have sent it failed. */
async function readStandardInput(): Promise<Uint8Array> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of process.stdin as AsyncIterable<Buffer>) {
    pieces.push(piece);
    length += piece.length;
    if (length > allowlistBytesMax) break;
  }
  if (length === 0) throw new Error(nothingWritten);
  return Buffer.concat(pieces);
}

function importedText(file: string, result: Imported): string {
  const { dryRun, total, added, removed, duplicates, covered } = result;
  const verb = dryRun ? "would be" : "were";
  const aggregated = [
    ...(duplicates > 0 ? [`${duplicates} duplicates`] : []),
    ...(covered > 0 ? [`${covered} covered by prefixes of the list`] : []),
  ];
  const how = aggregated.length > 0 ? ` (aggregated: ${aggregated.join(", ")})` : "";
  return `${file}: ${total} entries${how}; ${added} ${verb} added, ${removed} ${verb} removed${savedText(result)}`;
}

export async function add(socket: string, format: Format, entries: string[], options: EditOptions): Promise<void> {
  const path = `/api/v1/allowlist/entries?${parameters({ ...options })}`;
  const question = { method: "POST", body: { entries } } as const;
  const result = await ask<{ added: number; alreadyListed: number; total: number; saved?: string }>(
    socket,
    path,
    question,
  );
  const { added, alreadyListed, total } = result;
  print(format, result, () => `${added} added, ${alreadyListed} listed already; ${total} entries${savedText(result)}`);
}

export async function remove(socket: string, format: Format, entries: string[], save: boolean): Promise<void> {
  const question = { method: "DELETE", body: { entries } } as const;
  const path = `/api/v1/allowlist/entries?${parameters({ save })}`;
  const result = await ask<{ removed: number; total: number; saved?: string }>(socket, path, question);
  print(format, result, () => `${result.removed} removed; ${result.total} entries${savedText(result)}`);
}

export async function clear(socket: string, format: Format, options: EditOptions): Promise<void> {
  const path = `/api/v1/allowlist?${parameters({ ...options })}`;
  const result = await ask<{ removed: number; total: number; saved?: string }>(socket, path, { method: "DELETE" });
  print(format, result, () => `${result.removed} removed; the list is empty: nothing is allowed${savedText(result)}`);
}
