// The gateway daemon in a bed's gateway namespace: configured, started, asked, stopped or killed, and checked
// for what it left behind. Called by the namespace tests, the bench and the demo, on Node's main thread.
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";

import { type Background, type Exit, ROOT, run, until } from "./command.js";
import type { Namespaces } from "./namespaces.js";
import { bpfObjects, type BpfObjects, bpfObjectsOf, survivors } from "./remains.js";

/** A bed with a gateway. */
type Bed = Namespaces<"gateway">;

const COMMAND = join(ROOT, "bin/vxpipe");

export interface DirectionStats {
  received: number;
  forwarded: number;
  unreported: number;
  injected: number;
  passed: number;
  pending: number;
  dropped: Record<string, number>;
}

export interface Work {
  received: number;
  forwarded: number;
  dropped: number;
}

export interface Stats {
  datapath: { mode: string; attach: string; zeroCopy: boolean };
  inside: DirectionStats;
  outside: DirectionStats;
  originated: number;
  fragmentsExtra: number;
  workers: { id?: number; role: string; cpu: number; packets: number; pps: number; work: Work }[];
}

export type Config = Record<string, unknown>;

/** What is the same whoever sends is tested with each. */
export const DATAPATHS = ["xdp", "afxdp", "ringbuf"] as const;
export type Datapath = (typeof DATAPATHS)[number];
/** Those in which workers send everything. */
export const WORKER_DATAPATHS = ["afxdp", "ringbuf"] as const;

/** A configuration for this bed: `overrides` replaces whole sections. */
export function bedConfig(bed: Bed, overrides: Config = {}): Config {
  return {
    version: 1,
    inside: { interface: "in0", vxlan: { port: 4789, vnis: "any" } },
    outside: { interface: "out0", nextHop: "auto" },
    datapath: "xdp",
    control: { listen: "127.0.0.1:9470", socket: join(bed.directory, "vxpipe.sock") },
    state: { directory: join(bed.directory, "state"), bpffs: join(bed.bpffs, "vxpipe") },
    ...overrides,
  };
}

/** Writes a configuration (JSON is YAML) and returns its path. */
export function writeConfig(bed: Bed, config: Config, name = "vxpipe.yaml"): string {
  const file = join(bed.directory, name);
  writeFileSync(file, `${JSON.stringify(config, null, 2)}\n`);
  return file;
}

export function balance(direction: DirectionStats): number {
  const dropped = Object.values(direction.dropped).reduce((sum, count) => sum + count, 0);
  return direction.received - direction.forwarded - direction.passed - dropped - direction.pending;
}

export class Daemon {
  #objects: BpfObjects = { programs: new Set(), maps: new Set(), links: new Set() };

  private constructor(
    readonly bed: Bed,
    readonly process: Background,
    readonly socket: string,
    readonly pinDirectory: string,
  ) {}

  /** Starts the daemon and returns when packets can flow, or throws what it said. */
  static async start(bed: Bed, overrides: Config = {}, readyMs = 20_000): Promise<Daemon> {
    const daemon = Daemon.launch(bed, overrides);
    await daemon.ready(readyMs);
    return daemon;
  }

  /** Starts the daemon without waiting. */
  static launch(bed: Bed, overrides: Config = {}): Daemon {
    const file = writeConfig(bed, bedConfig(bed, overrides));
    return Daemon.adopt(bed, bed.start("gateway", COMMAND, ["run", "--config", file]), overrides);
  }

  /** A daemon that was started in another way, with this configuration. */
  static adopt(bed: Bed, process: Background, overrides: Config = {}): Daemon {
    const config = bedConfig(bed, overrides);
    const { socket } = config["control"] as { socket: string };
    const { bpffs } = config["state"] as { bpffs: string };
    const { interface: inside } = config["inside"] as { interface: string };
    return new Daemon(bed, process, socket, join(bpffs, inside));
  }

  async ready(timeoutMs = 20_000): Promise<void> {
    await until(
      "readiness of the daemon",
      async () => {
        if (this.process.exit !== null) {
          throw new Error(`the daemon ended (${this.process.exit.code}): ${this.process.stderr.trim()}`);
        }
        return (await this.status("/readyz").catch(() => 0)) === 200 ? true : null;
      },
      timeoutMs,
    );
    this.#objects = bpfObjectsOf(this.process.pid);
  }

  async status(path: string): Promise<number> {
    return (await this.#fetch(path)).status;
  }

  /** Body of a GET over the daemon's Unix socket. */
  async get(path: string): Promise<string> {
    const { status, body } = await this.#fetch(path);
    if (status !== 200) throw new Error(`GET ${path}: ${status} ${body}`);
    return body;
  }

  /** The counters over HTTP: quick, for live rates. */
  async peek(): Promise<Stats> {
    return JSON.parse(await this.get("/api/v1/stats")) as Stats;
  }

  /** The counters as an operator reads them. */
  async stats(): Promise<Stats> {
    return JSON.parse(await this.cli("stats", "-o", "json")) as Stats;
  }

  /** The counters once nothing is pending any more. */
  async settledStats(timeoutMs = 10_000): Promise<Stats> {
    return until(
      "pending packets of the gateway to be forwarded or dropped",
      async () => {
        const stats = await this.stats();
        return stats.inside.pending === 0 && stats.outside.pending === 0 ? stats : null;
      },
      timeoutMs,
    );
  }

  /** Any command of the CLI against this daemon. */
  cli(...args: string[]): Promise<string> {
    return run(COMMAND, ["--socket", this.socket, ...args]);
  }

  /** The kernel's number of one of the daemon's maps. */
  async mapId(name: string): Promise<number> {
    const maps = await bpfObjects("map");
    const ours = bpfObjectsOf(this.process.pid).maps;
    const found = maps.find((map) => map.name === name && ours.has(map.id));
    if (found === undefined) throw new Error(`the daemon has no map ${name}`);
    return found.id;
  }

  stop(signal: NodeJS.Signals = "SIGTERM"): Promise<Exit> {
    return this.process.stop(signal);
  }

  kill(): Promise<Exit> {
    return this.process.stop("SIGKILL");
  }

  /** After an orderly stop: everything that is still there and should not be. */
  async leftovers(): Promise<string[]> {
    const left = await survivors(this.#objects);
    if (existsSync(this.pinDirectory)) {
      left.push(...readdirSync(this.pinDirectory).map((pin) => `pin ${pin}`));
      left.push(`directory ${this.pinDirectory}`);
    }
    if (existsSync(`/proc/${this.process.pid}`)) left.push(`process ${this.process.pid}`);
    if (existsSync(this.socket)) left.push(`socket ${this.socket}`);
    return left;
  }

  #fetch(path: string): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      const call = request({ socketPath: this.socket, path, timeout: 5_000 }, (response) => {
        let body = "";
        response.setEncoding("utf8").on("data", (text: string) => {
          body += text;
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
      });
      call.on("timeout", () => call.destroy(new Error(`no answer to GET ${path}`)));
      call.on("error", reject);
      call.end();
    });
  }
}
