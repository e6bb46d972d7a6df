// The addon's seam, kept in memory: for tests of what stands above it, without a kernel.
import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import type {
  Attached,
  CompiledAllowlist,
  DatapathPlan,
  Gateway,
  NatHandoff,
  NativeEvent,
  NatSessionFilter,
  Snapshot,
  Trial,
} from "xdp-socket";
import { empty, shapes, sortTable, tableNames } from "../../src/pipeline/allowlist/table.js";
import type { Native } from "../../src/pipeline/native.js";
import { slotsBytes } from "../../src/pipeline/observe.js";
import { vxSlot } from "../../src/pipeline/abi.gen.js";

export class SimulatedGateway {
  readonly calls: string[] = [];
  allowlist: CompiledAllowlist | null = null;
  rules = new Uint8Array();
  filters: { vnis: Uint32Array | null; peers: Uint8Array | null } | null = null;
  /** Calls that fail the next time. */
  readonly failing = new Set<string>();
  counters = new ArrayBuffer(slotsBytes);
  events: NativeEvent[] = [];
  /** vx_sample records. */
  samples: Uint8Array[] = [];
  /** How many samples of a reason were asked for, each time. */
  sampled: number[] = [];
  /** Of attach. */
  refusal: Error | null = null;
  trial: Trial = {
    redirect: { able: true, found: "the driver took a redirected frame" },
    afxdpTx: { able: true, found: "the driver took a frame sent by AF_XDP TX" },
    frames: 2,
  };
  state: Snapshot = {
    insideCarrier: true,
    outsideCarrier: true,
    outsideMtu: 1500,
    attached: false,
    workersAlive: true,
    waiting: 0,
    routes: 2,
    nextHops: [],
  };

  constructor(readonly plan: DatapathPlan) {}

  async setAllowlist(list: CompiledAllowlist | null): Promise<void> {
    this.calls.push("setAllowlist");
    // The real one fills kernel tables on another thread: others get their turn meanwhile.
    await setImmediate();
    if (this.failing.delete("setAllowlist")) throw nativeError("MAP_FAILED");
    this.allowlist = list;
  }

  async editAllowlist(added: CompiledAllowlist, removed: CompiledAllowlist): Promise<void> {
    this.calls.push("editAllowlist");
    await setImmediate();
    if (this.failing.delete("editAllowlist")) throw nativeError("MAP_FAILED");
    const list = this.allowlist ?? assert.fail("no list is in force");
    this.allowlist = changed(list, added, removed);
  }

  async setRules(rules: Uint8Array): Promise<void> {
    this.calls.push("setRules");
    await setImmediate();
    this.rules = new Uint8Array(rules);
    // As the real one: a failure may leave some of it changed.
    if (this.failing.delete("setRules")) throw nativeError("MAP_FAILED");
  }

  async setFilters(vnis: Uint32Array | null, peers: Uint8Array | null): Promise<void> {
    this.calls.push("setFilters");
    await setImmediate();
    this.filters = { vnis, peers };
    if (this.failing.delete("setFilters")) throw nativeError("MAP_FAILED");
  }

  tryOutside(): Promise<Trial> {
    this.calls.push("tryOutside");
    return Promise.resolve(this.trial);
  }

  attach(): Attached {
    this.calls.push("attach");
    if (this.refusal !== null) throw this.refusal;
    this.state.attached = true;
    return { tookOver: false, crashLost: null };
  }

  drainEvents(): NativeEvent[] {
    return this.events.splice(0);
  }

  drainSamples(most: number): Uint8Array {
    this.sampled.push(most);
    return Buffer.concat(this.samples.splice(0));
  }

  snapshot(): Snapshot {
    return this.state;
  }

  settle(): Promise<void> {
    return Promise.resolve();
  }

  stop(into: Uint8Array): Promise<Uint8Array> {
    this.calls.push("stop");
    into.set(new Uint8Array(this.counters));
    this.counters = new ArrayBuffer(0);
    return Promise.resolve(Buffer.concat(this.records));
  }

