// The HTTP routes, the same on the Unix socket and on control.listen; changes are accepted on the socket only, whose file
// permissions say who may make them. Registered by server.ts; main thread.
import { Readable } from "node:stream";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Registry } from "prom-client";
import { allowlistBytesMax, type AllowlistLoader } from "../pipeline/allowlist/load.js";
import { VxpipeError } from "../pipeline/errors.js";
import type { Reload } from "../pipeline/lifecycle.js";
import type { Runtime } from "../pipeline/runtime.js";
import type { Saver } from "../pipeline/save.js";
import {
  addEntries,
  clearAllowlist,
  deleteRule,
  importAllowlist,
  type Imported,
  putRule,
  removeEntries,
  testAddress,
} from "./edits.js";
import { answerError } from "./answer-error.js";
import { addEvents } from "./follow.js";
import type { Imports } from "./import-progress.js";
import { listJson } from "./list-json.js";
import { receive } from "./receive.js";

/** More than a command line can hold. */
const entriesBytesMax = 16 * 1024 * 1024;

export interface Served {
  runtime: Runtime;
  loader: AllowlistLoader;
  imports: Imports;
  saver: Saver;
  reload: Reload;
  metrics: Registry;
  version: string;
}

export function addRoutes(server: FastifyInstance, served: Served, mayChange: boolean): void {
  const { runtime } = served;
  server.setErrorHandler(answerError);
  server.setNotFoundHandler((request) => {
    throw new VxpipeError("NOT_FOUND", `there is no ${request.method} ${request.url.split("?")[0] ?? ""}`);
  });
  server.get("/healthz", () => ({ status: "alive", pid: process.pid, version: served.version, phase: runtime.phase }));
  server.get("/readyz", (_request, reply) => {
    const missing = runtime.missing();
    return reply.code(missing.length === 0 ? 200 : 503).send({ ready: missing.length === 0, missing });
  });
  server.get("/metrics", async (_request, reply) => {
    return reply.type(served.metrics.contentType).send(await served.metrics.metrics());
  });
  server.get("/api/v1/stats", () => runtime.stats());
  server.get("/api/v1/workers", () => ({ workers: runtime.stats().workers }));
  server.get("/api/v1/rules", () => ({ rules: runtime.plan.rules }));
  addEvents(server, runtime, mayChange);
  addNat(server, runtime);
  server.get("/api/v1/allowlist", (_request, reply) => {
    return reply.type("application/json").send(Readable.from(listJson(runtime.plan)));
  });
  server.get("/api/v1/allowlist/imports", () => ({ imports: served.imports.list() }));
  server.get("/api/v1/allowlist/test", (request) => testAddress(runtime, query(request, "address")));
  addChanges(server, served, mayChange);
}

function addNat(server: FastifyInstance, runtime: Runtime): void {
  server.get("/api/v1/sessions", (request) => {
    const of = (name: string): string | null => optional(request, name);
    return runtime.nat.sessions({
      inside: of("inside"),
      outside: of("outside"),
      remote: of("remote"),
      protocol: of("protocol"),
      vni: of("vni"),
      limit: of("limit"),
      cursor: of("cursor"),
    });
  });
  server.get("/api/v1/nat/who", (request) =>
    runtime.nat.who(query(request, "outside"), optional(request, "protocol"), optional(request, "at")),
  );
  server.get("/api/v1/nat/pool", () => ({ addresses: runtime.nat.pool() }));
  server.get("/api/v1/nat/subscribers", (request) => runtime.nat.subscribers(optional(request, "limit")));
}

function addChanges(server: FastifyInstance, served: Served, mayChange: boolean): void {
  const { runtime } = served;
  const saverOf = (request: FastifyRequest): Saver | null => (flag(request, "save") ? served.saver : null);
  const guard = (): Promise<void> => {
    if (mayChange) return Promise.resolve();
    return Promise.reject(new VxpipeError("NOT_FROM_HERE", "this address is for reading only"));
  };
  // Read by the handler itself, as it comes.
  server.addContentTypeParser("application/octet-stream", (_request, body, done) => done(null, body));
  server.put("/api/v1/allowlist", { onRequest: guard }, (request) => importList(request, served));
  server.delete("/api/v1/allowlist", { onRequest: guard }, (request) =>
    clearAllowlist(runtime, flag(request, "enforce"), saverOf(request)),
  );
  server.post("/api/v1/allowlist/entries", { onRequest: guard, bodyLimit: entriesBytesMax }, (request) =>
    addEntries(runtime, entriesOf(request), flag(request, "enforce"), saverOf(request)),
  );
  server.delete("/api/v1/allowlist/entries", { onRequest: guard, bodyLimit: entriesBytesMax }, (request) =>
    removeEntries(runtime, entriesOf(request), saverOf(request)),
  );
  server.post("/api/v1/reload", { onRequest: guard }, (request) => served.reload(flag(request, "dryRun")));
  server.post("/api/v1/rules", { onRequest: guard }, (request) =>
    putRule(runtime, objectOf(request.body), saverOf(request)),
  );
  server.delete("/api/v1/rules", { onRequest: guard }, (request) =>
    deleteRule(runtime, objectOf(request.query), saverOf(request)),
  );
}

async function importList(request: FastifyRequest, { runtime, loader, imports, saver }: Served): Promise<Imported> {
  if (!(request.body instanceof Readable))
    throw new VxpipeError("REQUEST_INVALID", "the list comes as application/octet-stream");
  const options = {
    name: query(request, "name"),
    dryRun: flag(request, "dryRun"),
    enforce: flag(request, "enforce"),
    skipInvalid: flag(request, "skipInvalid"),
    save: flag(request, "save") ? saver : null,
  };
  const length = request.headers["content-length"];
  const expected = length === undefined ? null : Number(length);
  // Whoever asks for an import may name it, to ask how far it is.
  const given = objectOf(request.query)["id"];
  const id = typeof given === "string" && given !== "" ? given : request.id;
  const progress = imports.start(id);
  try {
    progress.at("receiving", 0, expected ?? 0);
    const text = await receive(request.body, expected, allowlistBytesMax, (bytes) => progress.at("receiving", bytes));
    return await importAllowlist(runtime, loader, text, options, progress);
  } finally {
    imports.end(id);
  }
}

function objectOf(value: unknown): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new VxpipeError("REQUEST_INVALID", "a JSON object is expected");
}

function query(request: FastifyRequest, name: string): string {
  const value = objectOf(request.query)[name];
  if (typeof value === "string" && value !== "") return value;
  throw new VxpipeError("REQUEST_INVALID", `the parameter ${name} is missing`);
}

function optional(request: FastifyRequest, name: string): string | null {
  const value = objectOf(request.query)[name];
  if (value === undefined || value === "") return null;
  if (typeof value === "string") return value;
  throw new VxpipeError("REQUEST_INVALID", `the parameter ${name} is there more than once`);
}

function flag(request: FastifyRequest, name: string): boolean {
  return objectOf(request.query)[name] === "true";
}

function entriesOf(request: FastifyRequest): string[] {
  const { entries } = objectOf(request.body);
  if (Array.isArray(entries) && entries.length > 0 && entries.every((entry) => typeof entry === "string"))
    return entries;
  throw new VxpipeError("REQUEST_INVALID", "entries must be a list of addresses or prefixes");
}
