/** `xdp-socket`: the seam between the control plane (TypeScript) and the packet path (C++, eBPF).
 *
 * Everything here is called from Node's main thread. Arguments are validated by the caller (src/pipeline);
 * binary tables have the layout of bpf/abi/abi.h, so that they go to the kernel as they are. Every call that
 * fails throws a `NativeError`. */

export interface DatapathPlan {
  insideIfindex: number;
  outsideIfindex: number;
  /** Existing directory on a bpffs, `<state.bpffs>/<inside interface>`; maps and links are pinned in it. */
  pinDirectory: string;
  /** What sends the packets: XDP itself (a worker only what XDP cannot), or the worker, fed by AF_XDP or ring buffers. */
  datapath: "xdp" | "afxdp" | "ringbuf";
  /** By which XDP. Generic loses redirected packets unseen, so it is for datapaths in which workers send. */
  insideAttach: "native" | "generic";
  outsideAttach: "native" | "generic";
  /** What leaves the outside interface by injection instead of AF_XDP TX: nothing, packets of which many wait, or all that
   * can (not frames above 3,072 bytes, fragments made here, and frames of our own). */
  injection: "never" | "many" | "always";
  encapsulation: "vxlan" | "ethernet";
  vxlanPort: number;
  /** Address tunnels must be sent to, 16 bytes (IPv4 mapped into ::ffff:0:0/96); null: any. */
  local: Uint8Array | null;
  /** Ranges of VNIs, [from, to, from, to, ...], both ends included; null: any. */
  vnis: Uint32Array | null;
  /** Prefixes tunnels may come from, as vx_prefix6 records of 20 bytes (IPv4 mapped, length + 96); null: any. */
  peers: Uint8Array | null;
  /** Inner addresses the allowlist looks at: 1 source, 2 destination, 3 either. */
  match: 1 | 2 | 3;
  /** MAC of the one next hop, 6 bytes; null: from the kernel's routes and neighbours. */
  nextHop: Uint8Array | null;
  clearDontFragment: boolean;
  forwardIpv6: boolean;
  decrementTtl: boolean;
  workers: {
    /** One worker each, pinned to it. In the datapath xdp there is one. */
    cpus: number[];
    /** Most packets a worker receives at once. */
    batch: number;
    /** Spin instead of sleeping in poll(2). */
    busy: boolean;
    /** Of SCHED_FIFO, 1 to 99; 0: scheduled as everybody. */
    priority: number;
  };
  /** null: none. Not in the datapath xdp. */
  sourceNat: SourceNatPlan | null;
}

/** nat.source of the configuration. Addresses are IPv4, 4 bytes in network order; `vni`: null with plain Ethernet inside. */
export interface SourceNatPlan {
  pools: {
    /** One after the other. */
    addresses: Uint8Array;
    firstPort: number;
    lastPort: number;
    /** Ranges of VNIs as in `vnis` above; null: any. */
    vnis: Uint32Array | null;
  }[];
  /** `protocol`: 6 or 17. */
  forwards: {
    address: Uint8Array;
    port: number;
    protocol: number;
    vni: number | null;
    inside: Uint8Array;
    insidePort: number;
  }[];
  gateways: { vni: number | null; address: Uint8Array }[];
  /** Destinations left untranslated. */
  exclude: { address: Uint8Array; length: number }[];
  /** Ports; a power of two. */
  blockSize: number;
  blocksPerSubscriber: number;
  mapping: "endpoint-independent" | "address-and-port-dependent";
  filtering: "endpoint-independent" | "address-dependent" | "address-and-port-dependent";
  /** A subscriber whose address is full is refused, instead of given another one. */
  paired: boolean;
  sessionsPerSubscriber: number;
  newSessionsPerSecond: number;
  sessionsPerWorker: number;
  hairpin: boolean;
  icmpInside: boolean;
  icmpOutside: boolean;
  midstream: "create" | "drop";
  /** Bytes; 0: off; auto: what fits the inside MTU. */
  mssClamp: number | "auto";
  /** Records of sessions, too. */
  recordSessions: boolean;
  /** Seconds. */
  timeouts: { tcpEstablished: number; tcpTransitory: number; udp: number; icmp: number; portHold: number };
}

/** Sorted, without duplicates, ready for the kernel. */
export interface CompiledAllowlist {
  /** 4-byte IPv4 addresses, network order. */
  exact4: Uint8Array;
  /** 16-byte IPv6 addresses. */
  exact6: Uint8Array;
  /** vx_prefix4 records, 8 bytes: length as u32 (host order), address (network order). */
  prefix4: Uint8Array;
  /** vx_prefix6 records, 20 bytes: length as u32 (host order), address. */
  prefix6: Uint8Array;
}