  /** vx_nat_record, one each. */
  records: Uint8Array[] = [];
  private recordsRead = 0;
  sessions: Uint8Array[] = [];
  asked: NatSessionFilter[] = [];
  subscribers = new Uint8Array();
  pool = { addresses: new Uint8Array(), freeBlocks: new Uint32Array() };

  natRecords(most: number): Uint8Array {
    this.recordsRead = Math.min(this.records.length, most);
    return Buffer.concat(this.records.slice(0, most));
  }

  natRecordsDone(): void {
    this.records.splice(0, this.recordsRead);
    this.recordsRead = 0;
  }

  natSessions(filter: NatSessionFilter, cursor: string, limit: number): ReturnType<Gateway["natSessions"]> {
    this.asked.push(filter);
    const from = Number(cursor);
    const end = from + limit;
    const next = end < this.sessions.length ? String(end) : null;
    return Promise.resolve({ sessions: Buffer.concat(this.sessions.slice(from, end)), cursor: next });
  }

  natTop(): Promise<Uint8Array> {
    return Promise.resolve(this.subscribers);
  }

  natPool(): ReturnType<Gateway["natPool"]> {
    return this.pool;
  }

  natHandoffs(): NatHandoff[] {
    return [{ from: 0, to: 1, enqueued: 3, dequeued: 2, dropped: 1 }];
  }

  /** Adds to a counter by its offset in the slot. */
  count(slot: number, offset: number, value: number): void {
    const view = new DataView(this.counters);
    const at = slot * vxSlot.bytes + offset;
    view.setBigUint64(at, view.getBigUint64(at, true) + BigInt(value), true);
  }
}

function nativeError(code: string): Error {
  return Object.assign(new Error("simulated"), { code, op: "simulated", errno: 7, detail: "" });
}

/** As the kernel's tables are changed: what is added is new to them, what is removed was in them. */
export function changed(
  list: CompiledAllowlist,
  added: CompiledAllowlist,
  removed: CompiledAllowlist,
): CompiledAllowlist {
  const result = empty();
  for (const name of tableNames) {
    const { bytes } = shapes[name];
    const records = new Set(recordsOf(list[name], bytes));
    for (const record of recordsOf(added[name], bytes)) {
      assert.ok(!records.has(record), `${name} has it already`);
      records.add(record);
    }
    for (const record of recordsOf(removed[name], bytes)) assert.ok(records.delete(record), `${name} does not have it`);
    result[name] = sortTable(name, Buffer.from([...records].join(""), "hex"));
  }
  return result;
}

function recordsOf(table: Uint8Array, bytes: number): string[] {
  return Array.from({ length: table.length / bytes }, (_, index) =>
    Buffer.from(table.subarray(index * bytes, (index + 1) * bytes)).toString("hex"),
  );
}

export interface Simulation {
  native: Native;
  gateways: SimulatedGateway[];
}

/** `prepare` may make a gateway refuse. */
export function simulate(prepare: (gateway: SimulatedGateway) => void = () => undefined): Simulation {
  const gateways: SimulatedGateway[] = [];
  const native = {
    Gateway: class extends SimulatedGateway {
      constructor(plan: DatapathPlan) {
        super(plan);
        gateways.push(this);
        prepare(this);
      }
    },
    interfaceFacts: (name: string) => {
      if (!/^(in|out)0$/.test(name)) return null;
      const ifindex = name === "in0" ? 2 : 3;
      return {
        ifindex,
        mac: "02:00:00:00:00:01",
        mtu: 1500,
        driver: "simulated",
        carrier: true,
        ethernet: true,
        rxQueues: 1,
      };
    },
    interfaceAddresses: (name: string) => (name === "in0" ? ["fe80::1", "192.0.2.1"] : []),
    interfaceName: (ifindex: number) => (ifindex === 2 ? "in0" : ifindex === 3 ? "out0" : null),
    ensureBpffs: () => "",
    releaseBpffs: () => undefined,
    lockFile: () => true,
    hasCapability: () => true,
    keepCapabilities: () => undefined,
  };
  return { native: native as unknown as Native, gateways };
}
