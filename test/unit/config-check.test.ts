// What `config check` says: every error, where it is, and in words.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { checkConfig } from "../../src/pipeline/config/check.js";
import { schema } from "../../src/pipeline/config/schema.js";

const root = new URL("../../../", import.meta.url).pathname;

function check(text: string): string[] {
  return checkConfig(Buffer.from(text), "/etc/vxpipe/x.yaml").problems.map(
    ({ line, column, message }) => `${line}:${column}: ${message}`,
  );
}

const valid = "inside: { interface: in0, vxlan: {} }\noutside: { interface: out0 }\n";

test("a minimal configuration gets the defaults that the contract shows", () => {
  const { config } = checkConfig(Buffer.from(valid), "x.yaml");
  assert.deepEqual(config, {
    version: 1,
    inside: { interface: "in0", vxlan: { port: 4789, vnis: "any", local: "any", peers: "any" } },
    outside: { interface: "out0", nextHop: "auto" },
    datapath: "auto",
    workers: { count: "auto", cpus: "auto", batch: 64, polling: "adaptive", priority: "off" },
    nat: { destination: [] },
    packet: { clearDontFragment: false, truncated: "drop", ipv6: "drop", decrementTtl: false },
    control: { listen: "127.0.0.1:9470", socket: "/run/vxpipe/vxpipe.sock" },
    log: { level: "info" },
    state: { directory: "/var/lib/vxpipe", bpffs: "/sys/fs/bpf/vxpipe" },
  });
});

test("every example in config/ is valid", () => {
  for (const name of ["example", "minimal", "ethernet", "source-nat"]) {
    const file = `${root}config/${name}.yaml`;
    assert.deepEqual(checkConfig(readFileSync(file), file).problems, [], name);
  }
});

test("the full examples name every key of the schema", () => {
  const text = ["example", "source-nat"].map((name) => readFileSync(`${root}config/${name}.yaml`, "utf8")).join("");
  const keys = (node: object): string[] =>
    "items" in node
      ? keys(node.items as object)
      : "properties" in node
        ? Object.entries(node.properties as Record<string, object>).flatMap(([key, child]) => [key, ...keys(child)])
        : [];
  const missing = keys(schema).filter((key) => !new RegExp(`\\b${key}:`, "m").test(text));
  assert.deepEqual(missing, []);
});

test("an omitted vxlan section means plain Ethernet, a present and empty one all defaults", () => {
  const ethernet = checkConfig(Buffer.from("inside: { interface: a }\noutside: { interface: b }\n"), "x").config;
  assert.equal(ethernet?.inside.vxlan, undefined);
  const empty = checkConfig(Buffer.from("inside:\n  interface: a\n  vxlan:\noutside: { interface: b }\n"), "x").config;
  assert.equal(empty?.inside.vxlan?.port, 4789);
});

test("an allowlist section that is present and empty stays present", () => {
  assert.deepEqual(checkConfig(Buffer.from(`${valid}allowlist:\n`), "x").config?.allowlist, { match: "either" });
  assert.equal(checkConfig(Buffer.from(valid), "x").config?.allowlist, undefined);
});

test("all errors are reported at once, in the order of the file", () => {
  assert.deepEqual(
    check(
      "inside:\n  interfaces: in0\n  vxlan: { port: 0, vnis: [1, '9-5'] }\noutside: { interface: out0, nextHop: 01:00:5e:00:00:01 }\ndatapath: xpd\n",
    ),
    [
      "1:1: inside.interface is missing",
      '2:3: unknown key "interfaces" in inside; did you mean interface?',
      "3:18: inside.vxlan.port must be a port from 1 to 65535, not 0",
      `3:31: inside.vxlan.vnis[1]: "9-5" runs backwards: the lower VNI comes first`,
      "4:38: outside.nextHop: 01:00:5e:00:00:01 is a multicast MAC address; a next hop has a unicast one",
      '5:11: datapath must be auto, xdp, afxdp or ringbuf, not "xpd"; did you mean xdp?',
    ],
  );
});

