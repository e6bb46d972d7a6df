// The addon, loaded when the daemon needs it: checking a configuration and asking a daemon work without it.
// Called by lifecycle.ts and apply.ts, on the main thread.
import { constants } from "node:os";
import { isErrorCode, systemReason, VxpipeError } from "./errors.js";

export type Native = typeof import("xdp-socket");

export async function loadNative(): Promise<Native> {
  try {
    return await import("xdp-socket");
  } catch (error) {
    const first = systemReason(error).split("\n")[0] ?? "";
    throw new VxpipeError("ADDON_MISSING", `the packet path (xdp_socket.node) cannot be loaded: ${first}`, {
      cause: error,
    });
  }
}

/** The detail says why, except with the worker's sockets: there it says where, and only the message names the error. */
function described(error: Error, code: string, detail: string): string {
  if (detail === "" || code === "WORKER_FAILED" || !("op" in error)) return error.message;
  return `${String(error.op)}: ${detail}`;
}

/** `op`: claim the inside interface, or the outside one. */
function heldText(op: string, holder: string): string {
  return `another daemon has ${op.replace(/^claim /, "")}: ${holder}`;
}

/** An error of the addon as one of ours. */
export function fromNative(error: unknown): unknown {
  if (!(error instanceof Error) || !("op" in error) || !("code" in error)) return error;
  const code = String(error.code);
  const detail = "detail" in error ? String(error.detail) : "";
  if ("errno" in error && error.errno === constants.errno.EMFILE) {
    return new VxpipeError("TOO_MANY_FILES", `${String(error.op)}: too many open files`, { cause: error });
  }
  const message = code === "INTERFACE_HELD" ? heldText(String(error.op), detail) : described(error, code, detail);
  return new VxpipeError(isErrorCode(code) ? code : "NATIVE_FAILED", message, { cause: error });
}