/** By which ways frames leave the outside interface. */
export interface Trial {
  redirect: TriedWay;
  afxdpTx: TriedWay;
  /** That left for the trial; they are counted as originated. */
  frames: number;
}

export interface TriedWay {
  /** Also where nothing could be tried. */
  able: boolean;
  /** What was seen, as part of a sentence. */
  found: string;
}

export interface Attached {
  /** The inside program replaced the one a killed daemon left running. */
  tookOver: boolean;
  /** Packets that were in flight in that daemon, by direction; they open this run's ledger. Null: it left no counters
   * that this build can read. */
  crashLost: [inside: number, outside: number] | null;
}

export interface NativeEvent {
  /** One of src/pipeline/events.ts. */
  event: string;
  /** CLOCK_MONOTONIC, nanoseconds. */
  timeNs: bigint;
  /** Human-readable detail, already formatted ("192.0.2.7 is at 02:00:00:00:00:03"). */
  detail: string;
  /** Not 0: no event itself, but that so many more of them were left out. */
  suppressed: number;
}

export interface Snapshot {
  insideCarrier: boolean;
  outsideCarrier: boolean;
  outsideMtu: number;
  /** XDP programs are attached where we attached them. */
  attached: boolean;
  /** All of them. */
  workersAlive: boolean;
  /** Packets waiting at worker 0 for a neighbour or a first fragment. */
  waiting: number;
  routes: number;
  nextHops: { address: string; mac: string | null; state: "resolving" | "valid" | "failed" }[];
}

/** Thrown by every call: `code` is a stable name, `op` what was tried, `errno` the kernel's number (0: none). */
export interface NativeError extends Error {
  code: string;
  op: string;
  errno: number;
  detail: string;
}

export class Gateway {
  /** Claims both interfaces, loads the programs, creates the maps. Nothing is attached or pinned yet.
   * Codes: INTERFACE_HELD (detail: who), LOAD_FAILED, MAP_FAILED, NO_PERMISSION. */
  constructor(plan: DatapathPlan);
  /** Fills the spare set of tables and swaps it in with one store; resolves when the next packet sees it. null: all allowed. */
  setAllowlist(list: CompiledAllowlist | null): Promise<void>;
  /** Changes the list in force in place: `added` has nothing of it, `removed` is a part of it; resolves when the next
   * packet sees it. When it fails (the tables have room for so many), nothing has changed: set the whole list. */
  editAllowlist(added: CompiledAllowlist, removed: CompiledAllowlist): Promise<void>;
  /** Replaces the static rules. vx_rule_key + vx_rule records, 12 bytes each. When it fails, some may have changed. */
  setRules(rules: Uint8Array): Promise<void>;
  /** Changes what the plan's `vnis` and `peers` were, where they were not null. When it fails, some may have changed. */
  setFilters(vnis: Uint32Array | null, peers: Uint8Array | null): Promise<void>;
  /** Attaches the outside program and tries by which ways frames leave (native/io/trial.h), within two seconds. Before
   * `attach`. Codes: as `attach`. */
  tryOutside(): Promise<Trial>;
  /** Starts the workers, waits until routes and neighbours are known, attaches the programs. Codes: NO_NATIVE_XDP, XDP_BUSY,
   * MTU_TOO_BIG, ATTACH_FAILED, PIN_FAILED, QUEUE_BUSY (another program has an AF_XDP socket there), WORKER_FAILED. */
  attach(): Attached;
  /** stats_map itself, VX_SLOTS_MAX slots: read it with the offsets of abi.gen.ts. Detached by `stop`. */
  readonly counters: ArrayBuffer;
  /** Events since the last call. */
  drainEvents(): NativeEvent[];
  /** Samples of dropped packets since the last call, as vx_sample records. Until the next call up to `most` of a reason
   * are taken on each CPU; 0: nobody watches any more, and it costs the datapath one test of a flag per drop. */
  drainSamples(most: number): Uint8Array;
  snapshot(): Snapshot;
  /** Counts redirected packets whose fate the kernel did not report; at once when there are none. */
  settle(): Promise<void>;
  /** Detaches, waits until nothing is pending (bounded), joins the workers, removes pins and neighbour entries of ours.
   * The final counters are copied into `into` (same layout as `counters`). Resolves with the vx_nat_record records that
   * were not done, all of them. */
  stop(into: Uint8Array): Promise<Uint8Array>;
  // The following have nothing to tell without source NAT.
  /** vx_nat_record records not yet done, at most so many; of each worker the oldest first. */
  natRecords(most: number): Uint8Array;
  /** Those of the last `natRecords` are durable. */
  natRecordsDone(): void;
  /** A page of sessions, as vx_session_view records; one question at a time, this one or `natTop`. `cursor`: where the page
   * before ended, "" for the first; null: there is no more. Code: WORKER_SILENT. */
  natSessions(
    filter: NatSessionFilter,
    cursor: string,
    limit: number,
  ): Promise<{ sessions: Uint8Array; cursor: string | null }>;
  /** The subscribers with the most sessions, most first, as vx_subscriber_use records. Code: WORKER_SILENT. */
  natTop(most: number): Promise<Uint8Array>;
  /** Pool addresses, 4 bytes each in network order, and how many of their blocks are free. */
  natPool(): { addresses: Uint8Array; freeBlocks: Uint32Array };
  /** Packets from worker to worker, of pairs that had any. */
  natHandoffs(): NatHandoff[];
}

