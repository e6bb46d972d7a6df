// What an interface's facts mean for vxpipe: what it needs to start, and what keeps packets or speed. Where the CPUs come
// in, see interrupts.ts. Called by src/cli/commands/doctor.ts. Pure.
import type { HostCpus } from "../injector/cpu-facts.js";
import { abilitiesOf, mtuUsual, outOfTreeEna } from "./drivers.js";
import { datapathFinding } from "./datapath.js";
import type { Finding, InterfaceFacts, Said } from "./facts.js";
import { interruptFindings } from "./interrupts.js";

export function interfaceFindings(facts: InterfaceFacts, cpus: HostCpus): Finding[] {
  const said = facts.ethernet ? ethernetFindings(facts, cpus) : [notEthernet];
  return said.map((finding) => ({ subject: facts.name, ...finding }));
}

const notEthernet: Said = {
  level: "problem",
  topic: "link",
  message: "it carries no Ethernet frames: `vxpipe run` refuses it",
};

function ethernetFindings(facts: InterfaceFacts, cpus: HostCpus): Said[] {
  return [
    driver(facts),
    carrier(facts),
    mtu(facts),
    ...program(facts),
    ...channels(facts),
    ...offloads(facts),
    ...spread(facts),
    ...ring(facts),
    ...interruptFindings(facts, cpus),
    ...allowance(facts),
    ...farEnd(facts),
    datapathFinding(facts),
  ];
}

function driver(facts: InterfaceFacts): Said {
  const topic = "driver";
  const abilities = abilitiesOf(facts);
  const name = facts.driver ?? "unknown";
  if (abilities === null) {
    const message = `${name}: whether it has native XDP is not known here; the start of vxpipe tries it and says`;
    return { level: "note", topic, message };
  }
  const by = abilities.by === "the driver" ? ", it says" : "";
  if (!abilities.native) {
    const message = `${name} has no native XDP${by}: a worker sends, fed by generic XDP, at a fraction of the speed`;
    return { level: "problem", topic, message };
  }
  if (facts.driver === "veth") return { level: "ok", topic, message: `${name} has native XDP${by}` };
  if (abilities.takesRedirected === false) {
    const message = `${name} has native XDP but takes no redirected frames${by}: as outside interface it needs a worker to send`;
    return { level: "note", topic, message };
  }
  const ena = facts.driver === "ena" ? "; the first attach and the last detach take the link down for a moment" : "";
  const takes = abilities.takesRedirected === true ? " and takes redirected frames" : "";
  return { level: "ok", topic, message: `${name} has native XDP${takes}${by}${ena}` };
}

function carrier({ name, up, carrier: on }: InterfaceFacts): Said {
  const topic = "carrier";
  if (!up) {
    const message = "the interface is down: no packet comes or goes";
    return { level: "problem", topic, message, command: `ip link set dev ${name} up` };
  }
  if (on) return { level: "ok", topic, message: "the link is up" };
  return {
    level: "problem",
    topic,
    message: "no carrier: the far end or the cable is not there; packets out are dropped",
  };
}

function mtu(facts: InterfaceFacts): Said {
  const { mtuMax } = abilitiesOf(facts) ?? {};
  // A veth receives what its far end may send, so that one's MTU counts.
  const { name, mtu: bytes } = facts.farEnd ?? facts;
  const message = `MTU ${bytes}${name === facts.name ? "" : ` of ${name}`}`;
  const topic = "MTU";
  const command = `ip link set dev ${name} mtu ${mtuMax ?? mtuUsual}`;
  if (mtuMax !== undefined && bytes > mtuMax) {
    const why = `${message} is above ${mtuMax}, where ${facts.driver ?? "the driver"} refuses native XDP`;
    return { level: "problem", topic, message: why, command };
  }
  if (mtuMax !== undefined) return { level: "ok", topic, message: `${message} (native XDP up to ${mtuMax})` };
  if (bytes <= mtuUsual) return { level: "ok", topic, message };
  return {
    level: "note",
    topic,
    message: `${message}: most drivers refuse native XDP above about ${mtuUsual}`,
    command,
  };
}

function program({ name, xdp }: InterfaceFacts): Said[] {
  const topic = "XDP program";
  if (xdp === null) return [{ level: "ok", topic, message: "none is attached" }];
  const which = `${xdp.name ?? "a program"}${xdp.id === null ? "" : ` (id ${xdp.id})`} is attached, ${xdp.mode}`;
  if (["native", "generic"].includes(xdp.mode) && xdp.name?.startsWith("vx_") === true) {
    return [{ level: "ok", topic, message: `vxpipe's own ${which}` }];
  }
  if (xdp.mode === "native" && xdp.name === null) {
    return [
      { level: "note", topic, message: `${which}; whose it is, root sees`, command: `bpftool net show dev ${name}` },
    ];
  }
  const off = { native: "xdpdrv", generic: "xdpgeneric", offloaded: "xdpoffload", several: "xdp" }[xdp.mode];
  const message = `${which}: vxpipe refuses to start beside it (XDP_BUSY)`;
  return [{ level: "problem", topic, message, command: `ip link set dev ${name} ${off} off` }];
}

