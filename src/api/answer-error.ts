// What went wrong with a request, as the answer: one object, whatever it was (docs/ERRORS.md). Called by the servers and
// their routes; main thread.
import type { Socket } from "node:net";
import type { FastifyReply, FastifyRequest } from "fastify";
import { exit, VxpipeError } from "../pipeline/errors.js";

export function answerError(error: unknown, _request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const known = error instanceof VxpipeError ? error : requestError(error);
  return reply.code(statusOf(known)).send(bodyOf(known));
}

/** What is not HTTP, or too long or too slow to be read as such: there is no request that could be replied to. */
export function answerMalformed(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === "ECONNRESET" || socket.destroyed) return;
  const [status, message] = malformed[error.code ?? ""] ?? ["400 Bad Request", "this is not an HTTP request"];
  const body = JSON.stringify(bodyOf(new VxpipeError("REQUEST_INVALID", message)));
  const head = `HTTP/1.1 ${status}\r\nContent-Length: ${body.length}\r\nContent-Type: application/json\r\nConnection: close`;
  if (socket.writable) socket.end(`${head}\r\n\r\n${body}`);
  else socket.destroy();
}

const malformed: Record<string, [status: string, message: string] | undefined> = {
  HPE_HEADER_OVERFLOW: ["431 Request Header Fields Too Large", "the request's address and headers are too long"],
  ERR_HTTP_REQUEST_TIMEOUT: ["408 Request Timeout", "the request did not come in time"],
};

function bodyOf({ code, message, hint, problems }: VxpipeError): object {
  return { error: { code, message, hint, problems } };
}

function requestError(error: unknown): VxpipeError {
  const status = error instanceof Error && "statusCode" in error ? Number(error.statusCode) : 500;
  const message = error instanceof Error ? error.message : String(error);
  return new VxpipeError(status < 500 ? "REQUEST_INVALID" : "DAEMON_FAILED", message, { cause: error });
}

function statusOf(error: VxpipeError): number {
  if (error.code === "DAEMON_STARTING") return 503;
  if (error.code === "NOT_FROM_HERE") return 403;
  if (error.code === "DAEMON_FAILED" || error.code === "NATIVE_FAILED") return 500;
  if (error.exitCode === exit.usage) return 400;
  return error.exitCode === exit.notFound ? 404 : 409;
}