/** What is absent is any. */
export interface NatSessionFilter {
  /** null: plain Ethernet. */
  vni?: number | null;
  protocol?: number;
  inside?: NatEndpoint;
  outside?: NatEndpoint;
  remote?: NatEndpoint;
}

/** 4 bytes in network order. */
export interface NatEndpoint {
  address: Uint8Array;
  port?: number;
}

export interface NatHandoff {
  from: number;
  to: number;
  enqueued: number;
  dequeued: number;
  dropped: number;
}

export interface InterfaceFacts {
  ifindex: number;
  mac: string;
  mtu: number;
  driver: string;
  carrier: boolean;
  /** Its frames begin with an Ethernet header, and it is not the loopback device. */
  ethernet: boolean;
  rxQueues: number;
}

/** Bits of enum netdev_xdp_act (linux/netdev.h) for what the driver says it can; null: no such interface, or a kernel
 * before 6.3. */
export function xdpFeatures(name: string): number | null;
/** null: no such interface. */
export function interfaceFacts(name: string): InterfaceFacts | null;
/** Its addresses, in the kernel's order, IPv4 before IPv6; up or down. */
export function interfaceAddresses(name: string): string[];
/** null: no interface has that index any more. Throws when the kernel could not be asked. Code: NATIVE_FAILED. */
export function interfaceName(ifindex: number): string | null;
/** Makes the directory exist on a bpffs. Returns its mount point where it is one that we mounted, now or in an earlier run,
 * else "". Code: BPFFS_FAILED. */
export function ensureBpffs(directory: string): string;
/** Unmounts what `ensureBpffs` mounted, if nothing is pinned there any more. */
export function releaseBpffs(mountPoint: string): void;
/** Whether this process holds the capability, by its number in linux/capability.h, in its effective set. */
export function hasCapability(capability: number): boolean;
/** Gives up all capabilities but these, by number, in every thread and for good. Code: PRIVILEGES_FAILED. */
export function keepCapabilities(capabilities: Uint32Array): void;
/** Sends one message of sd_notify(3) to a service manager's socket. Code: SUPERVISOR_FAILED. */
export function notifySupervisor(address: string, text: string): void;

/** Takes an open file, by its descriptor, until it is closed or this process ends (fcntl(2), an advisory lock of an open file
 * description). False: somebody else has it. Code: RECORDS_UNWRITABLE. */
export function lockFile(fd: number): boolean;

export interface ReplayPlan extends Pick<
  DatapathPlan,
  | "encapsulation"
  | "vxlanPort"
  | "local"
  | "vnis"
  | "peers"
  | "match"
  | "nextHop"
  | "clearDontFragment"
  | "forwardIpv6"
  | "decrementTtl"
  | "sourceNat"
> {
  /** null: all allowed. */
  allowlist: CompiledAllowlist | null;
  /** As for `setRules`. */
  rules: Uint8Array;
}

export interface Replayed {
  /** As `Gateway.counters`. */
  counters: ArrayBuffer;
  /** From the first packet to the latest. */
  seconds: number;
}

/** An interface's captures; "": none. */
export interface ReplayFiles {
  arriving: string;
  leaving: string;
  /** What `leaving` grows as until it is complete, where that is a file. */
  temporary: string;
}

/** Runs captures through the packet path, with packet time as the clock, and writes what leaves. One at a time; needs no
 * privilege. Codes: CAPTURE_INVALID, CAPTURE_UNREADABLE, OUTPUT_UNWRITABLE, WORKER_FAILED (no memory for source NAT). */
export function replay(plan: ReplayPlan, inside: ReplayFiles, outside: ReplayFiles): Promise<Replayed>;
