// What the bench compares: each a gateway in a test bed of its own, so that the runs can be interleaved.
// Called by measure.ts, on Node's main thread.
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { ADDRESS, Bed, MAC } from "../test/bed/bed.js";
import type { Background } from "../test/bed/command.js";
import { type Config, Daemon, type DATAPATHS } from "../test/bed/daemon.js";
import { Bare, Sink, tool } from "../test/bed/tools.js";
import { threadsOf } from "./threads.js";

/** 324 inner sources, all on the allowlist. */
export const SOURCES = "10.0.0.1-10.0.0.254,10.0.1.1-10.0.1.70";
export const RULE_PORT = 31765;
export const RULE_TARGET = `${ADDRESS.target}:8081`;
const INNER_MAC = "02:00:00:00:00:aa";

export function allowedSources(): string[] {
  const range = (third: number, last: number): string[] =>
    Array.from({ length: last }, (_, index) => `10.0.${third}.${index + 1}`);
  return [...range(0, 254), ...range(1, 70)];
}

export interface Gateway {
  readonly name: string;
  readonly cores: number;
  readonly bed: Bed;
  readonly sink: Sink;
  /** Threads that carry packets, once it has begun. */
  readonly workerThreads?: number[];
  /** Makes it ready for a throughput run (or a latency run) right now. */
  begin(purpose: "load" | "latency"): Promise<void>;
  end(): Promise<void>;
}

type Purpose = Parameters<Gateway["begin"]>[0];

/** Does it while that runs. */
export async function during<T>(
  gateway: Pick<Gateway, "begin" | "end">,
  work: () => Promise<T>,
  purpose: Purpose = "load",
): Promise<T> {
  await gateway.begin(purpose);
  try {
    return await work();
  } finally {
    await gateway.end();
  }
}

/** Where a gateway runs. Those that are compared to the nanosecond share one. */
export interface Place {
  bed: Bed;
  sink: Sink;
}

/** How packets arrive: translated by the rule, unchanged, or (raw) still encapsulated. */
export type Arrives = "translated" | "unchanged" | "raw";

/** A far end that expects them so; one in so many has its UDP checksum verified. */
export async function expecting(bed: Bed, arrives: Arrives, checkEvery = 1024): Promise<Place> {
  const sink = await Sink.start(bed, {
    raw: arrives === "raw",
    noOrder: true,
    flows: 1,
    checkEvery,
    rule: `${RULE_PORT}=${arrives === "translated" ? RULE_TARGET : `${ADDRESS.beyond}:${RULE_PORT}`}`,
  });
  return { bed, sink };
}

export async function makeBed(arrives: Arrives): Promise<Place> {
  return expecting(await Bed.make({ staticNeighbours: true }), arrives);
}

function nftRules(kind: "conntrack" | "stateless"): string {
  const translate =
    kind === "conntrack"
      ? `type nat hook prerouting priority dstnat; policy accept; udp dport ${RULE_PORT} dnat to ${RULE_TARGET};`
      : `type filter hook prerouting priority raw; policy accept;
         udp dport ${RULE_PORT} ip daddr set ${ADDRESS.target} udp dport set 8081 notrack;`;
  return `table ip vx {
    set allowed { type ipv4_addr; elements = { ${allowedSources().join(", ")} } }
    chain translate { ${translate} }
    chain filtering { type filter hook forward priority filter; policy drop;
      ip saddr @allowed accept; ip daddr @allowed accept; }
  }\n`;
}

/** The kernel's own way: vxlan device, forwarding, nftables; on one core, or with RPS behind the vxlan device on two. */
export class KernelGateway implements Gateway {
  #pass: Bare | null = null;

  private constructor(
    readonly name: string,
    readonly cores: number,
    readonly bed: Bed,
    readonly sink: Sink,
  ) {}

