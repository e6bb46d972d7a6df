// The plan: the pure value that a configuration turns into, and the list of actions that leads from one plan to the
// next. Nothing here touches the kernel, a file or a clock; apply.ts does. Called at start, at reload and for every edit
// at run time, on the main thread.
import { vxPrefix6 } from "./abi.gen.js";
import type { DatapathPlan } from "xdp-socket";
import { chooseDatapath, nothingKnown, untried, type Choice, type Evidence, type Mode } from "../injector/datapath.js";
import type { Allowlist, Delta } from "./allowlist/edit.js";
import { sameTables } from "./allowlist/table.js";
import type { AllowlistMatch, Config, StaticRule } from "./config/config.js";
import { parseAddress, parseMac, parsePrefix, vniRanges } from "./config/formats.js";
import { sourceNatOf, type SourceNatWanted } from "./source-nat.js";
import { type FlowProtocol, flowProtocols } from "./flow-messages.js";

/** What the packet path is made with once and for all: a change needs a restart. */
export interface Datapath extends Omit<
  DatapathPlan,
  | "insideIfindex"
  | "outsideIfindex"
  | "pinDirectory"
  | "workers"
  | "datapath"
  | "insideAttach"
  | "outsideAttach"
  | "injection"
  | "sourceNat"
> {
  datapath: Mode | "auto";
  inside: string;
  outside: string;
  bpffs: string;
  /** null: none. */
  sourceNat: SourceNatWanted | null;
  workers: { count: number | "auto"; cpus: readonly number[] | "auto"; batch: number; busy: boolean; priority: number };
}

export interface Plan {
  datapath: Datapath;
  /** null: every address is allowed. */
  allowlist: Allowlist | null;
  match: AllowlistMatch;
  rules: readonly StaticRule[];
  /** Where grants of port blocks are recorded; null: nowhere but in memory. */
  recordsFile: string | null;
  /** HOST:PORT; null: none. */
  collectors: Record<FlowProtocol, string | null>;
  control: { listen: string; socket: string };
  stateDirectory: string;
  logLevel: string;
}

export type Action =
  | { do: "create"; datapath: Datapath; choice: Choice }
  /** By which ways frames leave the outside interface. */
  | { do: "tryOutside" }
  /** The kernel's tables are made anew and swapped in. */
  | { do: "setAllowlist"; allowlist: Allowlist | null }
  /** The kernel's tables are changed in place. */
  | { do: "editAllowlist"; allowlist: Allowlist; delta: Delta }
  | { do: "setRules"; rules: readonly StaticRule[] }
  | { do: "setFilters"; vnis: Uint32Array | null; peers: Uint8Array | null }
  | { do: "attach" }
  | { do: "setLogLevel"; level: string }
  /** Nothing is done about these: they take effect when the daemon starts again. */
  | { do: "needsRestart"; keys: readonly string[] };

const matches = { source: 1, destination: 2, either: 3 } as const;

