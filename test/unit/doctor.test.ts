// What `vxpipe doctor` makes of facts: an ENA, a veth, a virtio, a down interface, a host that lacks something. The texts
// of tools are as they print them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { doctorText } from "../../src/cli/commands/doctor.js";
import { collectHost, collectInterface, Tools } from "../../src/doctor/collect.js";
import { adviseDatapath } from "../../src/doctor/datapath.js";
import type { Finding, HostFacts, InterfaceFacts } from "../../src/doctor/facts.js";
import { hostFindings } from "../../src/doctor/host.js";
import { required } from "../../src/pipeline/privileges.js";
import { interfaceFindings } from "../../src/doctor/interface.js";
import type { HostCpus } from "../../src/injector/cpu-facts.js";
import * as parse from "../../src/doctor/parse.js";
import { VxpipeError } from "../../src/pipeline/errors.js";

const channelsText = (max: number, now: number): string => `Channel parameters for ens5:
Pre-set maximums:
RX:		n/a
TX:		n/a
Other:		n/a
Combined:	${max}
Current hardware settings:
RX:		n/a
TX:		n/a
Other:		n/a
Combined:	${now}
`;

const ringText = `Ring parameters for ens5:
Pre-set maximums:
RX:		16384
RX Mini:	n/a
RX Jumbo:	n/a
TX:		1024
Current hardware settings:
RX:		1024
RX Mini:	n/a
RX Jumbo:	n/a
TX:		1024
`;

const featuresText = `Features for ens5:
rx-checksumming: on
	tx-checksum-ipv4: on
generic-receive-offload: on
large-receive-offload: off [fixed]
rx-vlan-offload: off [fixed]
rx-gro-hw: off [fixed]
`;

const rssText = `RX flow hash indirection table for ens5 with 4 RX ring(s):
    0:      0     1     2     3     0     1     2     3
    8:      0     1     2     3     0     1     2     3
RSS hash key:
6d:5a:56:da
RSS hash function:
    toeplitz: on
`;

const udpHashText = `UDP over IPV4 flows use these fields for computing Hash flow key:
IP SA
IP DA
L4 bytes 0 & 1 [TCP/UDP src port]
L4 bytes 2 & 3 [TCP/UDP dst port]

`;

/** ENA as on an instance with eight queues of which four are on, tuned well. */
const ena: InterfaceFacts = {
  name: "ens5",
  ethernet: true,
  driver: "ena",
  driverVersion: "6.1.0-18-cloud-amd64",
  mtu: 1500,
  up: true,
  carrier: true,
  channels: parse.channelsOf(channelsText(8, 4)),
  rxRing: { now: 16384, max: 16384 },
  features: parse.featuresOf(featuresText),
  rss: parse.rssOf(rssText),
  udpHash: parse.udpHashOf(udpHashText),
  xdpFeatures: null,
  xdp: null,
  interrupts: [0, 1, 2, 3].map((queue) => ({ number: 28 + queue, label: `ens5-Tx-Rx-${queue}`, cpus: [queue] })),
  node: null,
  allowanceExceeded: {},
};

const veth: InterfaceFacts = {
  ...ena,
  name: "in0",
  driver: "veth",
  driverVersion: "1.0",
  channels: { now: 1, max: 2, kind: "rx" },
  rxRing: null,
  rss: null,
  udpHash: null,
  interrupts: [],
  farEnd: null,
};

function cpus(count: number): HostCpus {
  return {
    allowed: Array.from({ length: count }, (_, cpu) => cpu),
    nodes: new Map(),
    cores: [],
    keptFromRealTimeMs: 0,
  };
}

const host: HostFacts = {
  kernel: "6.1.0-18-cloud-amd64",
  btf: true,
  bpffs: ["/sys/fs/bpf"],
  uid: 0,
  capabilities: (1n << 41n) - 1n,
  memlock: 8 << 20,
  jit: 1,
  cpus: cpus(8),
  missingTools: [],
};

function of(facts: InterfaceFacts, topic: string, on: HostCpus = host.cpus): Finding {
  const found = interfaceFindings(facts, on).find((finding) => finding.topic === topic);
  assert.ok(found !== undefined, `nothing said of ${topic}`);
  return found;
}

function told(findings: readonly Finding[], level: Finding["level"]): string[] {
  return findings.filter((finding) => finding.level === level).map(({ topic }) => topic);
}

test("a tuned ENA on a proper host has nothing but ok", () => {
  const findings = [...hostFindings(host), ...interfaceFindings(ena, host.cpus)];
  assert.deepEqual(
    findings.filter(({ level }) => level !== "ok"),
    [],
  );
});

