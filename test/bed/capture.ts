// What an interface really carried: tcpdump in a bed's namespace, its file parsed, TCP streams put together
// again. Called by the namespace tests and the demo, on Node's main thread.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { type Background, until } from "./command.js";
import type { Namespaces } from "./namespaces.js";

/** Ethernet frames of a pcap file in host byte order, as tcpdump writes it; a last one may be half written. */
export function readPcap(file: string): Buffer[] {
  const bytes = readFileSync(file);
  const frames: Buffer[] = [];
  for (let at = 24; at + 16 <= bytes.length;) {
    const length = bytes.readUInt32LE(at + 8);
    if (at + 16 + length > bytes.length) break;
    frames.push(bytes.subarray(at + 16, at + 16 + length));
    at += 16 + length;
  }
  return frames;
}

export class Capture {
  private constructor(
    readonly process: Background,
    readonly file: string,
  ) {}

  /** Starts capturing what matches the filter; the interface's XDP program sees packets first. */
  static async start<Place extends string>(
    bed: Namespaces<Place>,
    place: Place,
    name: string,
    filter: string,
  ): Promise<Capture> {
    // The snap length also sizes the slots of tcpdump's ring: as long as a frame here can be, no longer.
    const file = join(bed.directory, `${place}-${name}-${process.hrtime.bigint()}.pcap`);
    const args = [
      "-Z",
      "root",
      "-i",
      name,
      "-n",
      "-U",
      "-s",
      "4096",
      "-B",
      "32768",
      "--immediate-mode",
      "-w",
      file,
      filter,
    ];
    const capture = new Capture(bed.start(place, "tcpdump", args), file);
    await until("tcpdump to listen", async () => {
      if (capture.process.exit !== null) throw new Error(`tcpdump: ${capture.process.stderr.trim()}`);
      return capture.process.stderr.includes("listening on") ? true : null;
    });
    return capture;
  }

  /** Waits until the end of a TCP conversation with this endpoint was captured. */
  async conversationEnd(destination: string): Promise<void> {
    await until("the end of the conversation to arrive", async () => {
      const segments = readPcap(this.file).map(parseTcp);
      return segments.some((segment) => segment?.fin && segment.destination === destination) ? true : null;
    });
  }

  /** The frames captured; fails when the kernel had to drop any. */
  async stop(): Promise<Buffer[]> {
    await this.process.stop("SIGINT");
    const dropped = /(\d+) packets dropped by kernel/.exec(this.process.stderr);
    if (dropped && dropped[1] !== "0") throw new Error(`tcpdump lost ${dropped[1]} packets`);
    return readPcap(this.file);
  }
}

export interface TcpSegment {
  source: string;
  destination: string;
  sequence: number;
  syn: boolean;
  fin: boolean;
  payload: Buffer;
}

const dotted = (bytes: Buffer): string => [...bytes].join(".");

/** A TCP segment in an Ethernet frame with IPv4, or null. Endpoints are "address:port". */
export function parseTcp(frame: Buffer): TcpSegment | null {
  const ip = frame.subarray(14);
  if (frame.length < 54 || frame.readUInt16BE(12) !== 0x0800 || ip[9] !== 6) return null;
  const tcp = ip.subarray(((ip[0] ?? 0) & 15) * 4, ip.readUInt16BE(2));
  return {
    source: `${dotted(ip.subarray(12, 16))}:${tcp.readUInt16BE(0)}`,
    destination: `${dotted(ip.subarray(16, 20))}:${tcp.readUInt16BE(2)}`,
    sequence: tcp.readUInt32BE(4),
    syn: ((tcp[13] ?? 0) & 2) !== 0,
    fin: ((tcp[13] ?? 0) & 1) !== 0,
    payload: tcp.subarray(((tcp[12] ?? 0) >> 4) * 4),
  };
}

/** The byte stream that went to one endpoint, put together from its segments; stops at the first hole. */
export function reassemble(frames: readonly Buffer[], destination: string): { bytes: number; digest: string } {
  const segments = frames.map(parseTcp).filter((segment) => segment?.destination === destination) as TcpSegment[];
  const start = segments.find((segment) => segment.syn);
  if (!start) return { bytes: 0, digest: "" };
  const offset = (segment: TcpSegment): number => (segment.sequence - start.sequence - 1) >>> 0;
  const ordered = segments.filter((segment) => segment.payload.length > 0).sort((a, b) => offset(a) - offset(b));
  const digest = createHash("sha256");
  let next = 0;
  for (const segment of ordered) {
    const at = offset(segment);
    if (at > next) break;
    if (at + segment.payload.length <= next) continue; // sent again
    const fresh = segment.payload.subarray(next - at);
    digest.update(fresh);
    next += fresh.length;
  }
  return { bytes: next, digest: digest.digest("hex") };
}
