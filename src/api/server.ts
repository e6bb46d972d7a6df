// The two listeners: the Unix socket of the command line and the read-only HTTP port. Made by the run command before
// anything in the kernel changes, so that a second daemon fails early; main thread. Without the socket nobody could manage
// the gateway, so there it ends; without the port packets flow all the same, so that is said and tried again.
import { chmodSync, lstatSync, unlinkSync } from "node:fs";
import { request } from "node:http";
import { connect, isIP } from "node:net";
import { dirname } from "node:path";
import { fastify, type FastifyInstance, type FastifyRequest } from "fastify";
import { parseEndpoint } from "../pipeline/config/formats.js";
import { systemReason, VxpipeError } from "../pipeline/errors.js";
import { makeDirectory } from "../pipeline/make-directory.js";
import { answerError, answerMalformed } from "./answer-error.js";
import { addRoutes, type Served } from "./routes.js";

const socketMode = 0o660;
const retryMs = 5_000;

/** Descriptors are the whole daemon's: those who may only read must not take the socket's. */
export const portConnectionsMax = 256;
const portRequestMs = 30_000;

function makeServer(served: Served, mayChange: boolean): FastifyInstance {
  const server = fastify({
    logger: false,
    forceCloseConnections: true,
    requestTimeout: mayChange ? 0 : portRequestMs,
    frameworkErrors: answerError,
    clientErrorHandler: answerMalformed,
  });
  addRoutes(server, served, mayChange);
  return server;
}

export async function listenSocket(path: string, served: Served): Promise<FastifyInstance> {
  await claimPath(path);
  const server = makeServer(served, true);
  // Created with its final permissions: there is no moment at which anybody may connect.
  const umask = process.umask(0o777 & ~socketMode);
  try {
    await server.listen({ path });
    chmodSync(path, socketMode);
  } catch (error) {
    throw new VxpipeError("SOCKET_UNUSABLE", `control.socket ${path}: ${systemReason(error)}`, { cause: error });
  } finally {
    process.umask(umask);
  }
  return server;
}

/** The HTTP port, as soon as it can be had. */
export class Port {
  private server: FastifyInstance | null = null;
  private timer: NodeJS.Timeout | null = null;
  private trying: Promise<void> = Promise.resolve();

  private constructor(
    private readonly listen: string,
    private readonly served: Served,
    private readonly waitMs: number,
  ) {}

  static async open(listen: string, served: Served, waitMs: number = retryMs): Promise<Port> {
    const port = new Port(listen, served, waitMs);
    await port.attempt(true);
    return port;
  }

  async close(): Promise<void> {
    if (this.timer !== null) clearTimeout(this.timer);
    await this.trying;
    if (this.timer !== null) clearTimeout(this.timer);
    await this.server?.close();
  }

  private async attempt(first: boolean): Promise<void> {
    const { events } = this.served.runtime;
    const endpoint = parseEndpoint(this.listen);
    // A server that could not listen cannot try again.
    const server = makeServer(this.served, false);
    const host = endpoint?.host ?? "127.0.0.1";
    server.server.maxConnections = portConnectionsMax;
    if (isLoopback(host)) server.addHook("onRequest", refuseNames);
    try {
      await server.listen({ host, port: endpoint?.port ?? 0 });
      this.server = server;
      if (!first) events.emit("http_available", `control.listen ${this.listen} answers now`);
    } catch (error) {
      await server.close();
      this.timer = setTimeout(() => (this.trying = this.attempt(false)), this.waitMs).unref();
      const text = `control.listen ${this.listen}: ${systemReason(error)}; packets and the socket are not affected`;
      if (first) events.emit("http_unavailable", `${text}, it is tried again every ${this.waitMs / 1000} s`);
    }
  }
}

function isLoopback(host: string): boolean {
  return host.startsWith("127.") || host === "::1";
}

/** A page in somebody's browser may have its own name lead here (DNS rebinding), and read what is for this host. */
async function refuseNames({ headers: { host = "" } }: FastifyRequest): Promise<void> {
  const name = host.replace(/:\d*$/, "").toLowerCase();
  if (name === "localhost" || isIP(name.replace(/^\[(.*)\]$/, "$1")) !== 0) return;
  throw new VxpipeError(
    "NOT_FROM_HERE",
    `on a loopback address this answers to IP addresses and localhost, not to "${name}"`,
  );
}

/** A socket that nobody answers on is left from a killed daemon and goes; a live daemon is named. */
async function claimPath(path: string): Promise<void> {
  try {
    makeDirectory(dirname(path), 0o755);
    const stats = lstatSync(path, { throwIfNoEntry: false });
    if (stats === undefined) return;
    if (!stats.isSocket())
      throw new VxpipeError("SOCKET_UNUSABLE", `control.socket ${path}: it is there and not a socket`);
    if (await answers(path)) {
      const pid = await pidBehind(path);
      const who = pid === null ? "another program" : `a vxpipe daemon (pid ${pid})`;
      throw new VxpipeError("DAEMON_RUNNING", `${who} answers on ${path}`);
    }
    unlinkSync(path);
  } catch (error) {
    if (error instanceof VxpipeError) throw error;
    throw new VxpipeError("SOCKET_UNUSABLE", `control.socket ${path}: ${systemReason(error)}`, { cause: error });
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      // Somebody listens, and has not come to those who wait: a daemon that is stopped.
      if (error.code === "EAGAIN") resolve(true);
      else if (error.code === "ECONNREFUSED" || error.code === "ENOENT") resolve(false);
      else reject(error);
    });
  });
}

function pidBehind(path: string): Promise<number | null> {
  return new Promise((resolve) => {
    const asked = request({ socketPath: path, path: "/healthz", timeout: 2000 }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (piece: string) => (body += piece));
      response.on("end", () => resolve(pidOf(body)));
    });
    asked.once("timeout", () => asked.destroy());
    asked.once("error", () => resolve(null));
    asked.end();
  });
}

function pidOf(body: string): number | null {
  try {
    const { pid } = JSON.parse(body) as { pid?: unknown };
    return typeof pid === "number" ? pid : null;
  } catch {
    return null;
  }
}
