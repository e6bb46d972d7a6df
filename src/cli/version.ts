// The version, from package.json, the one place that has it. Called by commands; main thread.
import { readFileSync } from "node:fs";

export function version(): string {
  // From dist/src/cli/ as from an installed package.
  const manifest = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  return manifest.version;
}
