// How the command line speaks: results on standard output, messages on standard error, JSON when asked. Main thread.
import { printable, problemLine, systemReason, VxpipeError } from "../pipeline/errors.js";

export interface Format {
  json: boolean;
}

export function print(format: Format, value: unknown, text: () => string): void {
  process.stdout.write(format.json ? `${JSON.stringify(value)}\n` : `${text()}\n`);
}

export function note(format: Format, text: string): void {
  if (!format.json) process.stderr.write(`vxpipe: ${text}\n`);
}

/** Where a saved edit went. */
export function savedText({ saved }: { saved?: string }): string {
  return saved === undefined ? "" : `; saved to ${saved}`;
}

/** Whoever does not read on has seen enough; output that is lost for another reason is an error. */
export function watchOutput(format: Format): void {
  process.stderr.on("error", () => undefined);
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") return;
    const message = `standard output: ${systemReason(error)}`;
    process.exitCode = fail(format, new VxpipeError("OUTPUT_UNWRITABLE", message, { cause: error }));
  });
}

/** Says what failed; returns the exit code. */
export function fail(format: Format, error: unknown): number {
  const known =
    error instanceof VxpipeError ? error : new VxpipeError("DAEMON_FAILED", messageOf(error), { cause: error });
  const { code, message, hint, problems } = known;
  if (format.json) {
    process.stderr.write(`${JSON.stringify({ error: { code, message, hint, problems } })}\n`);
  } else if (problems.length > 0) {
    process.stderr.write(problems.map((problem) => `${problemLine(problem)}\n`).join(""));
    if (problems.length > 20) process.stderr.write(`vxpipe: ${message}\n`);
  } else {
    process.stderr.write(`vxpipe: ${known === error ? printable(message) : message}\n  ${hint}\n`);
  }
  return known.exitCode;
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Not one of ours, so a defect: where it happened matters more than brevity.
  return error.stack ?? error.message;
}
