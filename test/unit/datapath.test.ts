// Which datapath is taken from what is known of the interfaces, and what a failed attempt teaches.
import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseDatapath, nothingKnown, type Ability, type Evidence, type Mode } from "../../src/injector/datapath.js";
import { Applier } from "../../src/pipeline/apply.js";
import { bringUp, judgeFirst } from "../../src/pipeline/bring-up.js";
import { checkConfig } from "../../src/pipeline/config/check.js";
import { planOf, type Plan } from "../../src/pipeline/plan.js";
import { simulate, type SimulatedGateway } from "./simulated-native.js";

const no = (why: string): Ability => ({ able: false, why });
const yes: Ability = { able: true, why: "seen" };

function chosen(configured: Mode | "auto", known: Partial<Evidence>): unknown[] {
  const { mode, insideAttach, outsideAttach, best } = chooseDatapath(configured, { ...nothingKnown, ...known });
  return [mode, insideAttach, outsideAttach, best];
}

test("auto is xdp until something speaks against it", () => {
  assert.deepEqual(chosen("auto", {}), ["xdp", "native", "native", true]);
  const seen = { insideNative: yes, outsideNative: yes, redirect: yes };
  assert.deepEqual(chosen("auto", seen), ["xdp", "native", "native", true]);
  assert.deepEqual(chosen("auto", { ...seen, sockets: no("x") }), ["ringbuf", "native", "native", false]);
});

test("auto gives the sending to workers where XDP cannot, by sockets, and where these cannot either by ring buffers", () => {
  assert.deepEqual(chosen("auto", { redirect: no("x") }), ["afxdp", "native", "native", false]);
  assert.deepEqual(chosen("auto", { redirect: no("x"), sockets: no("y") }), ["ringbuf", "native", "native", false]);
  assert.deepEqual(chosen("auto", { insideNative: no("x") }), ["afxdp", "generic", "native", false]);
  assert.deepEqual(chosen("auto", { outsideNative: no("x") }), ["afxdp", "native", "generic", false]);
});

test("what is configured is taken, with generic XDP where workers send, and never with it where XDP does", () => {
  const known = { insideNative: no("x"), redirect: no("y") };
  assert.deepEqual(chosen("xdp", known), ["xdp", "native", "native", true]);
  assert.deepEqual(chosen("ringbuf", known), ["ringbuf", "generic", "native", false]);
  assert.deepEqual(chosen("afxdp", { redirect: no("y") }), ["afxdp", "native", "native", true]);
});

test("every reason is told", () => {
  const known: Evidence = {
    insideNative: no("a"),
    outsideNative: yes,
    redirect: no("b"),
    afxdpTx: null,
    sockets: no("c"),
  };
  const { why } = chooseDatapath("auto", known);
  assert.equal(why, "workers send, fed by ring buffers, for c; XDP cannot: a; b");
  assert.equal(chooseDatapath("auto", { ...known, afxdpTx: yes }).why, `${why}; seen`);
  assert.match(chooseDatapath("auto", { ...nothingKnown, redirect: yes }).why, /: seen$/);
  const { why: alone } = chooseDatapath("auto", { ...nothingKnown, sockets: no("c") });
  assert.equal(alone, "workers send, fed by ring buffers, for c; XDP needs one for its exceptions");
});

test("a way out that loses frames is not used where the other one will do, and is said to", () => {
  const ways = (configured: Mode | "auto", known: Partial<Evidence>, nat = false): unknown[] => {
    const { mode, injection, best, why } = chooseDatapath(configured, { ...nothingKnown, ...known }, nat);
    return [
      mode,
      injection,
      best,
      why
        .split("; ")
        .slice(nat ? 2 : 1)
        .join("; "),
    ];
  };
  const moves = "packets leave by injection instead, but for fragments made here and answers of our own";
  const alone = "it is used all the same, there is no other way out";
  assert.deepEqual(ways("auto", { redirect: yes, afxdpTx: yes }), ["xdp", "never", true, "seen"]);
  assert.deepEqual(ways("auto", { redirect: yes, afxdpTx: no("x") }), ["xdp", "always", false, `x: ${moves}`]);
  const neither = { redirect: no("x"), afxdpTx: no("y") };
  assert.deepEqual(ways("auto", neither), ["afxdp", "never", false, `XDP cannot: x; y: ${alone}`]);
  const fed = { insideNative: no("x"), redirect: yes };
  assert.deepEqual(ways("auto", { ...fed, afxdpTx: yes }), ["afxdp", "many", false, "XDP cannot: x; seen"]);
  assert.deepEqual(ways("auto", { ...fed, afxdpTx: no("y") }).slice(0, 3), ["afxdp", "always", false]);
  assert.deepEqual(ways("auto", { redirect: yes, afxdpTx: yes }, true), ["afxdp", "many", true, "seen; seen"]);
  assert.deepEqual(ways("auto", { redirect: no("x"), afxdpTx: yes }, true), [
    "afxdp",
    "never",
    false,
    "one by one: x; seen",
  ]);
  assert.deepEqual(ways("auto", { redirect: yes, afxdpTx: no("y") }, true).slice(0, 3), ["afxdp", "always", false]);
  assert.deepEqual(ways("xdp", {}).slice(0, 2), ["xdp", "never"]);
  assert.deepEqual(ways("ringbuf", {}).slice(0, 2), ["ringbuf", "many"]);
});

interface Attempt {
  applier: Applier;
  gateways: SimulatedGateway[];
  wanted: Plan;
}

