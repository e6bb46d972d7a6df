// Executes a plan's actions: the only place of the control plane that changes anything in the kernel. Called by
// runtime.ts, one list of actions at a time, on the main thread.
import { rmdirSync } from "node:fs";
import { join } from "node:path";
import type { Attached, DatapathPlan, Gateway, TriedWay } from "xdp-socket";
import { readHostCpus, readInterfaceCpus } from "../injector/cpu-facts.js";
import { placeWorkers, type WorkerPlaces } from "../injector/placement.js";
import {
  chooseDatapath,
  nothingKnown,
  type Ability,
  type Choice,
  type Evidence,
  type Mode,
} from "../injector/datapath.js";
import type { Allowlist, Delta } from "./allowlist/edit.js";
import { parseAddress } from "./config/formats.js";
import { VxpipeError } from "./errors.js";
import type { Watched } from "./interface-watch.js";
import { fromNative, type Native } from "./native.js";
import { slotsBytes } from "./observe.js";
import type { Placement } from "./statistics.js";
import type { Action, Datapath } from "./plan.js";
import { compileRules } from "./rules.js";
import { refuseInsideAddresses, sourceNatAt, tunnelAddress, warnOfOutsideAddresses } from "./source-nat.js";

export class Applier {
  private made: Gateway | null = null;
  /** What runs, or ran. */
  placement: Placement = { choice: chooseDatapath("auto", nothingKnown), workerCpus: [] };
  /** What the trial of the outside interface has shown; null: this attempt made none. */
  tried: Pick<Evidence, "redirect" | "afxdpTx"> | null = null;
  /** What is worth knowing about the workers' CPUs. */
  placesWarning: string | null = null;
  /** And about the addresses they share. */
  poolWarning: string | null = null;
  attached: Attached | null = null;
  /** What the datapath was made for. */
  watched: readonly Watched[] = [];
  /** Counters of this run's datapath before, while there is none. */
  carried: Uint8Array | null = null;
  /** Of a datapath that has ended: vx_nat_record records nobody has read. */
  records: Uint8Array | null = null;
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
        return this.create(action.datapath, action.choice);
      case "tryOutside":
        return this.tryOutside();
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

  /** Whether the bpffs is a mount of ours, which goes with the last gateway on it. */
  get mounted(): boolean {
    return this.bpffs !== null && this.bpffs.mounted !== "";
  }

  private create(datapath: Datapath, choice: Choice): void {
    const { inside, outside, bpffs, workers, ...rest } = datapath;
    const { mode, insideAttach, outsideAttach, injection } = choice;
    const [insideIfindex, outsideIfindex] = this.ifindexes(inside, outside);
    const places = this.place(datapath, mode);
    const pinDirectory = join(bpffs, pinName(inside));
    // One mount for all gateways of this state.bpffs, a directory in it for each.
    this.bpffs = { pinDirectory, mounted: this.native.ensureBpffs(bpffs), bpffs };
    this.native.ensureBpffs(pinDirectory);
    const gateway = new this.native.Gateway({
      ...rest,
      ...this.sourceNat(datapath, places.cpus.length),
      datapath: mode,
      insideAttach,
      outsideAttach,
      injection,
      insideIfindex,
      outsideIfindex,
      pinDirectory,
      workers: { cpus: places.cpus, batch: workers.batch, busy: workers.busy, priority: workers.priority },
    });
    this.made = gateway;
    if (gateway.counters.byteLength !== slotsBytes) {
      throw new VxpipeError("ABI_MISMATCH", "the packet path and the control plane were built from different sources");
    }
    // Nothing counts yet: the packets of an attempt before this one stay in the ledger.
    if (this.carried !== null) new Uint8Array(gateway.counters).set(this.carried);
    this.tried = null;
    this.watched = [
      { side: "inside", name: inside, ifindex: insideIfindex },
      { side: "outside", name: outside, ifindex: outsideIfindex },
    ];
    this.placement = { choice, workerCpus: places.cpus, sourceNat: datapath.sourceNat !== null };
    this.placesWarning = places.warning;
  }

  private async tryOutside(): Promise<void> {
    const { redirect, afxdpTx } = await this.gateway.tryOutside();
    const known = ({ able, found }: TriedWay): Ability => ({ able, why: found });
    this.tried = { redirect: known(redirect), afxdpTx: known(afxdpTx) };
  }

  private place({ inside, outside, workers }: Datapath, mode: Mode): WorkerPlaces {
    const interfaces = [inside, outside].map((name) => readInterfaceCpus(name));
    const insideQueues = this.native.interfaceFacts(inside)?.rxQueues ?? 1;
    const sendAll = mode !== "xdp";
    // Where XDP sends there is one, for exceptions.
    const count = sendAll ? workers.count : 1;
    const { cpus, busy, priority } = workers;
    const wanted = { count, cpus, sendAll, keepCpus: busy && priority > 0 };
    return placeWorkers({ ...readHostCpus(), interfaces, insideQueues }, wanted);
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

  /** Source NAT with what only the host can tell of it: our end of the tunnels, shares. */
  private sourceNat(
    { inside, outside, sourceNat, ...datapath }: Datapath,
    workers: number,
  ): Pick<DatapathPlan, "sourceNat" | "local" | "decrementTtl"> {
    const { local, decrementTtl } = datapath;
    if (sourceNat === null) return { sourceNat, local, decrementTtl };
    const addresses = this.native.interfaceAddresses(inside);
    refuseInsideAddresses(sourceNat, inside, addresses);
    this.poolWarning = warnOfOutsideAddresses(sourceNat, outside, this.native.interfaceAddresses(outside));
    const vxlan = datapath.encapsulation === "vxlan";
    const ours = vxlan ? (local ?? parseAddress(tunnelAddress(inside, addresses))) : null;
    // What translates and does not count down may carry packets in circles for ever.
    return { local: ours, decrementTtl: true, sourceNat: sourceNatAt(sourceNat, workers) };
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

  /** Detaches, for another attempt: its counters go on where these ended. */
  async leave(): Promise<void> {
    if (this.made === null) return;
    this.carried = await this.stop(slotsBytes);
  }

  /** Detaches and returns the final counters. */
  async stop(bytes: number): Promise<Uint8Array> {
    const into = this.carried === null ? new Uint8Array(bytes) : new Uint8Array(this.carried);
    try {
      this.records = (await this.made?.stop(into)) ?? null;
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