export function planOf(config: Config, allowlist: Allowlist | null): Plan {
  const { inside, outside, workers, packet, nat } = config;
  const vxlan = inside.vxlan;
  const match = config.allowlist?.match ?? "either";
  return {
    datapath: {
      inside: inside.interface,
      outside: outside.interface,
      bpffs: config.state.bpffs,
      datapath: config.datapath,
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
      sourceNat: nat.source === undefined ? null : sourceNatOf(nat.source),
      workers: {
        count: workers.count,
        cpus: workers.cpus,
        batch: workers.batch,
        busy: workers.polling === "busy",
        priority: workers.priority === "off" ? 0 : workers.priority,
      },
    },
    allowlist,
    match,
    rules: nat.destination,
    recordsFile: nat.source?.records.file ?? null,
    collectors: { ipfix: nat.source?.records.ipfix ?? null, netflow: nat.source?.records.netflow ?? null },
    control: config.control,
    stateDirectory: config.state.directory,
    logLevel: config.log.level,
  };
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

/** What such a start takes, by what is known. */
export function choiceOf({ datapath }: Plan, evidence: Evidence): Choice {
  return chooseDatapath(datapath.datapath, evidence, datapath.sourceNat !== null);
}

/** Everything that leads from the running plan (null: nothing runs) to the wanted one, in order. `evidence`: for a start. */
export function plan(old: Plan | null, wanted: Plan, evidence: Evidence = nothingKnown): Action[] {
  if (old === null) {
    const choice = choiceOf(wanted, evidence);
    const trial: Action[] = choice.configured === "auto" && untried(evidence) ? [{ do: "tryOutside" }] : [];
    return [
      { do: "create", datapath: wanted.datapath, choice },
      ...trial,
      { do: "setAllowlist", allowlist: wanted.allowlist },
      { do: "setRules", rules: wanted.rules },
      { do: "attach" },
    ];
  }
  const actions: Action[] = [];
  const allowlist = allowlistAction(old.allowlist, wanted.allowlist);
  if (allowlist !== null) actions.push(allowlist);
  if (old.rules !== wanted.rules && ruleText(old.rules) !== ruleText(wanted.rules)) {
    actions.push({ do: "setRules", rules: wanted.rules });
  }
  const filters = filtersAction(old.datapath, wanted.datapath);
  if (filters !== null) actions.push(filters);
  if (old.logLevel !== wanted.logLevel) actions.push({ do: "setLogLevel", level: wanted.logLevel });
  const keys = restartKeys(actions.reduce(after, old), wanted);
  if (keys.length > 0) actions.push({ do: "needsRestart", keys });
  return actions;
}

function allowlistAction(old: Allowlist | null, wanted: Allowlist | null): Action | null {
  if (old === wanted) return null;
  if (old === null || wanted === null) return { do: "setAllowlist", allowlist: wanted };
  if (sameTables(old.compiled, wanted.compiled)) return null;
  const { delta } = wanted;
  if (delta !== null && delta.from === old.id) return { do: "editAllowlist", allowlist: wanted, delta };
  return { do: "setAllowlist", allowlist: wanted };
}

/** Tunnels are filtered by maps where the programs were loaded to look into them; else only a restart helps. */
function filtersAction(old: Datapath, wanted: Datapath): Action | null {
  const vnis = old.vnis === null ? null : wanted.vnis;
  const peers = old.peers === null ? null : wanted.peers;
  const changed = (vnis !== null && differs(old.vnis, vnis)) || (peers !== null && differs(old.peers, peers));
  return changed ? { do: "setFilters", vnis, peers } : null;
}

/** The plan in force when an action of `plan` has been done. */
export function after(now: Plan, action: Action): Plan {
  switch (action.do) {
    case "setAllowlist":
    case "editAllowlist":
      return { ...now, allowlist: action.allowlist };
    case "setRules":
      return { ...now, rules: action.rules };
    case "setFilters": {
      const { datapath } = now;
      const [vnis, peers] = [action.vnis ?? datapath.vnis, action.peers ?? datapath.peers];
      return { ...now, datapath: { ...datapath, vnis, peers } };
    }
    case "setLogLevel":
      return { ...now, logLevel: action.level };
    case "create":
    case "tryOutside":
    case "attach":
    case "needsRestart":
      return now;
  }
}

/** What takes an action back that led away from `old`; null: there is nothing to take back. */
export function undo(old: Plan, action: Action): Action | null {
  switch (action.do) {
    case "setAllowlist":
      return { do: "setAllowlist", allowlist: old.allowlist };
    case "editAllowlist": {
      const { added, removed } = action.delta;
      const delta = { from: action.allowlist.id, added: removed, removed: added };
      return old.allowlist === null ? null : { do: "editAllowlist", allowlist: old.allowlist, delta };
    }
    case "setRules":
      return { do: "setRules", rules: old.rules };
    case "setFilters":
      return { do: "setFilters", vnis: old.datapath.vnis, peers: old.datapath.peers };
    case "setLogLevel":
      return { do: "setLogLevel", level: old.logLevel };
    case "create":
    case "tryOutside":
    case "attach":
    case "needsRestart":
      return null;
  }
}

/** What a list of actions does, for people, before it is done. */
export function describe(old: Plan, actions: readonly Action[]): string[] {
  return actions.map((action) => {
    switch (action.do) {
      case "setAllowlist":
      case "editAllowlist":
        return `allowlist: ${listText(old.allowlist)} become ${listText(action.allowlist)}, in place`;
      case "setRules":
        return `nat.destination: ${old.rules.length} rules become ${action.rules.length}, in place`;
      case "setFilters":
        return "inside.vxlan: vnis and peers change in place";
      case "setLogLevel":
        return `log.level: ${old.logLevel} becomes ${action.level}`;
      case "needsRestart":
        return `only a restart changes ${action.keys.join(", ")}: left as before`;
      case "create":
      case "tryOutside":
      case "attach":
        return action.do;
    }
  });
}

function listText(list: Allowlist | null): string {
  return list === null ? "all addresses" : `${list.count} entries`;
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
  sourceNat: "nat.source",
  workers: "workers",
};

function differs(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) !== JSON.stringify(b);
}

/** Configuration keys whose change only a restart brings into effect. */
function restartKeys(old: Plan, wanted: Plan): string[] {
  const fields = Object.keys(keyOf) as (keyof Datapath)[];
  const keys = fields
    .filter((field) => differs(old.datapath[field], wanted.datapath[field]))
    .map((field) => keyOf[field]);
  if (old.control.listen !== wanted.control.listen) keys.push("control.listen");
  if (old.control.socket !== wanted.control.socket) keys.push("control.socket");
  if (old.recordsFile !== wanted.recordsFile) keys.push("nat.source.records.file");
  for (const protocol of flowProtocols) {
    if (old.collectors[protocol] !== wanted.collectors[protocol]) keys.push(`nat.source.records.${protocol}`);
  }
  if (old.stateDirectory !== wanted.stateDirectory) keys.push("state.directory");
  return keys;
}
