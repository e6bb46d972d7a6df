// Makes a directory and its parents. Called by preflight.ts and the socket's listener, on the main thread.
//
// Not mkdirSync's `recursive`: where a parent exists and refuses with ENOENT, as /proc does, Node 20 tries for ever.
import { mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";

export function makeDirectory(path: string, mode: number): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return;
  const parent = dirname(path);
  if (parent !== path) makeDirectory(parent, mode);
  mkdirSync(path, { mode });
}
