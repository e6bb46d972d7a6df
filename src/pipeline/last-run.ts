// What the last run on an inside interface left in state.directory: whether it ended cleanly, when, and its final
// statistics. Written at start and at exit by the daemon, on the main thread.
import { readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemReason, VxpipeError } from "./errors.js";
import type { Statistics } from "./statistics.js";

export interface LastRun {
  pid: number;
  startedAt: string;
  /** null: it is running, or was killed. */
  endedAt: string | null;
  /** null: as above. */
  statistics: Statistics | null;
}

/** Interfaces of two network namespaces may have one name, and their gateways one state.directory. */
export function networkNamespace(): string {
  return /\d+/.exec(readlinkSync("/proc/self/ns/net"))?.[0] ?? "";
}

function pathOf(directory: string, inside: string): string {
  return join(directory, `last-run-${inside}-${networkNamespace()}.json`);
}

/** null: none, or not readable as one. */
export function readLastRun(directory: string, inside: string): LastRun | null {
  try {
    return JSON.parse(readFileSync(pathOf(directory, inside), "utf8")) as LastRun;
  } catch {
    return null;
  }
}

/** Whole or not at all: a reader never sees half of it. */
export function writeLastRun(directory: string, inside: string, run: LastRun): void {
  const path = pathOf(directory, inside);
  try {
    writeFileSync(`${path}.new`, `${JSON.stringify(run, null, 2)}\n`, { mode: 0o600 });
    renameSync(`${path}.new`, path);
  } catch (error) {
    rmSync(`${path}.new`, { force: true });
    throw new VxpipeError("STATE_UNWRITABLE", `${path}: ${systemReason(error)}`, { cause: error });
  }
}