/** A host whose packet path refuses: called with each gateway made. */
function attempt(datapath: string, refuse: (gateway: SimulatedGateway) => void): Attempt {
  const text = `inside: { interface: in0, vxlan: {} }\noutside: { interface: out0 }\ndatapath: ${datapath}\n`;
  const { config } = checkConfig(Buffer.from(text), "x");
  assert.ok(config !== null);
  const { native, gateways } = simulate(refuse);
  return { applier: new Applier(native, () => undefined), gateways, wanted: planOf(config, null) };
}

function refusal(code: string, op: string): Error {
  return Object.assign(new Error(op), { code, op, errno: 95, detail: "queue 0" });
}

test("an outside that takes no redirected frames is tried once, and a worker datapath stands in its place", async () => {
  const { applier, gateways, wanted } = attempt("auto", (gateway) => {
    gateway.trial.redirect = { able: false, found: "the far end is bare" };
    if (gateway.plan.datapath === "xdp") gateway.count(0, 0, 5);
  });
  const evidence = await bringUp(applier, wanted, nothingKnown);
  assert.deepEqual(
    gateways.map(({ plan, calls }) => [plan.datapath, calls]),
    [
      ["xdp", ["tryOutside", "stop"]],
      ["afxdp", ["setAllowlist", "setRules", "attach"]],
    ],
  );
  assert.deepEqual(evidence.redirect, { able: false, why: "the far end is bare" });
  // The counters of the first go on in the second.
  assert.equal(new DataView(gateways[1]?.counters ?? new ArrayBuffer(8)).getBigUint64(0, true), 5n);
});

test("where AF_XDP TX loses frames XDP stays, and its worker is made to inject; without a trial nothing is made anew", async () => {
  const lost = { able: false, found: "the next hop hears none" };
  const { applier, gateways, wanted } = attempt("auto", (gateway) => {
    gateway.trial.afxdpTx = lost;
  });
  const evidence = await bringUp(applier, wanted, nothingKnown);
  const made = (): unknown[] => gateways.map(({ plan, calls }) => [plan.datapath, plan.injection, calls]);
  const rest = ["setAllowlist", "setRules", "attach"];
  assert.deepEqual(made(), [
    ["xdp", "never", ["tryOutside", "stop"]],
    ["xdp", "always", rest],
  ]);
  await applier.leave();
  await bringUp(applier, wanted, { ...evidence, redirect: no("the first packets were refused") });
  assert.deepEqual(made().slice(2), [["afxdp", "never", rest]]);
});

test("where workers send, the ways out are tried too", async () => {
  const { applier, gateways, wanted } = attempt("auto", (gateway) => {
    if (gateway.plan.insideAttach === "native")
      gateway.refusal = refusal("NO_NATIVE_XDP", "attach to the inside interface");
  });
  const known = { ...nothingKnown, insideNative: no("the driver of in0 has no native XDP") };
  await bringUp(applier, wanted, known);
  assert.deepEqual(
    gateways.map(({ plan, calls }) => [plan.datapath, plan.injection, calls]),
    [["afxdp", "many", ["tryOutside", "setAllowlist", "setRules", "attach"]]],
  );
});

test("without native XDP inside, generic XDP feeds the worker; xdp itself is refused", async () => {
  const refuse = (gateway: SimulatedGateway): void => {
    if (gateway.plan.insideAttach === "native")
      gateway.refusal = refusal("NO_NATIVE_XDP", "attach to the inside interface");
  };
  const auto = attempt("auto", refuse);
  const { insideNative } = await bringUp(auto.applier, auto.wanted, nothingKnown);
  assert.deepEqual(insideNative, { able: false, why: "the driver of in0 has no native XDP" });
  assert.deepEqual(
    auto.gateways.map(({ plan }) => [plan.datapath, plan.insideAttach]),
    [
      ["xdp", "native"],
      ["afxdp", "generic"],
    ],
  );
  const fixed = attempt("xdp", refuse);
  await assert.rejects(bringUp(fixed.applier, fixed.wanted, nothingKnown), { code: "NO_NATIVE_XDP" });
  assert.equal(fixed.gateways.length, 1);
});

test("a queue that no AF_XDP socket can have is ring buffers' turn, where it is not XDP that sends", async () => {
  const { applier, gateways, wanted } = attempt("auto", (gateway) => {
    gateway.trial.redirect = { able: false, found: "the far end is bare" };
    if (gateway.plan.datapath === "afxdp") gateway.refusal = refusal("QUEUE_BUSY", "bind(AF_XDP)");
  });
  await bringUp(applier, wanted, nothingKnown);
  assert.deepEqual(
    gateways.map(({ plan }) => plan.datapath),
    ["xdp", "afxdp", "ringbuf"],
  );
});

test("a failure that says nothing about the datapath ends the start", async () => {
  const { applier, gateways, wanted } = attempt("auto", (gateway) => {
    gateway.refusal = refusal("XDP_BUSY", "attach to the inside interface");
  });
  await assert.rejects(bringUp(applier, wanted, nothingKnown), { code: "XDP_BUSY" });
  assert.equal(gateways.length, 1);
});

test("the first packets prove redirecting with one that was taken, and the contrary with 64 that were not", () => {
  assert.equal(judgeFirst({ forwarded: 0, refused: 63 }), null);
  assert.equal(judgeFirst({ forwarded: 0, refused: 64 })?.able, false);
  assert.equal(judgeFirst({ forwarded: 1, refused: 1000 })?.able, true);
});
