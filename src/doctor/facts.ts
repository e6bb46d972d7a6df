// What `vxpipe doctor` knows of a host and its interfaces, and what it says about them. collect.ts gathers facts, host.ts,
// interface.ts and datapath.ts turn them into findings; null is always "not known here".
import type { HostCpus, InterfaceCpus } from "../injector/cpu-facts.js";

export interface Finding {
  /** ok: as it should be. note: works, and could be better, or could not be looked at. problem: vxpipe would not start
   * here, or would lose packets or most of its speed. */
  level: "ok" | "note" | "problem";
  /** "host" or an interface. */
  subject: string;
  topic: string;
  /** What is, and why it matters. */
  message: string;
  /** What changes it, as it is to be typed. */
  command?: string;
}

/** A finding before it is known whose. */
export type Said = Omit<Finding, "subject">;

export interface HostFacts {
  kernel: string;
  /** The kernel describes its types. */
  btf: boolean;
  /** Where a bpffs is mounted. */
  bpffs: string[];
  uid: number;
  /** Effective capabilities, a bit each. */
  capabilities: bigint;
  /** Bytes; Infinity: no limit. */
  memlock: number | null;
  /** net.core.bpf_jit_enable, which only root sees, and not in every network namespace. */
  jit: number | null;
  cpus: HostCpus;
  missingTools: string[];
}

export interface Amount {
  now: number;
  max: number;
}

export interface Feature {
  on: boolean;
  fixed: boolean;
}

export interface XdpProgram {
  mode: "native" | "generic" | "offloaded" | "several";
  id: number | null;
  name: string | null;
}

/** The other end of a veth, where it is in this network namespace. */
export interface FarEnd {
  name: string;
  mtu: number;
  gro: boolean | null;
  xdp: boolean;
}

export interface InterfaceFacts extends InterfaceCpus {
  name: string;
  /** Its frames begin with an Ethernet header. */
  ethernet: boolean;
  driver: string | null;
  driverVersion: string | null;
  mtu: number;
  up: boolean;
  carrier: boolean;
  /** Whichever the driver counts in: combined or receive queues. */
  channels: (Amount & { kind: "combined" | "rx" }) | null;
  rxRing: Amount | null;
  features: Record<string, Feature> | null;
  /** Receive queues, and how many of them the indirection table uses. */
  rss: { queues: number; used: number } | null;
  /** Fields of the hash over UDP, as `ethtool -n IFACE rx-flow-hash udp4` names them; null: the driver does not say. */
  udpHash: string[] | null;
  /** What the driver says it can, by the kernel's names (NETDEV_XDP_ACT_*); null: the kernel does not tell. */
  xdpFeatures: Record<string, boolean> | null;
  xdp: XdpProgram | null;
  /** Counters of packets an instance's allowance did not cover (ENA). */
  allowanceExceeded: Record<string, number>;
  /** Veth only; null: in another network namespace. */
  farEnd?: FarEnd | null;
}
