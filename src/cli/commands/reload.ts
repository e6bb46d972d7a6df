// `vxpipe reload`: has the daemon read its configuration again, as SIGHUP does, and says what came of it. Main thread.
import { printable } from "../../pipeline/errors.js";
import type { Coming } from "../../pipeline/runtime.js";
import { ask, parameters } from "../client.js";
import { print, type Format } from "../output.js";

export async function reload(socket: string, format: Format, dryRun: boolean): Promise<void> {
  const path = `/api/v1/reload?${parameters({ dryRun })}`;
  const coming = await ask<Coming>(socket, path, { method: "POST" });
  print(format, { dryRun, ...coming }, () => reloadText(coming, dryRun));
}

/** Edits carry the names of files, as whoever made them gave them. */
export function reloadText({ actions, dropped }: Coming, dryRun: boolean): string {
  const lines = [
    ...(actions.length === 0 ? ["nothing changes"] : actions),
    ...dropped.map((edit) => `${dryRun ? "drops" : "dropped"} an edit made at run time: ${printable(edit)}`),
  ];
  return lines.join("\n");
}
