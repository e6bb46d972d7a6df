// Raw frames into the source's interface and out of the target's, as functions; the sockets live in processes of
// wire.py. Called by the namespace tests, on Node's main thread.
import { join } from "node:path";

import type { Bed, Place } from "../bed/bed.js";
import { type Background, ROOT, until } from "../bed/command.js";
import { tool } from "../bed/tools.js";

/** Debian's own Python: another one on PATH would not have scapy. */
export const PYTHON = "/usr/bin/python3";
const WIRE = join(ROOT, "test/netns/wire.py");

/** The kernel of the gateway speaks too: neighbour discovery, answers to what was passed to it. */
const OWN_SOURCES = ["192.0.2.2", "172.30.82.1"].map((text) => Buffer.from(text.split(".").map(Number)));

/** Whether a frame is the gateway's own talk with its neighbours, and so none of the ledger's. */
export function isNeighbourTalk(frame: Buffer): boolean {
  const type = frame.readUInt16BE(12);
  if (type === 0x0800) return OWN_SOURCES.some((address) => frame.subarray(26, 30).equals(address));
  if (type !== 0x86dd) return true;
  const source = frame.subarray(22, 38);
  const linkLocal = source.readUInt16BE(0) === 0xfe80;
  const unspecified = source.every((byte) => byte === 0);
  // 2001:db8:1::2 and 2001:db8:2::1
  const own = ["20010db8000100000000000000000002", "20010db8000200000000000000000001"].includes(source.toString("hex"));
  return linkLocal || unspecified || own;
}

export class RawSender {
  private constructor(private readonly process: Background) {}

  static start(bed: Bed, name = "src0", place: Place = "source"): RawSender {
    return new RawSender(bed.start(place, PYTHON, [WIRE, "send", name]));
  }

  /** Sends every frame of a capture; how many. */
  async send(file: string): Promise<number> {
    this.process.send(file);
    return (JSON.parse(await this.process.nextLine()) as { sent: number }).sent;
  }
}

export class Collector {
  private constructor(
    private readonly process: Background,
    private readonly pass: Background,
  ) {}

  /** Listens at the far end, whose driver takes redirected frames only while a program is there. */
  static async start(bed: Bed, name = "dst0", place: Place = "target"): Promise<Collector> {
    const pass = bed.start(place, tool("vxbare"), ["--inside", name, "--pass"]);
    await pass.nextLine();
    // The program brought aggregation along, and what was put together is not what arrived.
    await bed.exec(place, "ethtool", ["-K", name, "gro", "off"]);
    const collector = new Collector(bed.start(place, PYTHON, [WIRE, "collect", name]), pass);
    await collector.process.nextLine();
    return collector;
  }

  async stop(): Promise<void> {
    await this.process.stop();
    await this.pass.stop();
  }

  /** What came in since the last call, without the talk between neighbours. */
  async take(): Promise<Buffer[]> {
    this.process.send("take");
    const { frames } = JSON.parse(await this.process.nextLine()) as { frames: string[] };
    return frames.map((hex) => Buffer.from(hex, "hex")).filter((frame) => !isNeighbourTalk(frame));
  }

  /** Collects until so many frames are there, or long enough: the caller compares. */
  async collect(count: number): Promise<Buffer[]> {
    const frames: Buffer[] = [];
    const all = async (): Promise<true | null> => {
      frames.push(...(await this.take()));
      return frames.length >= count ? true : null;
    };
    await until(`${count} frames`, all).catch(() => undefined);
    return frames;
  }
}
