// All that operators and networks do to a running gateway, one thing after another at random: reloads, imports, edits,
// neighbours and routes that change, links that flap, people who watch. Called by soak.test.ts, on Node's main thread.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { ADDRESS, type Bed, MAC } from "../bed/bed.js";
import { sleep, until } from "../bed/command.js";
import { bedConfig, type Config, type Daemon, type Datapath, writeConfig } from "../bed/daemon.js";

export const VNI = 42;
/** On every list; what is denied is on none. */
export const ALLOWED = "10.0.0.1-10.0.3.254";
const SECOND_GATEWAY = { address: "172.30.82.96", mac: "02:00:00:00:02:96" };
/** No other rule ever has this port, which the load uses. */
export const RULE = `31765=${ADDRESS.target}:8081`;
const loadsRule = { protocol: "udp", port: 31765, to: `${ADDRESS.target}:8081` };

function addresses(first: number, count: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const value = first + index;
    return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
  });
}

export class Upheaval {
  /** What was done, for who wants to know what led to a failure. */
  readonly done: string[] = [];
  /** How often an interface was taken down whose receive ring loses what is in it. */
  readonly downs = { in0: 0, dst0: 0 };
  private edits = 0;

  constructor(
    private readonly bed: Bed,
    private readonly daemon: Daemon,
    private readonly datapath: Datapath,
    private readonly random: () => number,
  ) {}

  /** The files that lists are imported and loaded from. */
  static prepare(bed: Bed): void {
    const load = addresses(0x0a000000, 1024);
    const write = (name: string, lines: string[]): void =>
      writeFileSync(join(bed.directory, name), `${lines.join("\n")}\n`);
    write("small.txt", load);
    write("prefixes.txt", ["10.0.0.0/23", "10.0.2.0/23", "2001:db8::/32", ...addresses(0x0b000000, 500)]);
    write("large.txt", [...load, ...addresses(0x0c000000, 50_000)]);
  }

  static config(datapath: Datapath, list = "small.txt", rules: object[] = [], vnis: unknown[] = [VNI]): Config {
    return {
      datapath,
      inside: { interface: "in0", vxlan: { vnis, peers: ["0.0.0.0/0"] } },
      allowlist: { file: list, match: "source" },
      nat: { destination: [loadsRule, ...rules] },
    };
  }

  /** One thing, drawn by lot. */
  async next(): Promise<void> {
    const deeds: [string, () => Promise<unknown>][] = [
      ["reload", () => this.reload()],
      [
        "import",
        () => this.list("import", join(this.bed.directory, this.either("small.txt", "prefixes.txt", "large.txt"))),
      ],
      ["list edit", () => this.editList()],
      ["rule edit", () => this.editRule()],
      ["neighbour", () => this.changeNeighbour()],
      ["route", () => this.changeRoute()],
      ["far end flaps", () => this.flap("target", "dst0")],
      ["outside flaps", () => this.flap("gateway", "out0")],
      ["inside flaps", () => this.flap("gateway", "in0")],
      ["readers", () => this.read()],
    ];
    const [name, deed] = deeds[Math.floor(this.random() * deeds.length)] ?? assert.fail();
    this.done.push(name);
    await deed();
    await sleep(this.random() * 200);
  }

  /** As it was at the start, so that what there is can be compared. */
  async restore(): Promise<void> {
    await this.reloadWith(Upheaval.config(this.datapath));
    await this.bed.ip("gateway", `neigh replace ${ADDRESS.target} lladdr ${MAC.target} dev out0`);
    await this.routes();
  }

  private either<T>(...values: readonly T[]): T {
    return values[Math.floor(this.random() * values.length)] ?? assert.fail();
  }

  private number(below: number): number {
    return Math.floor(this.random() * below);
  }

  private list(...args: string[]): Promise<string> {
    return this.daemon.cli("allowlist", ...args);
  }

  private async reload(): Promise<void> {
    const rules = Array.from({ length: this.number(50) }, (_, index) => ({
      protocol: "udp",
      port: 20_000 + index,
      to: `${ADDRESS.target}:8081`,
    }));
    const list = this.either("small.txt", "prefixes.txt", "large.txt");
    await this.reloadWith(Upheaval.config(this.datapath, list, rules, this.either([VNI], [`1-${VNI}`, 5000])));
  }

  private async reloadWith(config: Config): Promise<void> {
    writeConfig(this.bed, bedConfig(this.bed, config));
    await this.daemon.cli("reload");
  }

  private async editList(): Promise<void> {
    const number = this.edits++;
    const address = `172.16.${(number >> 8) & 255}.${number & 255}`;
    await this.list("add", address, address.replace("172.16", "172.17"));
    await this.list("remove", address);
  }

  private async editRule(): Promise<void> {
    const key = ["--protocol", "udp", "--port", String(40_000 + (this.edits++ % 20_000))];
    await this.daemon.cli("nat", "rule", "add", ...key, "--to", `${ADDRESS.target}:8082`);
    if (this.random() < 0.7) await this.daemon.cli("nat", "rule", "remove", ...key);
  }

  private changeNeighbour(): Promise<void> {
    // Gone, it has to be resolved again, and the far end's kernel answers.
    const change = this.either(
      `neigh replace ${ADDRESS.target} lladdr ${SECOND_GATEWAY.mac} dev out0`,
      `neigh replace ${ADDRESS.target} lladdr ${MAC.target} dev out0`,
      `neigh del ${ADDRESS.target} dev out0`,
    );
    return this.bed.ip("gateway", change).catch(() => undefined);
  }

  private async changeRoute(): Promise<void> {
    const { address, mac } = SECOND_GATEWAY;
    await this.bed.ip(
      "gateway",
      `neigh replace ${address} lladdr ${mac} dev out0`,
      `route replace default via ${address}`,
    );
    if (this.random() < 0.3) await this.bed.ip("gateway", "route del default");
    await sleep(this.random() * 100);
    await this.routes();
  }

  /** What the kernel forgets with an interface. */
  private async routes(): Promise<void> {
    await this.bed.ip("gateway", `route replace default via ${ADDRESS.target}`);
    await this.bed.ip("target", `route replace default via ${ADDRESS.outside}`);
  }

  private async flap(place: "gateway" | "target", name: "in0" | "out0" | "dst0"): Promise<void> {
    if (name !== "out0") this.downs[name]++;
    await this.bed.ip(place, `link set ${name} down`);
    await sleep(this.random() * 50);
    await this.bed.ip(place, `link set ${name} up`);
    await this.routes();
  }

  private async read(): Promise<void> {
    await Promise.all([
      this.daemon.get("/metrics"),
      this.daemon.get("/api/v1/allowlist"),
      this.daemon.cli("stats"),
      this.daemon.cli("monitor", "-n", "1").catch(() => undefined),
    ]);
  }

  /** Packets can flow again. */
  async ready(): Promise<void> {
    await until("readiness", async () => ((await this.daemon.status("/readyz")) === 200 ? true : null), 20_000);
  }
}
