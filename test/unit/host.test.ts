// What the daemon asks of its host before it starts, and where it puts its worker.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { pinName } from "../../src/pipeline/apply.js";
import { checkConfig } from "../../src/pipeline/config/check.js";
import { networkNamespace, readLastRun, writeLastRun } from "../../src/pipeline/last-run.js";
import type { Native } from "../../src/pipeline/native.js";
import { planOf, type Plan } from "../../src/pipeline/plan.js";
import { checkKernel, preflight } from "../../src/pipeline/preflight.js";
import { lockedShortage, priorityShortage } from "../../src/pipeline/privileges.js";
import { LiveLine } from "../../src/telemetry/live-line.js";
import { simulate } from "./simulated-native.js";

const directory = mkdtempSync(join(tmpdir(), "vxpipe-host-"));
after(() => rmSync(directory, { recursive: true }));

function planWith(inside: string, outside: string, state: string): Plan {
  const text = `inside: { interface: ${inside} }\noutside: { interface: ${outside} }\nstate: { directory: ${state} }\n`;
  const { config } = checkConfig(Buffer.from(text), "x");
  assert.ok(config !== null);
  return planOf(config, null);
}

test("Linux 6.1 is new enough and 6.0 is not", () => {
  for (const fine of ["6.1.0-13-amd64", "6.18.44", "7.0.1", "10.0.0"]) checkKernel(fine);
  for (const old of ["6.0.19", "5.15.0-91-generic", "4.19.0"])
    assert.throws(() => checkKernel(old), { code: "KERNEL_TOO_OLD" }, old);
});

test("each thing that is missing is one error that names it", () => {
  const { native } = simulate();
  const state = join(directory, "state");
  preflight(planWith("in0", "out0", state), native);
  assert.throws(() => preflight(planWith("in1", "out0", state), native), {
    code: "INTERFACE_MISSING",
    message: "inside.interface: this host has no interface in1",
  });
  assert.throws(() => preflight(planWith("in0", "out1", state), native), { code: "INTERFACE_MISSING" });
  assert.throws(() => preflight(planWith("in0", "out0", "/proc/nowhere"), native), { code: "STATE_UNWRITABLE" });
  const without: Native = { ...native, hasCapability: (number: number) => number !== 39 };
  assert.throws(() => preflight(planWith("in0", "out0", state), without), {
    code: "CAPABILITY_MISSING",
    message: "this process lacks CAP_BPF",
  });
});

test("what carries no Ethernet frames is refused: the loopback device would lose the host's own packets", () => {
  const { native } = simulate();
  const loopback: Native = {
    ...native,
    interfaceFacts: (name: string) => {
      const facts = native.interfaceFacts(name);
      return facts === null ? null : { ...facts, ethernet: name !== "out0" };
    },
  };
  assert.throws(() => preflight(planWith("in0", "out0", directory), loopback), {
    code: "INTERFACE_NOT_ETHERNET",
    message: "outside.interface: out0 is not an Ethernet interface",
  });
});

test("two names of one interface are refused", () => {
  const { native } = simulate();
  const facts = native.interfaceFacts("in0");
  const same: Native = { ...native, interfaceFacts: () => facts };
  assert.throws(() => preflight(planWith("in0", "alt0", directory), same), { code: "INTERFACE_SAME" });
});

test("a VLAN interface has a pin directory without dots, which a bpffs refuses", () => {
  assert.equal(pinName("ens5.100"), "ens5:100");
});

test("the last run is kept by inside interface, and a broken file is none", () => {
  const run = { pid: 1, startedAt: "2026-01-01T00:00:00.000Z", endedAt: null, statistics: null };
  assert.equal(readLastRun(directory, "in0"), null);
  writeLastRun(directory, "in0", run);
  assert.deepEqual(readLastRun(directory, "in0"), run);
  assert.equal(readLastRun(directory, "in1"), null);
  assert.throws(() => writeLastRun("/proc/nowhere", "in0", run), { code: "STATE_UNWRITABLE" });
});

test("on a terminal log lines never run into the live line", () => {
  let screen = "";
  const line = new LiveLine({ isTTY: true, columns: 20, write: (text) => (screen += text) });
  line.show("x".repeat(100));
  line.write("log\n");
  line.show("y");
  line.end();
  assert.equal(screen, `\r\u001b[K${"x".repeat(19)}\r\u001b[Klog\n\r\u001b[Ky\n`);
});

test("without a terminal every live line is a line", () => {
  let screen = "";
  const line = new LiveLine({ write: (text) => (screen += text) });
  line.show("x");
  line.write("log\n");
  line.end();
  assert.equal(screen, "x\nlog\n");
});

test("a state file is never half written", () => {
  const path = join(directory, `last-run-in0-${networkNamespace()}.json`);
  for (let pid = 0; pid < 50; pid++) {
    writeLastRun(directory, "in0", { pid, startedAt: "", endedAt: null, statistics: null });
    assert.equal((JSON.parse(readFileSync(path, "utf8")) as { pid: number }).pid, pid);
  }
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test("too little memory that may be locked is named with the capability that helps, and does not count with it", () => {
  const { native } = simulate();
  const without: Native = { ...native, hasCapability: (number: number) => number !== 14 };
  const limits = (value: string): string =>
    `Max locked memory         ${value}              ${value}            bytes\n`;
  const says = "CAP_IPC_LOCK, and may lock 8192 KiB of memory; packets take 16384 KiB at least";
  assert.equal(lockedShortage(without, limits("8388608")), says);
  assert.equal(lockedShortage(without, limits("16777216")), null);
  assert.equal(lockedShortage(without, limits("unlimited")), null);
  assert.equal(lockedShortage(native, limits("8388608")), null);
});

test("a real-time priority that may not be had is named with the capability that helps", () => {
  const { native } = simulate();
  const without: Native = { ...native, hasCapability: (number: number) => number !== 23 };
  const limits = "Max realtime priority     5                    5                    \n";
  const says = "CAP_SYS_NICE, and may give threads a real-time priority of 5 at most; workers.priority is 6";
  assert.equal(priorityShortage(without, limits, 6), says);
  assert.equal(priorityShortage(without, limits, 5), null);
  assert.equal(priorityShortage(without, limits, 0), null);
  assert.equal(priorityShortage(native, limits, 6), null);
});

test("what nobody reads does not grow without end: lines are left out, and told as a number when there is room again", () => {
  const output = { writableLength: 0, lines: 0, write: () => output.lines++ };
  const line = new LiveLine(output);
  line.write("one\n");
  output.writableLength = 2 * 1024 * 1024;
  line.write("two\n");
  line.show("three");
  assert.deepEqual([output.lines, line.takeMissed()], [1, 0]);
  output.writableLength = 0;
  assert.deepEqual([line.takeMissed(), line.takeMissed()], [2, 0]);
  line.show("four");
  assert.equal(output.lines, 2);
});
