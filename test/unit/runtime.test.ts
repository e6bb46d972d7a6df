// Changes of the running gateway: all of one or nothing of it, whatever fails in the packet path.
import assert from "node:assert/strict";
import { test } from "node:test";
import { add, nothingAllowed, parseEntries, remove } from "../../src/pipeline/allowlist/edit.js";
import { texts } from "../../src/pipeline/allowlist/table.js";
import { Applier } from "../../src/pipeline/apply.js";
import { checkConfig } from "../../src/pipeline/config/check.js";
import { EventLog } from "../../src/pipeline/events.js";
import { planOf, type Plan } from "../../src/pipeline/plan.js";
import { compileRules } from "../../src/pipeline/rules.js";
import { Runtime, type Coming } from "../../src/pipeline/runtime.js";
import { simulate, type SimulatedGateway } from "./simulated-native.js";

const base = "inside: { interface: in0, vxlan: { vnis: [1, 2], peers: [10.0.0.0/8] } }\noutside: { interface: out0 }\n";
const rule = { protocol: "udp", port: 53, to: "192.0.2.1:53" } as const;
const other = { protocol: "tcp", port: 80, to: "192.0.2.1:80" } as const;

function planFrom(text: string, ...entries: string[]): Plan {
  const { config, problems } = checkConfig(Buffer.from(text), "x");
  assert.ok(config !== null, JSON.stringify(problems));
  return planOf(config, add(nothingAllowed, parseEntries(entries)));
}

async function running(): Promise<{ runtime: Runtime; gateway: SimulatedGateway; levels: string[] }> {
  const { native, gateways } = simulate();
  const levels: string[] = [];
  const runtime = new Runtime(
    new Applier(native, (level) => levels.push(level)),
    new EventLog(() => undefined),
    native,
  );
  await runtime.start({ ...planFrom(`${base}allowlist:\n`, "10.0.0.1"), rules: [rule] });
  return { runtime, gateway: gateways[0] ?? assert.fail(), levels };
}

function kernelOf({ allowlist, rules }: SimulatedGateway): unknown {
  return { list: allowlist === null ? null : [...texts(allowlist)], rules: [...rules] };
}

function withEntry(plan: Plan, text: string): Plan {
  return { ...plan, allowlist: add(plan.allowlist ?? nothingAllowed, parseEntries([text])) };
}

const before = { list: ["10.0.0.1"], rules: [...compileRules([rule])] };

test("a reload whose rules are refused takes its list back: plan and packet path are as before, and agree", async () => {
  const { runtime, gateway } = await running();
  const old = runtime.plan;
  gateway.failing.add("setRules");
  const wanted = { ...planFrom(`${base}allowlist:\n`, "10.0.0.2"), rules: [other] };
  await assert.rejects(
    runtime.reload(wanted, () => true),
    { code: "MAP_FAILED" },
  );
  assert.deepEqual(kernelOf(gateway), before);
  assert.deepEqual([runtime.plan.allowlist, runtime.plan.rules], [old.allowlist, old.rules]);
  await runtime.reload(wanted, () => true);
  assert.deepEqual(kernelOf(gateway), { list: ["10.0.0.2"], rules: [...compileRules([other])] });
});

test("a reload whose list is refused changes nothing", async () => {
  const { runtime, gateway } = await running();
  gateway.failing.add("setAllowlist");
  const wanted = { ...planFrom(`${base}allowlist:\n`, "10.0.0.2"), rules: [other] };
  await assert.rejects(runtime.reload(wanted, () => true));
  assert.deepEqual(kernelOf(gateway), before);
  assert.deepEqual(runtime.plan.rules, [rule]);
});

test("what cannot be taken back either is what the plan says", async () => {
  const { runtime, gateway } = await running();
  const { setRules } = gateway;
  gateway.setRules = async (rules) => {
    gateway.failing.add("setRules");
    await setRules.call(gateway, rules);
  };
  const wanted = { ...planFrom(`${base}allowlist:\n`, "10.0.0.2"), rules: [other] };
  await assert.rejects(runtime.reload(wanted, () => true));
  assert.deepEqual([...texts(gateway.allowlist ?? assert.fail())], ["10.0.0.2"]);
  assert.deepEqual(runtime.plan.allowlist, wanted.allowlist);
  assert.ok(runtime.events.list().some(({ event }) => event === "rollback_failed"));
});

test("an edit changes the tables in place, and one that finds no room there replaces them", async () => {
  const { runtime, gateway } = await running();
  gateway.calls.length = 0;
  const put = (text: string): Promise<string | null> => runtime.change((plan) => withEntry(plan, text), "x");
  await put("10.0.0.2");
  assert.deepEqual(gateway.calls, ["editAllowlist"]);
  gateway.failing.add("editAllowlist");
  await put("10.0.0.0/30");
  assert.deepEqual(gateway.calls, ["editAllowlist", "editAllowlist", "setAllowlist"]);
  assert.deepEqual([...texts(gateway.allowlist ?? assert.fail())], ["10.0.0.0/30"]);
  await runtime.change(
    (plan) => ({ ...plan, allowlist: remove(plan.allowlist ?? nothingAllowed, parseEntries(["10.0.0.0/30"])) }),
    "y",
  );
  assert.deepEqual([...texts(gateway.allowlist ?? assert.fail())], ["10.0.0.1", "10.0.0.2"]);
});

