// Executes a plan's actions: the only place of the control plane that changes anything in the kernel. Called by
// runtime.ts, one list of actions at a time, on the main thread.
import { rmdirSync } from "node:fs";
import { join } from "node:path";
import type { Attached, Gateway } from "xdp-socket";
import { readHostCpus, readInterfaceCpus } from "../injector/cpu-facts.js";
import { placeWorkers, type WorkerPlaces } from "../injector/placement.js";
import type { Allowlist, Delta } from "./allowlist/edit.js";
import { VxpipeError } from "./errors.js";
import { fromNative, type Native } from "./native.js";
import { slotsBytes } from "./observe.js";
import type { Placement } from "./statistics.js";
import type { Action, Datapath } from "./plan.js";
import { compileRules } from "./rules.js";

export class Applier {
  private made: Gateway | null = null;
  /** What runs, or ran. */
  placement: Placement = { mode: "xdp", workerCpus: [] };
  /** What is worth knowing about the workers' CPUs. */
  placesWarning: string | null = null;
  attached: Attached | null = null;
  private bpffs: { pinDirectory: string; mounted: string; bpffs: string } | null = null;

  constructor(
    private readonly native: Native,
    private readonly setLogLevel: (level: string) => void,
  ) {}

  get gateway(): Gateway {
    if (this.made === null) throw new VxpipeError("DAEMON_STARTING", "the packet path is not there yet");
    return this.made;
  }

  get exists(): boolean {
    return this.made !== null;
  }

  async apply(action: Action): Promise<void> {
    try {
      await this.execute(action);
    } catch (error) {
      throw fromNative(error);
    }
  }

  private async execute(action: Action): Promise<void> {
    switch (action.do) {
      case "create":
        return this.create(action.datapath);
      case "setAllowlist":
        return this.setAllowlist(action.allowlist);
      case "editAllowlist":
        return this.editAllowlist(action.allowlist, action.delta);
      case "setRules":
        return this.gateway.setRules(compileRules(action.rules));
      case "setFilters":
        return this.gateway.setFilters(action.vnis, action.peers);
      case "attach":
        this.attached = this.gateway.attach();
        return;
      case "setLogLevel":
        return this.setLogLevel(action.level);
      case "needsRestart":
        return;
    }
  }

  private create(datapath: Datapath): void {
    const { inside, outside, bpffs, workers, ...rest } = datapath;
    const [insideIfindex, outsideIfindex] = this.ifindexes(inside, outside);
    const places = this.place(datapath);
    const pinDirectory = join(bpffs, pinName(inside));
    // One mount for all gateways of this state.bpffs, a directory in it for each.
    this.bpffs = { pinDirectory, mounted: this.native.ensureBpffs(bpffs), bpffs };
    this.native.ensureBpffs(pinDirectory);
    const gateway = new this.native.Gateway({
      ...rest,
      insideIfindex,
      outsideIfindex,
      pinDirectory,
      workers: { cpus: places.cpus, batch: workers.batch, busy: workers.busy },
    });
    this.made = gateway;
    if (gateway.counters.byteLength !== slotsBytes) {
      throw new VxpipeError("ABI_MISMATCH", "the packet path and the control plane were built from different sources");
    }
    this.placement = { mode: rest.datapath, workerCpus: places.cpus };
    this.placesWarning = places.warning;
  }

  private place({ inside, outside, workers, datapath }: Datapath): WorkerPlaces {
    const interfaces = [inside, outside].map((name) => readInterfaceCpus(name));
    const insideQueues = this.native.interfaceFacts(inside)?.rxQueues ?? 1;
    // Where XDP sends there is one, for exceptions.
    const count = datapath === "xdp" ? 1 : workers.count;
    return placeWorkers(
      { ...readHostCpus(), interfaces, insideQueues },
      { count, cpus: workers.cpus, sendAll: datapath !== "xdp" },
    );
  }

  private setAllowlist(allowlist: Allowlist | null): Promise<void> {
    return this.gateway.setAllowlist(allowlist === null ? null : allowlist.compiled);
  }

  private async editAllowlist(allowlist: Allowlist, { added, removed }: Delta): Promise<void> {
    try {
      await this.gateway.editAllowlist(added, removed);
    } catch {
      // The tables have room for so many edits; then larger ones take their place.
      await this.setAllowlist(allowlist);
    }
  }

  private ifindexes(inside: string, outside: string): [number, number] {
    const [first, second] = [inside, outside].map((name) => {
      const facts = this.native.interfaceFacts(name);
      if (facts === null) throw new VxpipeError("INTERFACE_MISSING", `there is no interface ${name}`);
      return facts.ifindex;
    }) as [number, number];
    if (first !== second) return [first, second];
    throw new VxpipeError("INTERFACE_SAME", `${inside} and ${outside} are the same interface`);
  }

  /** Detaches and returns the final counters. */
  async stop(bytes: number): Promise<Uint8Array> {
    const into = new Uint8Array(bytes);
    try {
      await this.made?.stop(into);
    } catch (error) {
      throw fromNative(error);
    } finally {
      this.made = null;
      this.leaveBpffs();
    }
    return into;
  }

  /** Another gateway's pins keep directories and mount. */
  private leaveBpffs(): void {
    if (this.bpffs === null) return;
    const { pinDirectory, mounted, bpffs } = this.bpffs;
    this.bpffs = null;
    removeIfEmpty(pinDirectory);
    // Whoever leaves last: its maker may have been killed, or have ended earlier. The directory is in the mount, or the
    // mount is on the directory.
    removeIfEmpty(bpffs);
    if (mounted !== "") this.native.releaseBpffs(mounted);
    removeIfEmpty(bpffs);
  }
}

function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // Somebody else's pins are in it.
  }
}

/** A bpffs reserves names with dots, which VLAN interfaces have; no interface name has a colon. */
export function pinName(name: string): string {
  return name.replaceAll(".", ":");
}