test("ENA's MTU may be 3498 and not 3499, and the command that lowers it is told", () => {
  assert.equal(of({ ...ena, mtu: 3498 }, "MTU").level, "ok");
  const { level, message, command } = of({ ...ena, mtu: 3499 }, "MTU");
  assert.deepEqual([level, command], ["problem", "ip link set dev ens5 mtu 3498"]);
  assert.match(message, /3499 is above 3498/);
});

test("a big MTU of an unknown driver is a note, for only the driver knows", () => {
  assert.equal(of({ ...ena, driver: "newnic", mtu: 9000 }, "MTU").level, "note");
  assert.equal(of({ ...ena, driver: "newnic" }, "driver").level, "note");
});

test("more than half of ENA's queues is a problem, but not with the driver that lifted it", () => {
  const many = { ...ena, channels: parse.channelsOf(channelsText(8, 5)) };
  assert.deepEqual([of(many, "queues").level, of(many, "queues").command], ["problem", "ethtool -L ens5 combined 4"]);
  assert.equal(of({ ...many, driverVersion: "2.16.9g" }, "queues").level, "problem");
  assert.equal(of({ ...many, driverVersion: "2.17.0g" }, "queues").level, "ok");
  assert.equal(of({ ...many, driver: "ixgbe" }, "queues").level, "ok");
  const single = of({ ...ena, channels: { now: 1, max: 1, kind: "combined" } }, "queues");
  assert.deepEqual([single.level, single.command], ["problem", undefined]);
});

test("an interface that is down is a problem, and so is one without carrier", () => {
  const down = of({ ...ena, up: false, carrier: false }, "carrier");
  assert.deepEqual([down.level, down.command], ["problem", "ip link set dev ens5 up"]);
  assert.match(of({ ...ena, carrier: false }, "carrier").message, /no carrier/);
});

test("what merges packets before XDP is a problem; GRO, which comes after it, is not", () => {
  const features = { ...ena.features, "large-receive-offload": { on: true, fixed: false } };
  const { level, command } = of({ ...ena, features }, "offloads");
  assert.deepEqual([level, command], ["problem", "ethtool -K ens5 lro off"]);
  const fixed = of({ ...ena, features: { "rx-gro-hw": { on: true, fixed: true } } }, "offloads");
  assert.deepEqual([fixed.level, fixed.command], ["problem", undefined]);
  const tags = of({ ...ena, features: { "rx-vlan-offload": { on: true, fixed: false } } }, "offloads");
  assert.deepEqual([tags.level, tags.command], ["note", "ethtool -K ens5 rxvlan off"]);
});

test("what carries no Ethernet frames is one problem, and nothing else is said of it", () => {
  const found = interfaceFindings({ ...ena, name: "lo", ethernet: false }, host.cpus);
  assert.deepEqual(
    found.map(({ level, subject, topic, command }) => [level, subject, topic, command]),
    [["problem", "lo", "link", undefined]],
  );
});

test("only somebody else's XDP program is a problem", () => {
  const attached = (xdp: InterfaceFacts["xdp"]): Finding => of({ ...ena, xdp }, "XDP program");
  assert.equal(attached({ mode: "native", id: 7, name: "vx_ingress" }).level, "ok");
  assert.equal(attached({ mode: "generic", id: 7, name: "vx_ingress" }).level, "ok");
  assert.equal(attached({ mode: "native", id: 7, name: null }).level, "note");
  const foreign = attached({ mode: "native", id: 7, name: "xdp_dispatcher" });
  assert.deepEqual([foreign.level, foreign.command], ["problem", "ip link set dev ens5 xdpdrv off"]);
  assert.equal(attached({ mode: "generic", id: 7, name: "x" }).command, "ip link set dev ens5 xdpgeneric off");
});

test("a veth's far end needs XDP or GRO, which is advice", () => {
  const far = { name: "out1", mtu: 1500, gro: false, xdp: false };
  assert.equal(of(veth, "far end").level, "note");
  const bare = of({ ...veth, farEnd: far }, "far end");
  assert.deepEqual([bare.level, bare.command], ["note", "ethtool -K out1 gro on"]);
  assert.equal(of({ ...veth, farEnd: { ...far, gro: true } }, "far end").level, "ok");
  assert.equal(of({ ...veth, farEnd: { ...far, xdp: true } }, "far end").level, "ok");
  assert.deepEqual(told(interfaceFindings(veth, host.cpus), "problem"), []);
});

test("of a veth the far end's MTU counts", () => {
  const farEnd = { name: "out1", mtu: 3507, gro: true, xdp: false };
  assert.equal(of({ ...veth, farEnd }, "MTU").command, "ip link set dev out1 mtu 3506");
  assert.equal(of({ ...veth, mtu: 9000, farEnd: { ...farEnd, mtu: 3506 } }, "MTU").level, "ok");
});

