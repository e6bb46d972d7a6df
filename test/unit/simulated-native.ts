// The addon's seam, kept in memory: for tests of what stands above it, without a kernel.
import { setImmediate } from "node:timers/promises";
import type { Attached, CompiledAllowlist, DatapathPlan, NativeEvent, Snapshot } from "xdp-socket";
import type { Native } from "../../src/pipeline/native.js";
import { slotsBytes } from "../../src/pipeline/observe.js";
import { vxSlot } from "../../src/pipeline/abi.gen.js";

export class SimulatedGateway {
  readonly calls: string[] = [];
  allowlist: CompiledAllowlist | null = null;
  rules = new Uint8Array();
  counters = new ArrayBuffer(slotsBytes);
  events: NativeEvent[] = [];
  state: Snapshot = {
    insideCarrier: true,
    outsideCarrier: true,
    outsideMtu: 1500,
    attached: false,
    workerAlive: true,
    workerWaiting: 0,
    routes: 2,
    nextHops: [],
  };

  constructor(readonly plan: DatapathPlan) {}

  async setAllowlist(list: CompiledAllowlist | null): Promise<void> {
    this.calls.push("setAllowlist");
    // The real one fills kernel tables on another thread: others get their turn meanwhile.
    await setImmediate();
    this.allowlist = list;
  }

  setRules(rules: Uint8Array): void {
    this.calls.push("setRules");
    this.rules = new Uint8Array(rules);
  }

  attach(): Attached {
    this.calls.push("attach");
    this.state.attached = true;
    return { attach: "native", tookOver: false, crashLost: [0, 0] };
  }

  drainEvents(): NativeEvent[] {
    return this.events.splice(0);
  }

  snapshot(): Snapshot {
    return this.state;
  }

  settle(): Promise<void> {
    return Promise.resolve();
  }

  stop(into: Uint8Array): Promise<void> {
    this.calls.push("stop");
    into.set(new Uint8Array(this.counters));
    this.counters = new ArrayBuffer(0);
    return Promise.resolve();
  }

  /** Adds to a counter by its offset in the slot. */
  count(slot: number, offset: number, value: number): void {
    const view = new DataView(this.counters);
    const at = slot * vxSlot.bytes + offset;
    view.setBigUint64(at, view.getBigUint64(at, true) + BigInt(value), true);
  }
}

export interface Simulation {
  native: Native;
  gateways: SimulatedGateway[];
}

export function simulate(): Simulation {
  const gateways: SimulatedGateway[] = [];
  const native = {
    Gateway: class extends SimulatedGateway {
      constructor(plan: DatapathPlan) {
        super(plan);
        gateways.push(this);
      }
    },
    interfaceFacts: (name: string) => {
      if (!/^(in|out)0$/.test(name)) return null;
      const ifindex = name === "in0" ? 2 : 3;
      return { ifindex, mac: "02:00:00:00:00:01", mtu: 1500, driver: "simulated", carrier: true, rxQueues: 1 };
    },
    ensureBpffs: () => "",
    releaseBpffs: () => undefined,
    hasCapability: () => true,
    keepCapabilities: () => undefined,
  };
  return { native: native as unknown as Native, gateways };
}