  static async make(
    kind: "conntrack" | "stateless" | "forward",
    place?: Place,
  ): Promise<[KernelGateway, KernelGateway]> {
    const { bed, sink } = place ?? (await makeBed(kind === "forward" ? "unchanged" : "translated"));
    await bed.ip(
      "gateway",
      `link add vx1 type vxlan id 1 local ${ADDRESS.inside} dstport 4789 dev in0 nolearning`,
      `link set vx1 address ${INNER_MAC} up`,
    );
    await bed.sysctl("gateway", { "net.ipv4.ip_forward": 1, "net.ipv4.conf.vx1.rp_filter": 0 });
    await bed.offloads("gateway", "in0", false);
    if (kind !== "forward") await bed.exec("gateway", "nft", ["-f", "-"], { input: nftRules(kind) });
    const name = `kernel-${kind}`;
    return [new KernelGateway(name, 1, bed, sink), new KernelGateway(name, 2, bed, sink)];
  }

  async begin(purpose: "load" | "latency"): Promise<void> {
    // RPS on the vxlan device, towards the second core only, is the faster of the ways to give it two.
    const mask = this.cores === 1 ? "0" : "2";
    await this.bed.exec("gateway", "sh", ["-c", `echo ${mask} > /sys/class/net/vx1/queues/rx-0/rps_cpus`]);
    // A veth takes XDP frames only with GRO or a program; the program costs the kernel less. Single packets need neither.
    if (purpose === "load") this.#pass = await Bare.start(this.bed, "pass");
  }

  async end(): Promise<void> {
    await this.#pass?.stop();
    this.#pass = null;
  }
}

/** A program that does no more than redirect (or drop): the ceiling. */
export class BareGateway implements Gateway {
  readonly cores = 1;
  #bare: Bare | null = null;
  dropped = 0;

  private constructor(
    readonly name: string,
    readonly kind: "redirect" | "drop",
    readonly bed: Bed,
    readonly sink: Sink,
  ) {}

  static async make(kind: "redirect" | "drop", place?: Place): Promise<BareGateway> {
    const { bed, sink } = place ?? (await makeBed("raw"));
    return new BareGateway(`bare-${kind}`, kind, bed, sink);
  }

  async begin(): Promise<void> {
    this.#bare = await Bare.start(this.bed, this.kind);
  }

  async end(): Promise<void> {
    this.dropped = (await this.#bare?.stop()) ?? 0;
    this.#bare = null;
  }
}

export const STAGES = ["parse", "decapsulate", "count", "check"] as const;

/** The inside program's steps up to one of them (native/bench/ladder.bpf.c), with the ledger's tracepoints or without. */
export class StageGateway implements Gateway {
  readonly cores = 1;
  /** By itself, once it has ended: of the stages that count, and only where there is a ledger forwarded ones too. */
  counted = { received: 0, redirected: 0, forwarded: 0 };
  readonly name: string;
  readonly bed: Bed;
  readonly sink: Sink;
  #process: Background | null = null;

  constructor(
    place: Place,
    readonly stage: (typeof STAGES)[number],
    readonly ledger: boolean,
  ) {
    this.name = `stage-${stage}${ledger ? "-ledger" : ""}`;
    this.bed = place.bed;
    this.sink = place.sink;
  }

  async begin(): Promise<void> {
    const args = ["--inside", "in0", "--outside", "out0", "--stage", this.stage, ...(this.ledger ? ["--ledger"] : [])];
    this.#process = this.bed.start("gateway", tool("vxbare"), args);
    await this.#process.nextLine();
  }

  async end(): Promise<void> {
    const process = this.#process;
    this.#process = null;
    const exit = await process?.stop();
    if (exit && exit.code !== 0) throw new Error(`${this.name}: exit ${exit.code}: ${process?.stderr.trim()}`);
    this.counted = JSON.parse(process?.lines.at(-1) ?? "") as StageGateway["counted"];
  }
}

/** What stands in user space by itself, with a thread on the second core. */
abstract class PeerGateway implements Gateway {
  abstract readonly name: string;
  readonly cores = 2;
  #process: Background | null = null;