function channels(facts: InterfaceFacts): Said[] {
  const { channels: has } = facts;
  if (has === null) return [];
  const topic = "queues";
  const message = `${has.now} of at most ${has.max}`;
  const half = Math.floor(has.max / 2);
  const ena = outOfTreeEna(facts);
  const full = ena !== null && (ena[0] > 2 || (ena[0] === 2 && ena[1] >= 17));
  if (facts.driver !== "ena" || full || has.now <= half) return [{ level: "ok", topic, message }];
  const why = `${message}: ENA refuses native XDP with more than half of them, for XDP sends on the other half`;
  if (half === 0) return [{ level: "problem", topic, message: `${why}; an instance type with more queues is needed` }];
  return [{ level: "problem", topic, message: why, command: `ethtool -L ${facts.name} ${has.kind} ${half}` }];
}

/** Offloads that hide from XDP what was on the wire. GRO of the host comes after XDP and does not matter. */
function offloads({ name, driver: of, features }: InterfaceFacts): Said[] {
  if (features === null) return [];
  const merging = [
    ["large-receive-offload", "lro"],
    ["rx-gro-hw", "rx-gro-hw"],
  ] as const;
  const topic = "offloads";
  const found: Said[] = merging
    .filter(([feature]) => features[feature]?.on === true)
    .map(([feature, short]) => {
      const message = `${feature} is on: it merges packets before XDP sees them, and drivers refuse XDP for it`;
      if (features[feature]?.fixed === true) return { level: "problem", topic, message: `${message}; it is fixed` };
      return { level: "problem", topic, message, command: `ethtool -K ${name} ${short} off` };
    });
  const vlan = features["rx-vlan-offload"];
  if (vlan?.on === true && !vlan.fixed && of !== "veth") {
    const message =
      "rx-vlan-offload is on: VLAN tags are taken off before XDP sees them, so VLANs cannot be told apart";
    found.push({ level: "note", topic, message, command: `ethtool -K ${name} rxvlan off` });
  }
  if (found.length > 0) return found;
  const gro = features["generic-receive-offload"]?.on === true ? "on" : "off";
  return [{ level: "ok", topic, message: `nothing merges packets before XDP (GRO is ${gro}, which comes after it)` }];
}

/** Whether tunnels reach all queues. */
function spread({ name, rss, udpHash }: InterfaceFacts): Said[] {
  if (rss === null) return [];
  const topic = "RSS";
  const found: Said[] = [];
  if (rss.used < rss.queues) {
    const message = `only ${rss.used} of ${rss.queues} receive queues are used`;
    found.push({ level: "note", topic, message, command: `ethtool -X ${name} equal ${rss.queues}` });
  }
  if (rss.queues > 1 && udpHash !== null && !udpHash.some((field) => field.startsWith("L4 bytes 0 & 1"))) {
    const message =
      "UDP is spread by addresses only, so that one tunnel stays on one CPU; its source port tells inner flows apart";
    found.push({ level: "note", topic, message, command: `ethtool -N ${name} rx-flow-hash udp4 sdfn` });
  }
  if (found.length > 0) return found;
  return [{ level: "ok", topic, message: `all ${rss.queues} receive queues are used` }];
}

function ring({ name, rxRing }: InterfaceFacts): Said[] {
  if (rxRing === null) return [];
  const topic = "receive ring";
  const message = `${rxRing.now} of at most ${rxRing.max} descriptors`;
  if (rxRing.now >= rxRing.max) return [{ level: "ok", topic, message }];
  const why = `${message}: a longer one rides out bursts, at the price of cache`;
  return [{ level: "note", topic, message: why, command: `ethtool -G ${name} rx ${rxRing.max}` }];
}

function allowance({ allowanceExceeded }: InterfaceFacts): Said[] {
  const over = Object.entries(allowanceExceeded).filter(([, count]) => count > 0);
  if (over.length === 0) return [];
  const counts = over.map(([name, count]) => `${name} ${count}`).join(", ");
  const message = `the instance was given more than its allowance since boot: ${counts}; only a larger one helps`;
  return [{ level: "note", topic: "allowance", message }];
}

function farEnd(facts: InterfaceFacts): Said[] {
  if (facts.driver !== "veth") return [];
  const topic = "far end";
  const need = "as outside interface it delivers redirected frames only to a far end with an XDP program or GRO";
  const far = facts.farEnd ?? null;
  if (far === null && abilitiesOf(facts)?.takesRedirected === true) {
    return [{ level: "ok", topic, message: "the far end, in another network namespace, takes redirected frames" }];
  }
  if (far === null) {
    const has = facts.xdpFeatures === null ? ": look there" : " and has neither";
    const message = `${need}; the far end is in another network namespace${has}`;
    return [{ level: "note", topic, message, command: "ethtool -K FAR_END gro on" }];
  }
  if (far.xdp || far.gro === true) {
    return [
      {
        level: "ok",
        topic,
        message: `${far.name} has ${far.xdp ? "an XDP program" : "GRO"}, so it takes redirected frames`,
      },
    ];
  }
  return [
    { level: "note", topic, message: `${need}, and ${far.name} has neither`, command: `ethtool -K ${far.name} gro on` },
  ];
}
