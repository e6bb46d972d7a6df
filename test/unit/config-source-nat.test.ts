// What `config check` says of nat.source, and the plan that a right one becomes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { checkConfig } from "../../src/pipeline/config/check.js";
import { plan, planOf, type Plan } from "../../src/pipeline/plan.js";
import {
  refuseInsideAddresses,
  warnOfOutsideAddresses,
  sessionsPerWorker,
  tunnelAddress,
  type SourceNatWanted,
} from "../../src/pipeline/source-nat.js";

const head = "inside: { interface: in0, vxlan: {} }\noutside: { interface: out0 }\n";
const ethernet = "inside: { interface: in0 }\noutside: { interface: out0 }\n";

/** nat.source in flow style in line 3, its keys from column 18 on. */
function check(source: string, rest = "", start = head): ReturnType<typeof checkConfig> {
  return checkConfig(Buffer.from(`${start}nat: { source: { ${source} } }\n${rest}`), "/etc/vxpipe/x.yaml");
}

function lines(problems: readonly { line: number; column: number; message: string }[]): string[] {
  return problems.map(({ line, column, message }) => `${line}:${column}: ${message}`);
}

const pool = 'pools: [{ addresses: ["203.0.113.1"] }]';

function planWith(source: string, rest = ""): Plan {
  const { config, problems } = check(source, rest);
  return planOf(config ?? assert.fail(JSON.stringify(problems)), null);
}

test("a pool is all that source NAT needs: the rest has the defaults that the contract shows", () => {
  const { config, warnings } = check(pool);
  assert.deepEqual(warnings, []);
  assert.deepEqual(config?.nat.source, {
    pools: [{ addresses: ["203.0.113.1"], ports: "1024-65535", vnis: "any", allowPrivate: false }],
    mapping: "endpoint-independent",
    filtering: "address-and-port-dependent",
    pooling: "paired",
    blocks: { size: 128, perSubscriber: 8 },
    limits: { sessionsPerSubscriber: 2000, newSessionsPerSecond: 200 },
    maxSessions: 1000000,
    hairpin: true,
    exclude: [],
    forwards: [],
    gateways: [],
    mssClamp: "off",
    icmpErrors: { inside: true, outside: false },
    tcpMidstream: "create",
    timeouts: { tcpEstablished: 7440, tcpTransitory: 240, udp: 300, icmp: 60, portHold: 120 },
    records: { file: null, sessions: false, netflow: null, ipfix: null },
  });
});

test("what the contract calls legal is: timeouts of a second, blocks of 64, a pool of one block, low ports", () => {
  const timeouts = "timeouts: { tcpEstablished: 1, tcpTransitory: 1, udp: 1, icmp: 1, portHold: 1 }";
  const one =
    'pools: [{ addresses: ["203.0.113.1"], ports: "2048-2111" }, { addresses: ["203.0.113.2"], ports: "0-65535" }]';
  const { problems, warnings } = check(`${one}, blocks: { size: 64, perSubscriber: 1 }, ${timeouts}`);
  assert.deepEqual([problems, warnings], [[], []]);
});

