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
  nat: { destination: StaticRule[] };
  packet: { clearDontFragment: boolean; truncated: "drop"; ipv6: "drop" | "forward"; decrementTtl: boolean };
  control: { listen: string; socket: string };
  log: { level: string };
  state: { directory: string; bpffs: string };
}

export type AllowlistMatch = "source" | "destination" | "either";