test("queues that RSS leaves out, and tunnels it cannot tell apart, are told with the command", () => {
  assert.equal(of({ ...ena, rss: { queues: 4, used: 2 } }, "RSS").command, "ethtool -X ens5 equal 4");
  const coarse = of({ ...ena, udpHash: ["IP SA", "IP DA"] }, "RSS");
  assert.deepEqual([coarse.level, coarse.command], ["note", "ethtool -N ens5 rx-flow-hash udp4 sdfn"]);
});

test("the CPUs free of interrupts are named, and those auto gives to workers", () => {
  assert.match(of(ena, "interrupts").message, /on CPU 0, 1, 2, 3; free of them: CPU 4, 5, 6, 7$/);
  assert.match(of(ena, "workers").message, /auto puts 3 workers on CPU 7, 6, 5$/);
  const { level, message, command } = of(ena, "workers", cpus(4));
  assert.equal(level, "note");
  assert.match(message, /one worker on CPU 3; CPU 3 serves the interfaces' interrupts besides a worker$/);
  assert.equal(command, "echo 0 > /proc/irq/31/smp_affinity_list");
  assert.equal(of(ena, "workers", cpus(1)).command, undefined);
});

test("interrupts that all are on one CPU get a command that spreads them and leaves the worker's CPU", () => {
  const interrupts = ena.interrupts.map((interrupt) => ({ ...interrupt, cpus: [0] }));
  const { level, command } = of({ ...ena, interrupts }, "interrupts", cpus(3));
  assert.equal(level, "note");
  assert.deepEqual(command?.split("; "), [
    "echo 0 > /proc/irq/28/smp_affinity_list",
    "echo 1 > /proc/irq/29/smp_affinity_list",
    "echo 0 > /proc/irq/30/smp_affinity_list",
    "echo 1 > /proc/irq/31/smp_affinity_list",
  ]);
});

test("a short ring and an exceeded allowance are notes", () => {
  const findings = interfaceFindings(
    { ...ena, rxRing: { now: 1024, max: 16384 }, allowanceExceeded: { pps_allowance_exceeded: 5 } },
    host.cpus,
  );
  assert.deepEqual(told(findings, "note"), ["receive ring", "allowance"]);
});

test("what the driver says goes before what it is known for, and its no to redirected frames counts with a program", () => {
  const refused = { ...ena, xdpFeatures: { BASIC: false, NDO_XMIT: false } };
  assert.equal(of(refused, "driver").level, "problem");
  assert.deepEqual([adviseDatapath([refused]).auto, of(refused, "datapath").level], ["afxdp", "note"]);
  assert.match(
    of(refused, "datapath").message,
    /^auto is afxdp by generic XDP with it inside or outside; .*ena of ens5 has no native XDP$/,
  );
  // Without a program a "no" may become a "yes" with one.
  const bare = { ...ena, xdpFeatures: { BASIC: true, NDO_XMIT: false } };
  assert.equal(of(bare, "driver").level, "ok");
  assert.match(of(bare, "datapath").message, /^auto is xdp .*the start tries it$/);
  const oneWay = { ...bare, xdp: { mode: "native", id: 7, name: "vx_egress" } as const };
  assert.equal(of(oneWay, "driver").level, "note");
  assert.match(of(oneWay, "datapath").message, /^auto is xdp with it inside, afxdp with it outside; /);
  assert.match(adviseDatapath([oneWay]).why, /XDP cannot: ens5 takes no redirected frames$/);
  assert.equal(of({ ...ena, driver: "dummy" }, "driver").level, "problem");
});

test("what a veth says of redirected frames is final, without a program too", () => {
  const says = (xmit: boolean): InterfaceFacts => ({ ...veth, xdpFeatures: { BASIC: true, NDO_XMIT: xmit } });
  assert.match(of(says(false), "datapath").message, /afxdp with it outside/);
  assert.match(of(says(false), "far end").message, /has neither$/);
  assert.deepEqual([of(says(true), "datapath").level, of(says(true), "far end").level], ["ok", "ok"]);
});

test("auto is xdp with what can do it, and the other datapaths are named with what they are for", () => {
  const says = (xmit: boolean): InterfaceFacts => ({ ...veth, xdpFeatures: { BASIC: true, NDO_XMIT: xmit } });
  const advice = adviseDatapath([says(false), says(true)]);
  assert.deepEqual([advice.auto, advice.others.map(({ name }) => name)], ["xdp", ["afxdp", "ringbuf"]]);
  assert.doesNotMatch(advice.why, /the start tries/);
  assert.equal(adviseDatapath([says(false)]).auto, "afxdp");
  assert.match(adviseDatapath([veth]).why, /the start tries$/);
});

test("a host that lacks what vxpipe needs has a problem for each", () => {
  const lacking = { ...host, kernel: "5.15.0", btf: false, jit: 0, capabilities: 0n };
  assert.deepEqual(told(hostFindings(lacking), "problem"), ["kernel", "BTF", "JIT", "capabilities"]);
  assert.deepEqual(told(hostFindings(lacking), "note"), ["locked memory"]);
  assert.equal(told(hostFindings({ ...host, kernel: "7.0.1" }), "problem").length, 0);
});

test("to a user without rights the missing ones are a note", () => {
  const user = { ...host, uid: 1000, capabilities: 0n, jit: null, memlock: Infinity };
  assert.deepEqual(told(hostFindings(user), "problem"), []);
  assert.deepEqual(told(hostFindings(user), "note"), ["JIT", "capabilities"]);
});

test("a tool that is not there and a bpffs that is not mounted are notes with a command", () => {
  const notes = hostFindings({ ...host, bpffs: [], missingTools: ["ethtool"] }).filter(({ level }) => level === "note");
  assert.deepEqual(
    notes.map(({ command }) => command),
    ["mount -t bpf bpf /sys/fs/bpf", "apt-get install ethtool"],
  );
});

test("the capabilities looked for are those the daemon asks for", () => {
  const { hint } = new VxpipeError("CAPABILITY_MISSING", "x");
  assert.deepEqual(hint.match(/CAP_\w+/g)?.sort(), [...Object.keys(required), "CAP_IPC_LOCK", "CAP_SYS_NICE"].sort());
});

test("what tools print is understood, and what they do not know is null", () => {
  assert.deepEqual(ena.channels, { now: 4, max: 8, kind: "combined" });
  assert.deepEqual(parse.rxRingOf(ringText), { now: 1024, max: 16384 });
  assert.deepEqual(ena.features?.["large-receive-offload"], { on: false, fixed: true });
  assert.deepEqual(ena.rss, { queues: 4, used: 4 });
  assert.equal(ena.udpHash?.length, 4);
  assert.equal(parse.udpHashOf("UDP over IPV4 flows use these fields for computing Hash flow key:\nNone\n\n"), null);
  const unsupported = "RX flow hash indirection table for eth0 with 1 RX ring(s):\nOperation not supported\n";
  for (const nothing of [parse.channelsOf(""), parse.rxRingOf(""), parse.featuresOf(""), parse.rssOf(unsupported)])
    assert.equal(nothing, null);
  const veths = channelsText(0, 0).replaceAll("RX:\t\tn/a", "RX:\t\t2").replaceAll("Combined:\t0", "Combined:\tn/a");
  assert.deepEqual(parse.channelsOf(veths), { now: 2, max: 2, kind: "rx" });
  assert.deepEqual(parse.driverOf("driver: ena\nversion: 2.13.0g\nfirmware-version: \n"), {
    driver: "ena",
    version: "2.13.0g",
  });
  assert.deepEqual(parse.allowanceExceededOf("     tx_timeout: 0\n     pps_allowance_exceeded: 12\n"), {
    pps_allowance_exceeded: 12,
  });
  assert.deepEqual(parse.xdpFeaturesOf(3), { BASIC: true, REDIRECT: true, NDO_XMIT: false, XSK_ZEROCOPY: false });
  assert.equal(parse.xdpFeaturesOf(null), null);
});

test("without any tool, facts are those of /proc and /sys, and the tools are named", async () => {
  const tools = new Tools("/nonexistent");
  const facts = await collectInterface(tools, "lo");
  assert.deepEqual([facts.name, facts.driver, facts.channels], ["lo", null, null]);
  assert.ok(facts.mtu > 0);
  assert.deepEqual(collectHost(tools).missingTools.sort(), ["bpftool", "ethtool", "ip"]);
  await assert.rejects(collectInterface(tools, "nowhere0"), { code: "INTERFACE_UNKNOWN" });
});

test("the text has every finding, its command below it, and the sum", () => {
  const findings = [...hostFindings(host), ...interfaceFindings({ ...ena, mtu: 9001 }, host.cpus)];
  const text = doctorText(findings, adviseDatapath([ena]));
  assert.match(text, /^ {2}problem {2}MTU +MTU 9001 is above 3498.*\n +ip link set dev ens5 mtu 3498$/m);
  assert.match(text, /^ {2}auto is xdp: /m);
  assert.equal(text.split("\n").at(-1), "1 problem, 0 notes");
});
