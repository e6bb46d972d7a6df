// The plan: the pure value that a configuration turns into, and the list of actions that leads from one plan to the
// next. Nothing here touches the kernel, a file or a clock; apply.ts does. Called at start, at reload and for every edit
// at run time, on the main thread.
import { vxPrefix6 } from "./abi.gen.js";
import type { DatapathPlan } from "xdp-socket";
import type { Allowlist } from "./allowlist/edit.js";
import type { AllowlistMatch, Config, StaticRule } from "./config/config.js";
import { parseAddress, parseMac, parsePrefix, parseVniRange } from "./config/formats.js";

/** What the packet path is made with once and for all: a change needs a restart. */
export interface Datapath extends Omit<DatapathPlan, "insideIfindex" | "outsideIfindex" | "pinDirectory" | "worker"> {
  inside: string;
  outside: string;
  bpffs: string;
  worker: { cpu: number | "auto"; batch: number; busy: boolean };
}

export interface Plan {
  datapath: Datapath;
  /** null: every address is allowed. */
  allowlist: Allowlist | null;
  match: AllowlistMatch;
  rules: readonly StaticRule[];
  control: { listen: string; socket: string };
  stateDirectory: string;
  logLevel: string;
}

export type Action =
  | { do: "create"; datapath: Datapath }
  | { do: "setAllowlist"; allowlist: Allowlist | null }
  | { do: "setRules"; rules: readonly StaticRule[] }
  | { do: "attach" }
  | { do: "setLogLevel"; level: string }
  /** Nothing is done about these: they take effect when the daemon starts again. */
  | { do: "needsRestart"; keys: readonly string[] };

const matches = { source: 1, destination: 2, either: 3 } as const;

export function planOf(config: Config, allowlist: Allowlist | null): Plan {
  const { inside, outside, workers, packet } = config;
  const vxlan = inside.vxlan;
  const match = config.allowlist?.match ?? "either";
  return {
    datapath: {
      inside: inside.interface,
      outside: outside.interface,
      bpffs: config.state.bpffs,
      datapath: config.datapath === "auto" ? "xdp" : config.datapath,
      encapsulation: vxlan === undefined ? "ethernet" : "vxlan",
      vxlanPort: vxlan?.port ?? 0,
      local: vxlan === undefined || vxlan.local === "any" ? null : parseAddress(vxlan.local),
      vnis: vxlan === undefined || vxlan.vnis === "any" ? null : vniRanges(vxlan.vnis),
      peers: vxlan === undefined || vxlan.peers === "any" ? null : peerRecords(vxlan.peers),
      match: matches[match],
      nextHop: outside.nextHop === "auto" ? null : parseMac(outside.nextHop),
      clearDontFragment: packet.clearDontFragment,
      forwardIpv6: packet.ipv6 === "forward",
      decrementTtl: packet.decrementTtl,
      worker: {
        cpu: workers.cpus === "auto" ? "auto" : (workers.cpus[0] ?? "auto"),
        batch: workers.batch,
        busy: workers.polling === "busy",
      },
    },
    allowlist,
    match,
    rules: config.nat.destination,
    control: config.control,
    stateDirectory: config.state.directory,
    logLevel: config.log.level,
  };
}

/** Ranges of VNIs, sorted and joined where they touch. */
export function vniRanges(vnis: readonly (number | string)[]): Uint32Array {
  const ranges = vnis
    .map((vni): [number, number] => (typeof vni === "number" ? [vni, vni] : (parseVniRange(vni) ?? [0, 0])))
    .sort((a, b) => a[0] - b[0]);
  const joined: [number, number][] = [];
  for (const [from, to] of ranges) {
    const last = joined.at(-1);
    if (last !== undefined && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return Uint32Array.from(joined.flat());
}

function peerRecords(prefixes: readonly string[]): Uint8Array {
  const bytes = new Uint8Array(prefixes.length * vxPrefix6.bytes);
  const view = new DataView(bytes.buffer);
  prefixes.forEach((text, index) => {
    const prefix = parsePrefix(text);
    if (prefix === null) throw new Error(`the schema let ${text} through`);
    view.setUint32(index * vxPrefix6.bytes + vxPrefix6.offset.length, prefix.length, true);
    bytes.set(prefix.address, index * vxPrefix6.bytes + vxPrefix6.offset.address);
  });
  return bytes;
}

/** Everything that leads from the running plan (null: nothing runs) to the wanted one, in order. */
export function plan(old: Plan | null, wanted: Plan): Action[] {
  if (old === null) {
    return [
      { do: "create", datapath: wanted.datapath },
      { do: "setAllowlist", allowlist: wanted.allowlist },
      { do: "setRules", rules: wanted.rules },
      { do: "attach" },
    ];
  }
  const actions: Action[] = [];
  if (old.allowlist?.digest !== wanted.allowlist?.digest) {
    actions.push({ do: "setAllowlist", allowlist: wanted.allowlist });
  }
  if (ruleText(old.rules) !== ruleText(wanted.rules)) actions.push({ do: "setRules", rules: wanted.rules });
  if (old.logLevel !== wanted.logLevel) actions.push({ do: "setLogLevel", level: wanted.logLevel });
  const keys = restartKeys(old, wanted);
  if (keys.length > 0) actions.push({ do: "needsRestart", keys });
  return actions;
}

function ruleText(rules: readonly StaticRule[]): string {
  return rules
    .map((rule) => `${rule.protocol} ${rule.port} ${rule.to}`)
    .sort()
    .join("\n");
}

const keyOf: Record<keyof Datapath, string> = {
  inside: "inside.interface",
  outside: "outside.interface",
  bpffs: "state.bpffs",
  datapath: "datapath",
  encapsulation: "inside.vxlan",
  vxlanPort: "inside.vxlan.port",
  local: "inside.vxlan.local",
  vnis: "inside.vxlan.vnis",
  peers: "inside.vxlan.peers",
  match: "allowlist.match",
  nextHop: "outside.nextHop",
  clearDontFragment: "packet.clearDontFragment",
  forwardIpv6: "packet.ipv6",
  decrementTtl: "packet.decrementTtl",
  worker: "workers",
};

/** Configuration keys whose change only a restart brings into effect. */
function restartKeys(old: Plan, wanted: Plan): string[] {
  const differs = (a: unknown, b: unknown): boolean => JSON.stringify(a) !== JSON.stringify(b);
  const fields = Object.keys(keyOf) as (keyof Datapath)[];
  const keys = fields
    .filter((field) => differs(old.datapath[field], wanted.datapath[field]))
    .map((field) => keyOf[field]);
  if (old.control.listen !== wanted.control.listen) keys.push("control.listen");
  if (old.control.socket !== wanted.control.socket) keys.push("control.socket");
  if (old.stateDirectory !== wanted.stateDirectory) keys.push("state.directory");
  return keys;
}