const wrong: [title: string, source: string, problem: string, rest?: string, start?: string][] = [
  ["source NAT without pools is refused", "hairpin: true", "3:8: nat.source.pools is missing"],
  [
    "a pool without addresses is refused",
    "pools: [{ ports: '1024-2047' }]",
    "3:26: nat.source.pools[0].addresses is missing",
  ],
  [
    "a private address in a pool is refused, and what allows it is said",
    'pools: [{ addresses: ["203.0.113.1", "10.1.0.0/28"] }]',
    "3:55: nat.source.pools[0].addresses[1]: 10.1.0.0 is private (10.0.0.0/8); allowPrivate: true in the pool allows it",
  ],
  [
    "a range that reaches into shared addresses (RFC 6598) is private",
    'pools: [{ addresses: ["100.63.255.250-100.64.0.5"] }]',
    "3:40: nat.source.pools[0].addresses[0]: 100.64.0.0 is private (100.64.0.0/10); allowPrivate: true in the pool allows it",
  ],
  [
    "a multicast address is refused whatever the pool allows",
    'pools: [{ addresses: ["224.0.0.1"], allowPrivate: true }]',
    "3:40: nat.source.pools[0].addresses[0]: 224.0.0.1 is a multicast address, not a host's",
  ],
  [
    "a range that runs backwards is refused",
    'pools: [{ addresses: ["203.0.113.9-203.0.113.1"] }]',
    '3:40: nat.source.pools[0].addresses[0]: "203.0.113.9-203.0.113.1" runs backwards: the lower address comes first',
  ],
  [
    "an IPv6 pool is refused",
    'pools: [{ addresses: ["2001:db8::1"] }]',
    '3:40: nat.source.pools[0].addresses[0]: "2001:db8::1": source NAT translates IPv4 only',
  ],
  [
    "more addresses than there is memory for are refused",
    'pools: [{ addresses: ["198.0.0.0/15"] }]',
    '3:40: nat.source.pools[0].addresses[0]: "198.0.0.0/15" has 131072 addresses, more than 16384',
  ],
  [
    "an address that is twice in a pool is refused",
    'pools: [{ addresses: ["203.0.113.0/28", "203.0.113.15"] }]',
    "3:58: nat.source.pools[0].addresses[1]: 203.0.113.15 is in this pool already, in line 3",
  ],
  [
    "pools for the same VNIs may not share an address",
    'pools: [{ addresses: ["203.0.113.1"], vnis: ["100-199"] }, { addresses: ["203.0.113.1"], vnis: [1, 150] }]',
    "3:91: nat.source.pools[1].addresses[0]: 203.0.113.1 is in another pool for the same VNIs, in line 3",
  ],
  [
    "a pool for any VNI overlaps every other",
    'pools: [{ addresses: ["203.0.113.1"], vnis: [7] }, { addresses: ["203.0.113.0/30"] }]',
    "3:83: nat.source.pools[1].addresses[0]: 203.0.113.1 is in another pool for the same VNIs, in line 3",
  ],
  [
    "a port range without a whole block is refused",
    'pools: [{ addresses: ["203.0.113.1"], ports: "1030-1200" }]',
    "3:63: nat.source.pools[0].ports: 1030-1200 has no whole block of 128 ports",
  ],
  [
    "ports above 65535 are refused",
    'pools: [{ addresses: ["203.0.113.1"], ports: "1024-65536" }]',
    "3:63: nat.source.pools[0].ports: port 65536 is above 65535",
  ],
  [
    "a block size that is no power of two is refused",
    `${pool}, blocks: { size: 100 }`,
    "3:75: nat.source.blocks.size must be a power of two from 64 to 8192, not 100",
  ],
  [
    "a timeout of nothing is refused",
    `${pool}, timeouts: { udp: 0 }`,
    "3:76: nat.source.timeouts.udp must be a whole number from 1 to 604800, not 0",
  ],
  [
    "a forward must be on a pool address",
    `${pool}, forwards: [{ outside: "203.0.113.2:80", protocol: tcp, inside: "10.0.0.5:80", vni: 1 }]`,
    "3:81: nat.source.forwards[0].outside: 203.0.113.2 is no pool address",
  ],
  [
    "a forward for any collides with one for tcp",
    `${pool}, forwards: [{ outside: "203.0.113.1:80", protocol: any, inside: "10.0.0.5:80", vni: 1 }, { outside: "203.0.113.1:80", protocol: tcp, inside: "10.0.0.6:80", vni: 1 }]`,
    "3:147: nat.source.forwards[1]: tcp 203.0.113.1:80 is forwarded already, in line 3",
  ],
  [
    "a forward inside VXLAN needs a VNI",
    `${pool}, forwards: [{ outside: "203.0.113.1:80", protocol: tcp, inside: "10.0.0.5:80" }]`,
    "3:70: nat.source.forwards[0]: vni is missing",
  ],
  [
    "a forward's VNI must be one of ours",
    `${pool}, forwards: [{ outside: "203.0.113.1:80", protocol: tcp, inside: "10.0.0.5:80", vni: 9 }]`,
    "3:142: nat.source.forwards[0].vni: VNI 9 is not in inside.vxlan.vnis",
    "",
    "inside: { interface: in0, vxlan: { vnis: [1, '10-20'] } }\noutside: { interface: out0 }\n",
  ],
  [
    "an inside host of a forward may not have a pool address",
    `${pool}, forwards: [{ outside: "203.0.113.1:80", protocol: tcp, inside: "203.0.113.1:80", vni: 1 }]`,
    "3:122: nat.source.forwards[0].inside: 203.0.113.1 is a pool address, not an inside host's",
  ],
  [
    "with plain Ethernet inside nothing has a VNI",
    `${pool}, gateways: [{ vni: 1, address: 10.0.0.1 }]`,
    "3:77: nat.source.gateways[0].vni: there are no VNIs inside: inside.vxlan is absent",
    "",
    ethernet,
  ],
  [
    "a gateway that is given twice is refused",
    `${pool}, gateways: [{ vni: 1, address: 10.0.0.1 }, { vni: 1, address: 10.0.0.1 }]`,
    "3:101: nat.source.gateways[1]: 10.0.0.1 is a gateway there already, in line 3",
  ],
  [
    "a gateway's address in a pool belongs to the inside",
    `${pool}, gateways: [{ vni: 1, address: 203.0.113.1 }]`,
    "3:40: nat.source.pools[0].addresses[0]: 203.0.113.1 belongs to the inside: it is a gateway, in line 3",
  ],
  [
    "the tunnels' address in a pool belongs to the inside",
    'pools: [{ addresses: ["198.51.100.0/30"] }]',
    "3:40: nat.source.pools[0].addresses[0]: 198.51.100.2 belongs to the inside: it is inside.vxlan.local, in line 1",
    "",
    "inside: { interface: in0, vxlan: { local: 198.51.100.2 } }\noutside: { interface: out0 }\n",
  ],
  [
    "an excluded destination is an IPv4 prefix",
    `${pool}, exclude: ["2001:db8::/32"]`,
    '3:69: nat.source.exclude[0]: "2001:db8::/32" is not an IPv4 address or prefix such as 192.0.2.0/24',
  ],
  [
    "the datapath xdp is refused in a sentence",
    pool,
    "4:11: datapath: xdp does no source NAT; it is for afxdp, ringbuf or auto, where workers send",
    "datapath: xdp\n",
  ],
  [
    "static rules together with source NAT are refused in a sentence",
    `${pool} }, destination: [{ protocol: udp, port: 53, to: "192.0.2.1:53" }], source2: { `,
    "3:74: nat.destination: not together with nat.source yet: replies would not be translated back",
  ],
  [
    "a collector has a port",
    `${pool}, records: { netflow: "192.0.2.1" }`,
    '3:79: nat.source.records.netflow: "192.0.2.1" is not HOST:PORT such as 192.0.2.1:4739 or collector.example.net:4739',
  ],
  [
    "a collector's address is one",
    `${pool}, records: { ipfix: "192.0.2.300:4739" }`,
    '3:77: nat.source.records.ipfix: "192.0.2.300" is not an address or a host\'s name',
  ],
];

