// Network namespaces of a test bed, by what stands for each place in it: commands run there, interfaces and sysctls of
// theirs, a directory and a bpffs of their own.
//
// Nothing of it touches the host's own interfaces. Everything is removed by `remove()`, on exit and on the
// usual signals; what a killed process left is swept when the next bed is made. The beds (bed.ts, nat-bed.ts) are made
// of it, on Node's main thread.
import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { Background, run, type RunOptions } from "./command.js";
import { makeBedDirectory, removeBed, sweepStaleBeds } from "./remains.js";

export class Namespaces<Place extends string> {
  readonly directory: string;
  readonly name: string;
  /** A bpffs outside /sys, which `ip netns exec` would hide: pins survive the daemon. */
  readonly bpffs: string;
  readonly #background = new Set<Background>();
  readonly #onExit = (): void => removeBed(this.name, this.directory);
  readonly #onSignal = (signal: NodeJS.Signals): void => {
    this.#onExit();
    process.exit(128 + (signal === "SIGINT" ? 2 : 15));
  };

  protected constructor() {
    sweepStaleBeds();
    ({ name: this.name, directory: this.directory } = makeBedDirectory());
    this.bpffs = join(this.directory, "bpffs");
    process.on("exit", this.#onExit);
    process.on("SIGINT", this.#onSignal);
    process.on("SIGTERM", this.#onSignal);
  }

  namespace(place: Place): string {
    return `${this.name}-${place}`;
  }

  /** Runs a command in a namespace to its end. */
  exec(place: Place, command: string, args: readonly string[] = [], options: RunOptions = {}): Promise<string> {
    return run("ip", ["netns", "exec", this.namespace(place), command, ...args], options);
  }

  /** Starts a command in a namespace; it is killed with the bed at the latest. */
  start(place: Place, command: string, args: readonly string[] = []): Background {
    const background = new Background("ip", ["netns", "exec", this.namespace(place), command, ...args]);
    this.#background.add(background);
    void background.exited.finally(() => this.#background.delete(background)).catch(() => undefined);
    return background;
  }

  /** `ip` with several commands at once. */
  async ip(place: Place, ...commands: string[]): Promise<void> {
    await run("ip", ["-n", this.namespace(place), "-batch", "-"], { input: `${commands.join("\n")}\n` });
  }

  async sysctl(place: Place, settings: Record<string, number | string>): Promise<void> {
    const pairs = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
    await this.exec(place, "sysctl", ["-qw", ...pairs]);
  }

  /** Frames an interface sent and received, as its driver counts them. */
  async traffic(place: Place, name: string): Promise<{ sent: number; received: number }> {
    const text = await run("ip", ["-n", this.namespace(place), "-s", "-j", "link", "show", "dev", name]);
    const [link] = JSON.parse(text) as [{ stats64: { tx: { packets: number }; rx: { packets: number } } }];
    return { sent: link.stats64.tx.packets, received: link.stats64.rx.packets };
  }

  /** Transmit checksums, segmentation and receive aggregation of one interface. */
  async offloads(place: Place, name: string, on: boolean): Promise<void> {
    const value = on ? "on" : "off";
    const features = ["tx", "tso", "gso", "gro"].flatMap((feature) => [feature, value]);
    await this.exec(place, "ethtool", ["-K", name, ...features]);
  }

  /** Ends what runs in the bed and removes it. */
  async remove(): Promise<void> {
    const ending = [...this.#background].map((background) => background.stop("SIGKILL"));
    await Promise.allSettled(ending);
    removeBed(this.name, this.directory);
    process.off("exit", this.#onExit);
    process.off("SIGINT", this.#onSignal);
    process.off("SIGTERM", this.#onSignal);
  }

  protected async mountBpffs(): Promise<void> {
    mkdirSync(this.bpffs);
    await run("mount", ["-t", "bpf", "bpf", this.bpffs]);
  }

  /** A new namespace that says nothing by itself. */
  protected async addNamespace(place: Place, ipv6 = false): Promise<void> {
    await run("ip", ["netns", "add", this.namespace(place)]);
    const off = ipv6 ? 0 : 1;
    await this.sysctl(place, {
      "net.ipv6.conf.all.disable_ipv6": off,
      "net.ipv6.conf.default.disable_ipv6": off,
      "net.ipv6.conf.default.accept_dad": 0,
      "net.ipv6.conf.default.router_solicitations": 0,
      "net.ipv4.conf.all.rp_filter": 0,
      "net.ipv4.conf.default.rp_filter": 0,
    });
    await this.ip(place, "link set lo up");
  }
}
