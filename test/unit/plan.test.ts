// plan(old, new): what is done, what waits for a restart, and nothing else.
import assert from "node:assert/strict";
import { test } from "node:test";
import { add, nothingAllowed, parseEntries, remove, type Allowlist } from "../../src/pipeline/allowlist/edit.js";
import { checkConfig } from "../../src/pipeline/config/check.js";
import { plan, planOf, type Plan } from "../../src/pipeline/plan.js";
import { addRule, compileRules, parseRule, removeRule } from "../../src/pipeline/rules.js";

function planFrom(extra: string, allowlist: Allowlist | null = null): Plan {
  const text = `inside: { interface: in0, vxlan: {} }\noutside: { interface: out0 }\n${extra}`;
  const { config, problems } = checkConfig(Buffer.from(text), "x.yaml");
  assert.ok(config !== null, JSON.stringify(problems));
  return planOf(config, allowlist);
}

const list = (...entries: string[]): Allowlist => add(nothingAllowed, parseEntries(entries));
const rules = (target: string): string => `nat: { destination: [{ protocol: udp, port: 53, to: "${target}" }] }\n`;

test("from nothing: the gateway is filled before it is attached", () => {
  assert.deepEqual(
    plan(null, planFrom("")).map((action) => action.do),
    ["create", "tryOutside", "setAllowlist", "setRules", "attach"],
  );
  assert.deepEqual(
    plan(null, planFrom("datapath: xdp\n")).map((action) => action.do),
    ["create", "setAllowlist", "setRules", "attach"],
  );
});

test("from a plan to the same plan nothing is done", () => {
  assert.deepEqual(
    plan(planFrom(rules("192.0.2.1:53"), list("192.0.2.1")), planFrom(rules("192.0.2.1:53"), list("192.0.2.1"))),
    [],
  );
});

test("a changed list is set again, and only that", () => {
  const wanted = planFrom("", list("192.0.2.2"));
  assert.deepEqual(plan(planFrom("", list("192.0.2.1")), wanted), [
    { do: "setAllowlist", allowlist: wanted.allowlist },
  ]);
});

test("no list and an empty list are not the same", () => {
  assert.deepEqual(plan(planFrom("", null), planFrom("", nothingAllowed)), [
    { do: "setAllowlist", allowlist: nothingAllowed },
  ]);
});

test("changed rules are set again, and only those", () => {
  const actions = plan(planFrom(rules("192.0.2.1:53")), planFrom(rules("192.0.2.2:53")));
  assert.deepEqual(
    actions.map((action) => action.do),
    ["setRules"],
  );
});

test("the order of rules is no change", () => {
  const one = { protocol: "udp", port: 1, to: "192.0.2.1:1" } as const;
  const two = { protocol: "tcp", port: 2, to: "192.0.2.2:2" } as const;
  const base = planFrom("");
  assert.deepEqual(plan({ ...base, rules: [one, two] }, { ...base, rules: [two, one] }), []);
});

test("what the packet path is made with needs a restart, and says which keys", () => {
  const actions = plan(
    planFrom(""),
    planFrom("packet: { ipv6: forward }\nworkers: { batch: 32 }\ncontrol: { listen: '127.0.0.1:1' }\n"),
  );
  assert.deepEqual(actions, [{ do: "needsRestart", keys: ["packet.ipv6", "workers", "control.listen"] }]);
});

test("the plan of a configuration has binary values in the ABI's layout", () => {
  const { datapath } = planOf(
    checkConfig(
      Buffer.from(
        'inside: { interface: a, vxlan: { vnis: [7, 1, "100-199"], local: 192.0.2.1, peers: [10.0.0.0/8, "2001:db8::/32"] } }\noutside: { interface: b, nextHop: "02:00:00:00:00:03" }\nallowlist: { match: destination }\n',
      ),
      "x",
    ).config ?? assert.fail(),
    nothingAllowed,
  );
  assert.deepEqual([...(datapath.vnis ?? [])], [1, 1, 7, 7, 100, 199]);
  assert.deepEqual([...(datapath.local ?? [])], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 1]);
  assert.deepEqual(
    [...(datapath.peers ?? [])].slice(0, 20),
    [104, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 0],
  );
  assert.deepEqual([...(datapath.peers ?? [])].slice(20, 28), [32, 0, 0, 0, 0x20, 0x01, 0x0d, 0xb8]);
  assert.deepEqual([...(datapath.nextHop ?? [])], [2, 0, 0, 0, 0, 3]);
  assert.equal(datapath.match, 2);
});

test("a rule for any becomes one record for TCP and one for UDP", () => {
  assert.deepEqual(
    [...compileRules([{ protocol: "any", port: 0x1234, to: "192.0.2.1:80" }])],
    [0x12, 0x34, 6, 0, 192, 0, 2, 1, 0, 80, 0, 0, 0x12, 0x34, 17, 0, 192, 0, 2, 1, 0, 80, 0, 0],
  );
});

test("a rule is added once, refused when it contradicts, and removed by its key", () => {
  const rule = parseRule({ protocol: "udp", port: "53", to: "192.0.2.1:53" });
  const one = addRule([], rule);
  assert.equal(addRule(one, rule), one);
  assert.throws(() => addRule(one, { ...rule, to: "192.0.2.2:53" }), { code: "RULE_EXISTS" });
  assert.throws(() => addRule(one, { ...rule, protocol: "any" }), { code: "RULE_EXISTS" });
  assert.deepEqual(removeRule(one, rule), []);
  assert.throws(() => removeRule(one, { protocol: "tcp", port: 53 }), { code: "RULE_NOT_FOUND" });
});

test("removing what is not listed removes nothing and says what covers it", () => {
  const old = list("10.0.0.0/8", "192.0.2.1");
  assert.throws(() => remove(old, parseEntries(["192.0.2.1", "10.0.0.1"])), {
    code: "ADDRESS_NOT_LISTED",
    message: "10.0.0.1 is not on the list itself; 10.0.0.0/8 covers it",
  });
  assert.equal(remove(old, parseEntries(["192.0.2.1", "192.0.2.1"])).count, 1);
});

test("a prefix that is removed uncovers the addresses that were listed below it", () => {
  const before = list("10.0.0.0/8", "10.0.0.1");
  assert.equal(before.compiled.exact4.length, 0);
  assert.deepEqual([...remove(before, parseEntries(["10.0.0.0/8"])).compiled.exact4], [10, 0, 0, 1]);
});