for (const [title, source, problem, rest = "", start = head] of wrong) {
  test(title, () => {
    const found = lines(check(source, rest, start).problems);
    assert.ok(found.includes(problem), found.join("\n"));
  });
}

test("every error of source NAT is reported, not only the first", () => {
  const found = lines(
    check(
      'pools: [{ addresses: ["10.0.0.1", "192.168.0.1", "nowhere"], ports: "9-8" }], mapping: symmetric',
      "datapath: xdp\n",
    ).problems,
  );
  assert.equal(found.length, 6, found.join("\n"));
});

test("pools for different VNIs may share an address", () => {
  const source = 'pools: [{ addresses: ["203.0.113.1"], vnis: [1] }, { addresses: ["203.0.113.1"], vnis: ["2-9"] }]';
  assert.deepEqual(check(source).problems, []);
});

test("an unaligned range of ports is legal, and its lost ports are a warning with a place", () => {
  const { config, warnings } = check('pools: [{ addresses: ["203.0.113.1"], ports: "1000-2000" }]');
  assert.ok(config !== null);
  assert.deepEqual(lines(warnings), [
    "3:63: nat.source.pools[0].ports: 1000-2000 is not whole blocks of 128 ports; 1024-1919 is given out, 105 are lost",
  ]);
});

test("a records file is relative to the configuration", () => {
  assert.equal(planWith(`${pool}, records: { file: log/nat.jsonl }`).recordsFile, "/etc/vxpipe/log/nat.jsonl");
});

