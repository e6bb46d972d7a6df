// Shows how far an import is while the command line waits for it: asked of the daemon, on standard error, drawn in place on
// a terminal, else a line whenever the daemon has come to something else. Called by commands/allowlist.ts; main thread.
import { setTimeout } from "node:timers/promises";
import type { ImportState } from "../api/import-progress.js";
import { ask } from "./client.js";
import type { Format } from "./output.js";

const pollMs = 100;

export async function withProgress<Value>(
  socket: string,
  format: Format,
  id: string,
  wanted: boolean,
  work: Promise<Value>,
): Promise<Value> {
  if (!wanted) return work;
  const drawn = process.stderr.isTTY && !format.json;
  const end = (): true => true;
  const ended = work.then(end, end);
  let last = "";
  do {
    const state = await stateOf(socket, id);
    if (state !== null && (drawn || state.phase !== last)) show(format, drawn, state);
    last = state?.phase ?? last;
  } while (!(await Promise.race([ended, setTimeout(pollMs, false)])));
  if (drawn) process.stderr.write("\r\x1b[K");
  return work;
}

/** null: it has not begun, or is over. */
async function stateOf(socket: string, id: string): Promise<ImportState | null> {
  try {
    const { imports } = await ask<{ imports: ({ id: string } & ImportState)[] }>(socket, "/api/v1/allowlist/imports");
    return imports.find((one) => one.id === id) ?? null;
  } catch {
    // The import itself says what is wrong.
    return null;
  }
}

function show(format: Format, drawn: boolean, { phase, done, total }: ImportState): void {
  if (format.json) {
    process.stderr.write(`${JSON.stringify({ progress: { phase, done, total } })}\n`);
    return;
  }
  const text = progressText({ phase, done, total });
  process.stderr.write(drawn ? `\r\x1b[K${text}` : `${text}\n`);
}

export function progressText({ phase, done, total }: ImportState): string {
  const number = total.toLocaleString("en-US");
  if (phase === "comparing") return `comparing ${number} entries with the list in force`;
  if (phase === "filling") return `filling the kernel's tables with ${number} entries`;
  const percent = total === 0 ? 100 : Math.floor((100 * done) / total);
  return `${phase} ${number} bytes: ${percent} %`;
}
