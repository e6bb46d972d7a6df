// Asks the daemon over its Unix socket. Called by every command that needs one; main thread.
import { request, type IncomingMessage } from "node:http";
import { setTimeout } from "node:timers/promises";
import { isErrorCode, systemReason, VxpipeError, type Problem } from "../pipeline/errors.js";

export interface Question {
  method?: "GET" | "PUT" | "POST" | "DELETE";
  /** Sent as JSON. */
  body?: object;
  /** Sent as they are. */
  bytes?: Uint8Array;
}

/** A daemon that is alive answers what is quickly answered within this time, whatever else it has to do. */
const aliveMs = 5000;

/** Waits as long as the daemon is alive: an import or a reload may take its time. */
export async function ask<Answer>(socket: string, path: string, question: Question = {}): Promise<Answer> {
  const answered = new AbortController();
  const { signal } = answered;
  try {
    const { status, text } = await Promise.race([exchange(socket, path, question, signal), silence(socket, signal)]);
    return answerOf(socket, status, text) as Answer;
  } finally {
    answered.abort();
  }
}

/** Rejects when the daemon says nothing any more: stopped by a debugger, or stuck. */
async function silence(socketPath: string, signal: AbortSignal): Promise<never> {
  for (;;) {
    await setTimeout(aliveMs, null, { signal });
    const late = setTimeout(aliveMs, null, { signal });
    if ((await Promise.race([exchange(socketPath, "/healthz", {}, signal), late])) !== null) continue;
    const message = `the daemon on ${socketPath} does not answer; what it was asked it may still do`;
    throw new VxpipeError("DAEMON_UNREACHABLE", message);
  }
}

function answerOf(socket: string, status: number, text: string): unknown {
  let answer: unknown;
  try {
    answer = JSON.parse(text) as unknown;
  } catch {
    throw new VxpipeError("DAEMON_FAILED", `what answers on ${socket} is not a vxpipe daemon`);
  }
  if (status < 400) return answer;
  const { error } = (answer ?? {}) as { error?: { code?: string; message?: string; problems?: Problem[] } };
  const code = error?.code !== undefined && isErrorCode(error.code) ? error.code : "DAEMON_FAILED";
  throw new VxpipeError(code, error?.message ?? `the daemon answered ${status}`, { problems: error?.problems ?? [] });
}

function exchange(
  socketPath: string,
  path: string,
  question: Question,
  signal: AbortSignal,
): Promise<{ status: number; text: string }> {
  const payload = question.bytes ?? (question.body === undefined ? undefined : JSON.stringify(question.body));
  const type = question.bytes === undefined ? "application/json" : "application/octet-stream";
  const headers = payload === undefined ? {} : { "content-type": type, "content-length": Buffer.byteLength(payload) };
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, method: question.method ?? "GET", headers, signal }, (response) => {
      const pieces: Buffer[] = [];
      response.on("data", (piece: Buffer) => pieces.push(piece));
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 500, text: Buffer.concat(pieces).toString("utf8") }),
      );
      response.on("error", fail);
    });
    const fail = (error: Error): void => reject(unreachable(socketPath, error));
    asked.on("error", fail);
    asked.end(payload);
  });
}

/** The lines of an endless answer. Ends when the signal says so; that the daemon ends it, or goes away, is an error. */
export async function* follow(
  socketPath: string,
  path: string,
  signal: AbortSignal,
  opened: () => void,
): AsyncGenerator<string, void> {
  try {
    const response = await open(socketPath, path, signal);
    opened();
    let rest = "";
    for await (const piece of response.setEncoding("utf8") as AsyncIterable<string>) {
      const lines = `${rest}${piece}`.split("\n");
      rest = lines.pop() ?? "";
      yield* lines;
    }
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof VxpipeError) throw error;
    const message = `the daemon on ${socketPath} went away: ${systemReason(error)}`;
    throw new VxpipeError("DAEMON_UNREACHABLE", message, { cause: error });
  }
  if (!signal.aborted) throw new VxpipeError("DAEMON_UNREACHABLE", `the daemon on ${socketPath} has ended`);
}

/** An answer's beginning; one that is an error is thrown. */
function open(socketPath: string, path: string, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, signal }, (response) => {
      const status = response.statusCode ?? 500;
      if (status < 400) return resolve(response);
      let text = "";
      response.setEncoding("utf8").on("data", (piece: string) => (text += piece));
      response.on("error", reject);
      response.on("end", () => {
        try {
          answerOf(socketPath, status, text);
        } catch (error) {
          reject(error as Error);
        }
      });
    });
    asked.on("error", (error) => reject(unreachable(socketPath, error)));
    asked.end();
  });
}

function unreachable(socketPath: string, error: Error): VxpipeError {
  return new VxpipeError("DAEMON_UNREACHABLE", `no daemon answers on ${socketPath}: ${systemReason(error)}`, {
    cause: error,
  });
}

export function parameters(values: Record<string, string | number | boolean>): string {
  return new URLSearchParams(
    Object.entries(values).map(([key, value]): [string, string] => [key, String(value)]),
  ).toString();
}