  protected constructor(
    readonly bed: Bed,
    readonly sink: Sink,
    readonly command: string,
    readonly options: readonly string[] = [],
  ) {}

  get workerThreads(): number[] {
    return this.#process ? [this.#process.pid] : [];
  }

  async begin(): Promise<void> {
    const wires = ["--inside", "in0", "--outside", "out0", "--next-hop", MAC.target, "--cpu", "1"];
    this.#process = this.bed.start("gateway", tool(this.command), [...wires, ...this.options]);
    await this.#process.nextLine();
  }

  async end(): Promise<void> {
    await this.#process?.stop();
    this.#process = null;
  }
}

/** The classic injector: ring buffer on the first core, one sendto a packet on the second. */
export class ClassicGateway extends PeerGateway {
  readonly name = "classic-sendto";

  static async make(place?: Place): Promise<ClassicGateway> {
    const { bed, sink } = place ?? (await makeBed("translated"));
    const [address = "", port = ""] = RULE_TARGET.split(":");
    const rule = ["--port", String(RULE_PORT), "--to-address", address, "--to-port", port];
    return new ClassicGateway(bed, sink, "vxclassic", ["--allowed", SOURCES, ...rule]);
  }
}

/** AF_XDP in and out with nothing in between: what afxdp's latency is held against. */
export class PlainGateway extends PeerGateway {
  readonly name = "plain-afxdp";

  static async make(place?: Place): Promise<PlainGateway> {
    const { bed, sink } = place ?? (await makeBed("unchanged"));
    return new PlainGateway(bed, sink, "vxplain");
  }
}

export interface Features {
  allowlist: boolean;
  rule: boolean;
}

const EVERYTHING: Features = { allowlist: true, rule: true };

/** Ours: by XDP alone on one core, or with the worker on a second one. */
export class ProductGateway implements Gateway {
  readonly cores: number;
  daemon: Daemon | null = null;

  private constructor(
    readonly name: string,
    readonly bed: Bed,
    readonly sink: Sink,
    readonly features: Features,
    readonly datapath: (typeof DATAPATHS)[number],
  ) {
    this.cores = datapath === "xdp" ? 1 : 2;
  }

  static async make(name = "xdp", features: Features = EVERYTHING, place?: Place): Promise<ProductGateway> {
    const { bed, sink } = place ?? (await makeBed(features.rule ? "translated" : "unchanged"));
    writeFileSync(join(bed.directory, "allowed.txt"), `${allowedSources().join("\n")}\n`);
    return new ProductGateway(name, bed, sink, features, "xdp");
  }

  /** The same with the worker sending everything. */
  static async makeWorker(datapath: "afxdp" | "ringbuf"): Promise<ProductGateway> {
    const { bed, sink } = await ProductGateway.make();
    return new ProductGateway(datapath, bed, sink, EVERYTHING, datapath);
  }

  get workerThreads(): number[] {
    return this.daemon && this.cores > 1 ? threadsOf(this.daemon.process.pid, "vx-") : [];
  }

  async begin(purpose: "load" | "latency"): Promise<void> {
    const overrides: Config = {
      inside: { interface: "in0", vxlan: { port: 4789, vnis: [1] } },
      datapath: this.datapath,
    };
    if (purpose === "latency") overrides["workers"] = { polling: "busy" };
    if (this.features.allowlist) overrides["allowlist"] = { file: "allowed.txt", match: "either" };
    if (this.features.rule) overrides["nat"] = { destination: [{ protocol: "udp", port: RULE_PORT, to: RULE_TARGET }] };
    this.daemon = await Daemon.start(this.bed, overrides);
  }

  async end(): Promise<void> {
    const exit = await this.daemon?.stop();
    if (exit && exit.code !== 0) throw new Error(`the daemon ended with ${exit.code}: ${this.daemon?.process.stderr}`);
    this.daemon = null;
  }
}
