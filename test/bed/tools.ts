// The traffic tools (native/bench) as functions: vxgen, vxsink, vxbare, vxpingpong in a bed's namespaces.
// Called by the namespace tests, the bench and the demo, on Node's main thread.
import { join } from "node:path";

import { MAC, type Bed, type Place } from "./bed.js";
import { type Background, ROOT, run } from "./command.js";

const TOOLS = join(ROOT, "build/native/bench");

/** Where the tools are; they may have been built elsewhere. */
export function tool(name: string): string {
  return join(process.env["VX_TOOLS"] ?? TOOLS, name);
}

export const CLASSES = ["rule", "no_rule", "denied", "no_flag", "truncated", "ipv6", "other_vni"] as const;
export type TrafficClass = (typeof CLASSES)[number];
export type PerClass = Record<TrafficClass, number>;

/** Options of vxgen by their names there (`vxgen --help`), camel-cased. */
export interface Load {
  interface?: string;
  dstMac?: string;
  srcMac?: string;
  outerSource?: string;
  outerDestination?: string;
  port?: number;
  vni?: number;
  otherVni?: number;
  innerDstMac?: string;
  sources?: string;
  deniedSources?: string;
  destination?: string;
  ports?: string;
  otherPorts?: string;
  flows?: number;
  size?: number;
  dontFragment?: boolean;
  noChecksum?: boolean;
  mix?: Partial<PerClass>;
  count?: number;
  duration?: number;
  rate?: number;
  firstSequence?: number;
  cpu?: number;
  latency?: boolean;
  answers?: string;
}

export interface Sent {
  sent: number;
  generated: number;
  refused: number;
  seconds: number;
  /** Of these: ready to run while the CPU ran something else. */
  waitedSeconds: number;
  pps: number;
  innerBytes: number;
  frameBytes: number;
  flows: number;
  classes: PerClass;
}

function toArguments(options: object): string[] {
  const args: string[] = [];
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || value === false) continue;
    args.push(`--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`);
    if (value === true) continue;
    if (typeof value === "object") {
      args.push(
        Object.entries(value as Record<string, number>)
          .map(([name, weight]) => `${name}=${weight}`)
          .join(","),
      );
    } else {
      args.push(String(value));
    }
  }
  return args;
}

/** Sends a load, from the source if nothing else is said, and waits for its end. What it returns really left. */
export async function generate(bed: Bed, load: Load, place: Place = "source"): Promise<Sent> {
  const args = toArguments({ interface: "src0", dstMac: MAC.inside, ...load });
  const timeoutMs = ((load.duration ?? 1) + 60) * 1000;
  return JSON.parse(await bed.exec(place, tool("vxgen"), args, { timeoutMs })) as Sent;
}

/** Starts a load; `ended` resolves with its report. */
export function startLoad(bed: Bed, load: Load): { process: Background; ended: Promise<Sent> } {
  const process = bed.start("source", tool("vxgen"), toArguments({ interface: "src0", dstMac: MAC.inside, ...load }));
  const ended = process.exited.then((exit) => {
    const line = process.lines.at(-1);
    if (exit.code !== 0 || line === undefined) throw new Error(`vxgen: exit ${exit.code}: ${process.stderr.trim()}`);
    return JSON.parse(line) as Sent;
  });
  ended.catch(() => undefined);
  return { process, ended };
}

export interface Arrived {
  seconds: number;
  /** Generated packets, and their bytes as Ethernet frames. */
  packets: number;
  bytes: number;
  fragments: number;
  otherIp: number;
  neighbour: number;
  other: number;
  classes: PerClass;
  wrong: {
    class: number;
    destination: number;
    ipChecksum: number;
    udpChecksum: number;
    length: number;
    order: number;
    duplicate: number;
  };
  udpChecksums: { checked: number; zero: number };
  latency: { count: number; meanUs: number; p50Us: number; p99Us: number; maxUs: number } | null;
}

export interface SinkOptions {
  interface?: string;
  raw?: boolean;
  rule?: string;
  unchanged?: string;
  checkEvery?: number;
  noOrder?: boolean;
  flows?: number;
}

/** The far end: vxsink, on the target's interface if nothing else is said. */
export class Sink {
  private constructor(readonly process: Background) {}

  static async start(bed: Bed, options: SinkOptions = {}, place: Place = "target"): Promise<Sink> {
    const sink = new Sink(bed.start(place, tool("vxsink"), toArguments({ interface: "dst0", ...options })));
    await sink.process.nextLine();
    return sink;
  }

  async report(): Promise<Arrived> {
    this.process.send("report");
    return JSON.parse(await this.process.nextLine()) as Arrived;
  }

  async reset(): Promise<void> {
    this.process.send("reset");
    await this.process.nextLine();
  }

  /** Detaches; the last report. */
  async stop(): Promise<Arrived> {
    const exit = await this.process.stop();
    if (exit.code !== 0) throw new Error(`vxsink: exit ${exit.code}: ${this.process.stderr.trim()}`);
    return JSON.parse(this.process.lines.at(-1) ?? "") as Arrived;
  }
}

/** A bare XDP program in the gateway's place. */
export class Bare {
  private constructor(readonly process: Background) {}

  static async start(bed: Bed, kind: "redirect" | "drop" | "pass"): Promise<Bare> {
    const args = ["--inside", "in0", ...(kind === "redirect" ? ["--outside", "out0"] : [`--${kind}`])];
    const bare = new Bare(bed.start("gateway", tool("vxbare"), args));
    await bare.process.nextLine();
    return bare;
  }

  /** Detaches; how many it dropped. */
  async stop(): Promise<number> {
    const exit = await this.process.stop();
    if (exit.code !== 0) throw new Error(`vxbare: exit ${exit.code}: ${this.process.stderr.trim()}`);
    return (JSON.parse(this.process.lines.at(-1) ?? "") as { packets: number }).packets;
  }
}

/** A program that lets everything pass, with which a veth takes frames that were sent by XDP. */
export async function startPass(bed: Bed, place: Place, name: string): Promise<Background> {
  const pass = bed.start(place, tool("vxbare"), ["--inside", name, "--pass"]);
  await pass.nextLine();
  return pass;
}

/** Round trip of a cache line between two CPUs, nanoseconds. */
export async function pingPong(): Promise<{ bestNs: number; medianNs: number }> {
  return JSON.parse(await run(tool("vxpingpong"), [])) as { bestNs: number; medianNs: number };
}