test("the plan has a pool's addresses one by one in network order, and a forward for any twice", () => {
  const { sourceNat } = planWith(
    'pools: [{ addresses: ["203.0.113.254-203.0.114.1"], vnis: [5, 6] }], exclude: [192.0.2.0/24], ' +
      'forwards: [{ outside: "203.0.114.0:80", protocol: any, inside: "10.0.0.5:8080", vni: 5 }]',
  ).datapath;
  const [one] = sourceNat?.pools ?? [];
  assert.deepEqual([...(one?.addresses ?? [])], [203, 0, 113, 254, 203, 0, 113, 255, 203, 0, 114, 0, 203, 0, 114, 1]);
  assert.deepEqual([...(one?.vnis ?? [])], [5, 6]);
  assert.deepEqual(
    sourceNat?.forwards.map(({ protocol, port, insidePort, vni }) => [protocol, port, insidePort, vni]),
    [
      [6, 80, 8080, 5],
      [17, 80, 8080, 5],
    ],
  );
  assert.deepEqual(
    sourceNat?.exclude.map(({ address, length }) => [...address, length]),
    [[192, 0, 2, 0, 24]],
  );
});

test("a change of source NAT needs a restart, and so does adding it", () => {
  const base = planOf(checkConfig(Buffer.from(head), "x").config ?? assert.fail(), null);
  const one = planWith(pool);
  const added = plan(base, one).map((action) => (action.do === "needsRestart" ? action.keys : action.do));
  assert.deepEqual(added, [["nat.source"]]);
  assert.deepEqual(plan(one, planWith(`${pool}, hairpin: false`)), [{ do: "needsRestart", keys: ["nat.source"] }]);
  assert.deepEqual(plan(one, planWith(pool)), []);
});

test("with source NAT the workers send from the start, once their ways out have been tried", () => {
  const [create, ...rest] = plan(null, planWith(pool));
  assert.ok(create?.do === "create" && create.choice.mode === "afxdp" && create.choice.best, JSON.stringify(create));
  assert.equal(create.choice.why, "workers send, fed by AF_XDP sockets; source NAT is the workers'");
  assert.deepEqual(
    rest.map((action) => action.do),
    ["tryOutside", "setAllowlist", "setRules", "attach"],
  );
});

test("a pool that serves none of our VNIs is probably not meant, and one that serves some is", () => {
  const pools =
    'pools: [{ addresses: ["203.0.113.1"], vnis: [5, "30-40"] }, { addresses: ["203.0.113.2"], vnis: ["15-99"] }]';
  const ours = "inside: { interface: in0, vxlan: { vnis: [1, '10-20'] } }\noutside: { interface: out0 }\n";
  const { problems, warnings } = check(pools, "", ours);
  assert.deepEqual(problems, []);
  assert.deepEqual(lines(warnings), [
    "3:62: nat.source.pools[0].vnis: none of them is in inside.vxlan.vnis; nobody has this pool",
  ]);
});

test("workers together have room for more sessions than are wanted, so that uneven hashing refuses nobody", () => {
  assert.equal(sessionsPerWorker(1_000_000, 1, 2000), 1_000_000);
  assert.equal(sessionsPerWorker(1_000_000, 4, 2000), 314_500);
  assert.equal(sessionsPerWorker(100, 4, 2000), 100);
});

test("tunnels come from the interface's first address, IPv4 before IPv6, and there must be one", () => {
  assert.equal(tunnelAddress("in0", ["fe80::1", "2001:db8::1", "192.0.2.1", "192.0.2.2"]), "192.0.2.1");
  assert.equal(tunnelAddress("in0", ["fe80::1", "2001:db8::1"]), "2001:db8::1");
  assert.throws(() => tunnelAddress("in0", ["fe80::1"]), { code: "ADDRESS_MISSING" });
});

test("an address of the inside interface may be in no pool, and one of the outside interface is worth a warning", () => {
  const nat = planWith(pool).datapath.sourceNat as SourceNatWanted;
  refuseInsideAddresses(nat, "in0", ["192.0.2.1", "2001:db8::1"]);
  assert.throws(() => refuseInsideAddresses(nat, "in0", ["192.0.2.1", "203.0.113.1"]), { code: "POOL_ADDRESS_INSIDE" });
  assert.equal(warnOfOutsideAddresses(nat, "out0", ["192.0.2.1", "2001:db8::1"]), null);
  assert.match(warnOfOutsideAddresses(nat, "out0", ["192.0.2.1", "203.0.113.1"]) ?? "", /^203\.0\.113\.1 is in a pool/);
});

test("records of sessions that nobody keeps are warned of", () => {
  assert.deepEqual(lines(check(`${pool}, records: { sessions: true }`).warnings), [
    "3:80: nat.source.records.sessions: nobody keeps them without records.file, .ipfix or .netflow",
  ]);
  assert.deepEqual(check(`${pool}, records: { sessions: true, ipfix: "collector.example.net:4739" }`).warnings, []);
});
