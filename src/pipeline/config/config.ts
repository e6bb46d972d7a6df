// A valid configuration, defaults filled in: what check.ts returns and plan.ts turns into a plan. Types only.

export interface StaticRule {
  protocol: "udp" | "tcp" | "any";
  port: number;
  /** "192.0.2.1:8081" */
  to: string;
}

export interface Config {
  version: 1;
  inside: {
    interface: string;
    /** Absent: plain Ethernet inside. */
    vxlan?: {
      port: number;
      vnis: "any" | (number | string)[];
      local: string;
      peers: "any" | string[];
    };
  };
  outside: { interface: string; nextHop: string };
  datapath: "auto" | "xdp" | "afxdp" | "ringbuf";
  workers: {
    count: "auto" | number;
    cpus: "auto" | number[];
    batch: number;
    polling: "adaptive" | "busy";
    priority: "off" | number;
  };
  /** Absent: every address is allowed. File absent: none is. The path is absolute here. */
  allowlist?: { file?: string; match: AllowlistMatch };
  nat: {
    destination: StaticRule[];
    /** Absent: no source NAT. */
    source?: SourceNat;
  };
  packet: { clearDontFragment: boolean; truncated: "drop"; ipv6: "drop" | "forward"; decrementTtl: boolean };
  control: { listen: string; socket: string };
  log: { level: string };
  state: { directory: string; bpffs: string };
}

export interface Pool {
  /** "203.0.113.1", "203.0.113.0/28", "203.0.113.1-203.0.113.10" */
  addresses: string[];
  /** "1024-65535" */
  ports: string;
  vnis: "any" | (number | string)[];
  allowPrivate: boolean;
}

export interface Forward {
  /** "203.0.113.1:8080" */
  outside: string;
  protocol: "udp" | "tcp" | "any";
  inside: string;
  /** Absent with plain Ethernet inside. */
  vni?: number;
}

export interface SourceNat {
  pools: Pool[];
  mapping: "endpoint-independent" | "address-and-port-dependent";
  filtering: "endpoint-independent" | "address-dependent" | "address-and-port-dependent";
  pooling: "paired" | "paired-else-any";
  blocks: { size: number; perSubscriber: number };
  limits: { sessionsPerSubscriber: number; newSessionsPerSecond: number };
  maxSessions: number;
  hairpin: boolean;
  exclude: string[];
  forwards: Forward[];
  gateways: { vni?: number; address: string }[];
  mssClamp: "off" | "auto" | number;
  icmpErrors: { inside: boolean; outside: boolean };
  tcpMidstream: "create" | "drop";
  /** Seconds. */
  timeouts: { tcpEstablished: number; tcpTransitory: number; udp: number; icmp: number; portHold: number };
  /** The path is absolute here. */
  records: { file: string | null; sessions: boolean; netflow: string | null; ipfix: string | null };
}

export type AllowlistMatch = "source" | "destination" | "either";