test("a reload says beforehand what it will do, what only a restart does, and which edits go", async () => {
  const { runtime, gateway } = await running();
  await runtime.change((plan) => ({ ...plan, rules: [rule, other] }), "nat rule add");
  await runtime.change((plan) => ({ ...plan, rules: [rule] }), "nat rule remove");
  gateway.calls.length = 0;
  const text = base.replace("[1, 2]", "[1, 3]").replace("out0 }", 'out0, nextHop: "02:00:00:00:00:09" }');
  const wanted = planFrom(`${text}allowlist:\nlog: { level: warn }\n`, "10.0.0.1", "10.0.0.2");
  let told: Coming | null = null;
  const look = (go: boolean) => (coming: Coming) => {
    assert.deepEqual(gateway.calls, []);
    told = coming;
    return go;
  };
  const expected = {
    actions: [
      "allowlist: 1 entries become 2 entries, in place",
      "nat.destination: 1 rules become 0, in place",
      "inside.vxlan: vnis and peers change in place",
      "log.level: info becomes warn",
      "only a restart changes outside.nextHop: left as before",
    ],
    restart: ["outside.nextHop"],
    dropped: ["nat rule add", "nat rule remove"],
  };
  await runtime.reload(wanted, look(false));
  assert.deepEqual(told, expected);
  assert.deepEqual(kernelOf(gateway), before);
  await runtime.reload(wanted, look(true));
  assert.deepEqual(told, expected);
  assert.deepEqual([...(gateway.filters?.vnis ?? [])], [1, 1, 3, 3]);
  gateway.calls.length = 0;
  await runtime.reload(wanted, look(true));
  assert.deepEqual(told, { actions: [expected.actions[4]], restart: ["outside.nextHop"], dropped: [] });
});

test("of many unsaved edits the last hundred are named and the others counted", async () => {
  const { runtime } = await running();
  for (let edit = 0; edit < 103; edit++) await runtime.change((plan) => ({ ...plan }), `edit ${edit}`);
  const named = runtime.unsaved.list();
  assert.deepEqual([named.length, named[0], named[1], named.at(-1)], [101, "3 earlier ones", "edit 3", "edit 102"]);
});

test("an edit that changes nothing is none that a reload could drop, and one of the whole list ends those before it", async () => {
  const { runtime } = await running();
  await runtime.change((plan) => plan, "nothing");
  await runtime.change((plan) => ({ ...plan, rules: [rule, other] }), "nat rule add");
  for (const text of ["10.0.0.2", "10.0.0.3"]) await runtime.change((plan) => withEntry(plan, text), `add ${text}`);
  assert.deepEqual(runtime.unsaved.list(), ["nat rule add", "add 10.0.0.2", "add 10.0.0.3"]);
  const whole = { wholeList: true };
  await runtime.change((plan) => ({ ...plan, allowlist: nothingAllowed }), "clear", null, whole);
  assert.deepEqual(runtime.unsaved.list(), ["nat rule add", "clear"]);
  const nothing = (): Promise<void> => Promise.resolve();
  const saved = { path: "list.txt", commit: nothing, abandon: nothing };
  await runtime.change(
    (plan) => withEntry(plan, "10.0.0.4"),
    "import",
    () => Promise.resolve(saved),
    whole,
  );
  assert.deepEqual(runtime.unsaved.list(), ["nat rule add"]);
});

test("an edit whose file cannot be put in place at last is taken back", async () => {
  const { runtime, gateway } = await running();
  const busy = Object.assign(new Error("EBUSY"), { code: "EBUSY" });
  const pending = { path: "list.txt", commit: () => Promise.reject(busy), abandon: () => Promise.resolve() };
  const edit = (): Promise<unknown> =>
    runtime.change(
      (plan) => withEntry(plan, "10.0.0.2"),
      "add",
      () => Promise.resolve(pending),
    );
  await assert.rejects(edit(), { code: "NOT_SAVED", message: /^list\.txt: .* mount point; nothing was changed$/ });
  assert.deepEqual(kernelOf(gateway), before);
  assert.deepEqual([runtime.plan.allowlist?.count, runtime.unsaved.list()], [1, []]);
  pending.commit = () => {
    gateway.failing.add("setAllowlist").add("editAllowlist");
    return Promise.reject(busy);
  };
  await assert.rejects(edit(), { code: "NOT_SAVED", message: /the edit is in force, but not saved$/ });
  assert.deepEqual([runtime.plan.allowlist?.count, runtime.unsaved.list()], [2, ["add"]]);
});
