// /api/v1/events: what happened lately, or with follow=true a stream, one JSON object a line, of events and of sampled drops
// from now on. Registered by routes.ts; main thread.
//
// Samples are the socket's alone: they show packets' bytes, and the port answers whoever reaches it.
// Nor can those who do keep the operator from watching: theirs are portStreamsMax streams at most.
//
// A reader that is too slow costs at most bufferMax bytes here: what does not fit is left out, and it is told how much.
import type { ServerResponse } from "node:http";
import type { FastifyInstance } from "fastify";
import { VxpipeError } from "../pipeline/errors.js";
import { makeEvent, type Event } from "../pipeline/events.js";
import type { Runtime } from "../pipeline/runtime.js";
import { wantedOf, type Wanted } from "../pipeline/wanted.js";

/** What one round of samples can be, at most, so that nobody who reads misses a line. */
export const bufferMax = 1024 * 1024;
/** Half of what is served altogether (pipeline/watchers.ts). */
export const portStreamsMax = 8;

export function addEvents(server: FastifyInstance, runtime: Runtime, maySample: boolean): void {
  const streams = new Set<ServerResponse>();
  // No HEAD: it would be a stream that never says anything.
  server.get("/api/v1/events", { exposeHeadRoute: false }, (request, reply) => {
    const query = new URLSearchParams(request.url.split("?")[1] ?? "");
    if (query.get("follow") !== "true") return { events: runtime.events.list() };
    const wanted = wantedFrom(query, maySample);
    if (!maySample && wanted.drops)
      throw new VxpipeError("NOT_FROM_HERE", "samples of dropped packets are for readers of the socket only");
    if (!maySample && streams.size === portStreamsMax)
      throw new VxpipeError("TOO_MANY_WATCHERS", `${portStreamsMax} watch by this address already`);
    const follower = new Follower(reply.raw);
    const leave = runtime.watchers.add(wanted, (event) => follower.write(event));
    reply.hijack();
    reply.raw.writeHead(200, { "content-type": "application/x-ndjson", "cache-control": "no-store" }).flushHeaders();
    streams.add(reply.raw);
    reply.raw.on("close", () => {
      streams.delete(reply.raw);
      leave();
    });
    return reply;
  });
  // Ended, not cut off: a reader knows a daemon that went from one that was killed.
  server.addHook("preClose", (done) => {
    for (const stream of streams) stream.end();
    done();
  });
}

/** What is not said is all that may be had. */
function wantedFrom(query: URLSearchParams, maySample: boolean): Wanted {
  const [drops, reasons] = [query.get("drops") === "true", query.getAll("reason")];
  return wantedOf({
    events: query.get("events") === "true" || !(maySample || drops || reasons.length > 0),
    drops,
    reasons,
    rate: query.get("rate") ?? undefined,
  });
}

class Follower {
  private missed = 0;

  constructor(private readonly to: ServerResponse) {
    to.on("drain", () => this.tellMissed());
    // Gone without a word, which "close" tells as well.
    to.on("error", () => undefined);
  }

  write(event: Event): void {
    if (this.to.writableLength > bufferMax) {
      this.missed++;
      return;
    }
    this.tellMissed();
    this.to.write(`${JSON.stringify(event)}\n`);
  }

  private tellMissed(): void {
    if (this.missed === 0) return;
    const { missed } = this;
    this.missed = 0;
    const detail = `this reader is too slow: ${missed} lines were left out`;
    this.to.write(`${JSON.stringify(makeEvent("lines_missed", new Date().toISOString(), detail, { missed }))}\n`);
  }
}
