// Asks the daemon over its Unix socket. Called by every command that needs one; main thread.
import { request } from "node:http";
import { isErrorCode, systemReason, VxpipeError, type Problem } from "../pipeline/errors.js";

export interface Question {
  method?: "GET" | "PUT" | "POST" | "DELETE";
  /** Sent as JSON. */
  body?: object;
  /** Sent as they are. */
  bytes?: Uint8Array;
}

export async function ask<Answer>(socket: string, path: string, question: Question = {}): Promise<Answer> {
  const { status, text } = await exchange(socket, path, question);
  let answer: unknown;
  try {
    answer = JSON.parse(text) as unknown;
  } catch {
    throw new VxpipeError("DAEMON_FAILED", `what answers on ${socket} is not a vxpipe daemon`);
  }
  if (status < 400) return answer as Answer;
  const { error } = answer as { error?: { code?: string; message?: string; problems?: Problem[] } };
  const code = error?.code !== undefined && isErrorCode(error.code) ? error.code : "DAEMON_FAILED";
  throw new VxpipeError(code, error?.message ?? `the daemon answered ${status}`, { problems: error?.problems ?? [] });
}

function exchange(socketPath: string, path: string, question: Question): Promise<{ status: number; text: string }> {
  const payload = question.bytes ?? (question.body === undefined ? undefined : JSON.stringify(question.body));
  const type = question.bytes === undefined ? "application/json" : "application/octet-stream";
  const headers = payload === undefined ? {} : { "content-type": type, "content-length": Buffer.byteLength(payload) };
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, method: question.method ?? "GET", headers }, (response) => {
      const pieces: Buffer[] = [];
      response.on("data", (piece: Buffer) => pieces.push(piece));
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 500, text: Buffer.concat(pieces).toString("utf8") }),
      );
      response.on("error", fail);
    });
    const fail = (error: Error): void => {
      reject(
        new VxpipeError("DAEMON_UNREACHABLE", `no daemon answers on ${socketPath}: ${systemReason(error)}`, {
          cause: error,
        }),
      );
    };
    asked.on("error", fail);
    asked.end(payload);
  });
}

export function parameters(values: Record<string, string | number | boolean>): string {
  return new URLSearchParams(
    Object.entries(values).map(([key, value]): [string, string] => [key, String(value)]),
  ).toString();
}