const cases: [title: string, text: string, problem: string][] = [
  [
    "more workers than there are slots for are refused",
    `${valid}workers: { count: 65 }\n`,
    "3:19: workers.count must be auto or a number from 1 to 64, not 65",
  ],
  [
    "the outside interface may not be the inside one",
    "inside: { interface: a }\noutside: { interface: a }\n",
    "2:23: outside.interface is the inside interface: a",
  ],
  [
    "a rule for any collides with one for udp",
    `${valid}nat:\n  destination:\n    - { protocol: any, port: 53, to: 192.0.2.1:53 }\n    - { protocol: udp, port: 53, to: 192.0.2.2:53 }\n`,
    "6:7: nat.destination[1]: udp port 53 has a rule already, in line 5",
  ],
  [
    "an IPv6 rule target is refused",
    `${valid}nat: { destination: [{ protocol: tcp, port: 1, to: "[2001:db8::1]:1" }] }\n`,
    "3:52: nat.destination[0].to: 2001:db8::1: static rules translate IPv4 only",
  ],
  [
    "an allowlist file that is missing is named with its path",
    `${valid}allowlist: { file: nowhere.json }\n`,
    "3:20: allowlist.file: /etc/vxpipe/nowhere.json: there is no such file",
  ],
  ["a duplicate key is an error where it repeats", `${valid}log: {}\nlog: {}\n`, '4:1: key "log" is here twice'],
  [
    "YAML 1.2 has no yes",
    `${valid}packet: { decrementTtl: yes }\n`,
    '3:25: packet.decrementTtl must be true or false, not "yes"',
  ],
  [
    "a tunnel address may not be multicast",
    "inside: { interface: a, vxlan: { local: 239.1.1.1 } }\noutside: { interface: b }\n",
    "1:41: inside.vxlan.local: 239.1.1.1 is a multicast address, not a host's",
  ],
  [
    "a port that nobody could know is refused",
    `${valid}control: { listen: "127.0.0.1:0" }\n`,
    "3:20: control.listen: port 0 is not between 1 and 65535",
  ],
  [
    "a second document is an error, not ignored",
    `${valid}---\nallowlist:\n`,
    "3:1: a second YAML document starts here; a configuration is one",
  ],
  ["an empty file says so", "", "1:1: the configuration is empty"],
  ["a self-referring alias says so", "inside: &a { x: *a }\n", "1:17: refers to itself"],
  ["a binary file says so", "inside\u0000", "1:7: control character 0x00: this is not a YAML text"],
  ["deep nesting says so", "[".repeat(5000), "1:820: is nested too deeply"],
  [
    "a tab as indentation is a syntax error with its place",
    "inside:\n\tinterface: a\n",
    "2:1: tabs are not allowed as indentation",
  ],
];

for (const [title, text, problem] of cases) {
  test(title, () => {
    const found = check(text);
    const exact = found.includes(problem);
    // The parser's stack decides how deep is too deep.
    const deep = problem.endsWith("too deeply") && found.some((line) => line.endsWith("is nested too deeply"));
    assert.ok(exact || deep, found.join("\n"));
  });
}

test("a key beyond all known ones is answered with the known ones", () => {
  assert.deepEqual(check(`${valid}zzzzzz: 1\n`), [
    '3:1: unknown key "zzzzzz"; known: version, inside, outside, datapath, workers, allowlist, nat, packet, control, log, state',
  ]);
});

test("CPUs beyond the workers are legal, and that they are left unused is a warning with a place", () => {
  const warned = (workers: string): string[] =>
    checkConfig(Buffer.from(`${valid}workers: { ${workers} }\n`), "x.yaml").warnings.map(
      ({ line, column, message }) => `${line}:${column}: ${message}`,
    );
  assert.deepEqual(warned("count: 1, cpus: [0, 1]"), ["3:32: workers.cpus: workers.count is 1: CPU 1 is left unused"]);
  assert.deepEqual(warned("count: 2, cpus: [4, 5, 4, 6, 7, 6]"), [
    "3:38: workers.cpus: workers.count is 2: CPU 6, 7 are left unused",
  ]);
  for (const fit of [
    "count: 2, cpus: [0, 1]",
    "count: 3, cpus: [0, 1]",
    "count: 1, cpus: [1, 1]",
    "count: 1",
    "cpus: [0, 1]",
  ])
    assert.deepEqual(warned(fit), [], fit);
});

test("an alias bomb is refused quickly", () => {
  const lines = Array.from({ length: 30 }, (_, i) => `b${i + 1}: &b${i + 1} [${Array(10).fill(`*b${i}`).join(", ")}]`);
  const found = check(`b0: &b0 [x]\n${lines.join("\n")}\n`);
  assert.ok(
    found.some((line) => line.includes("aliases")),
    found[0],
  );
});

test("a configuration above 1 MiB is refused without being parsed", () => {
  assert.deepEqual(check(" ".repeat(1024 * 1024 + 1)), [
    "1:1: is larger than 1 MiB: addresses belong in an allowlist file, which may be large",
  ]);
});

test("a key named __proto__ is an unknown key and nothing else", () => {
  assert.deepEqual(check(`${valid}__proto__: { log: 1 }\n`).length, 1);
});
