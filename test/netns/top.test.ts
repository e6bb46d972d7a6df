// `vxpipe top` beside a gateway under traffic: what it shows is what was sent, and it ends when it should. Needs root.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { ADDRESS, Bed } from "../bed/bed.js";
import { Background, CommandError, ROOT, run, until } from "../bed/command.js";
import { Daemon, WORKER_DATAPATHS } from "../bed/daemon.js";
import { generate } from "../bed/tools.js";
import { receivedIs, ROOT_ONLY, settled } from "./ledger.js";

const VXPIPE = join(ROOT, "bin/vxpipe");

interface Rates {
  receivedPps: number;
  forwardedPps: number;
  droppedPps: number;
  batch: number | null;
  ringFill: number | null;
  injected: number | null;
  busy: number | null;
}

interface Second {
  time: string;
  seconds: number;
  inside: { receivedPps: number; droppedPps: Record<string, number>; pending: number };
  workers: (Rates & { role: string; cpu: number; pps: number; packets: number })[];
}

/** By all threads of a process: proc_pid_stat(5), in hundredths. */
function cpuSecondsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

describe("vxpipe top", ROOT_ONLY, () => {
  let bed: Bed;
  let beside: Bed;
  let daemon: Daemon;
  before(async () => {
    bed = await Bed.make({ staticNeighbours: true });
    beside = await Bed.make({ staticNeighbours: true });
    daemon = await Daemon.start(bed);
  });
  after(async () => {
    await beside.remove();
    await bed.remove();
  });

  const start = (...args: string[]): Background => new Background(VXPIPE, ["--socket", daemon.socket, "top", ...args]);

  test("shows a second's packets, on which CPU, and why some were dropped", async () => {
    const top = start("-o", "json", "-n", "3");
    const quiet = JSON.parse(await top.nextLine()) as Second;
    assert.deepEqual([quiet.inside.receivedPps, quiet.inside.droppedPps], [0, {}]);
    const earlier = await daemon.peek();
    await generate(bed, { destination: ADDRESS.beyond, ports: "9", count: 1000, mix: { no_rule: 3, no_flag: 1 } });
    await receivedIs(daemon, earlier.inside.received + 1000);
    const seconds = [await top.nextLine(), await top.nextLine()].map((line) => JSON.parse(line) as Second);
    const total = (of: (second: Second) => number): number =>
      Math.round(seconds.reduce((sum, second) => sum + of(second) * second.seconds, 0));
    const near = (value: number, wanted: number): void =>
      assert.ok(Math.abs(value - wanted) <= 3, `${value}, not ${wanted}`);
    near(
      total(({ inside }) => inside.receivedPps),
      1000,
    );
    near(
      total(({ inside }) => inside.droppedPps["vxlan_flags"] ?? 0),
      250,
    );
    const onCpus = ({ workers }: Second): number =>
      workers.filter(({ role }) => role === "xdp").reduce((sum, { pps }) => sum + pps, 0);
    assert.ok(total(onCpus) >= 997);
    assert.equal((await top.exited).code, 0);
  });

  test("shows of a worker what it took and sent, how full its batches were, how it sent and how busy it was", async () => {
    const other = await Daemon.start(beside, { datapath: "afxdp" });
    const top = new Background(VXPIPE, ["--socket", other.socket, "top", "-o", "json", "-n", "3"]);
    await top.nextLine();
    await generate(beside, { destination: ADDRESS.beyond, ports: "9", count: 1000 });
    await receivedIs(other, 1000);
    const seconds = [await top.nextLine(), await top.nextLine()].map((line) => JSON.parse(line) as Second);
    const workers = seconds.flatMap((second) =>
      second.workers.filter(({ role }) => role === "worker").map((worker) => ({ ...worker, seconds: second.seconds })),
    );
    const total = (of: (worker: Rates) => number): number =>
      Math.round(workers.reduce((sum, worker) => sum + of(worker) * worker.seconds, 0));
    assert.ok(Math.abs(total(({ receivedPps }) => receivedPps) - 1000) <= 3);
    assert.ok(Math.abs(total(({ forwardedPps, droppedPps }) => forwardedPps + droppedPps) - 1000) <= 6);
    const working = workers.filter(({ receivedPps }) => receivedPps > 0);
    assert.ok(working.length > 0);
    for (const { batch, ringFill, injected, busy } of working) {
      assert.ok(batch !== null && batch >= 1 && batch <= 64, `${batch} packets a batch`);
      assert.ok(ringFill !== null && ringFill >= 0 && ringFill <= 1 && injected !== null && busy !== null && busy > 0);
    }
    await other.stop();
  });

  for (const datapath of WORKER_DATAPATHS)
    test(`finds the workers of ${datapath} asleep once nothing comes: all of the daemon takes less than 2 % of a core`, async () => {
      const other = await Daemon.start(beside, { datapath, workers: { count: 4 } });
      await generate(beside, { destination: ADDRESS.beyond, ports: "9", count: 100_000, flows: 1000 });
      await receivedIs(other, 100_000);
      await settled(other);
      const used = cpuSecondsOf(other.process.pid);
      const top = new Background(VXPIPE, ["--socket", other.socket, "top", "-o", "json", "-n", "4"]);
      assert.equal((await top.exited).code, 0);
      const seconds = top.lines.map((line) => (JSON.parse(line) as Second).seconds).reduce((sum, one) => sum + one);
      const share = (cpuSecondsOf(other.process.pid) - used) / seconds;
      assert.ok(share < 0.02, `${(100 * share).toFixed(1)} % of a core`);
      await other.stop();
    });

  test("prints a line a second where there is no terminal, and ends with 0 at Ctrl-C", async () => {
    const top = start();
    const began = Date.now();
    for (let line = 0; line < 2; line++) assert.match(await top.nextLine(), /^\d\d:\d\d:\d\d {2}in .*pending \d+/);
    assert.ok(Date.now() - began >= 1000);
    assert.deepEqual(await top.stop("SIGINT"), { code: 0, signal: null });
    assert.equal(top.stderr, "");
  });

  test("refuses a count that is none", async () => {
    const error: unknown = await daemon.cli("top", "-n", "0").catch((reason: unknown) => reason);
    assert.ok(error instanceof CommandError && error.code === 2);
  });

  test("ends with 4 and says so when the daemon goes away", async () => {
    const top = start();
    await top.nextLine();
    await daemon.stop();
    assert.equal((await top.exited).code, 4);
    assert.match(top.stderr, /^vxpipe: the daemon on \S+ went away: /);
  });

  test("ends with 4 at once where there is none", async () => {
    const nobody = run(VXPIPE, ["--socket", join(bed.directory, "nobody.sock"), "top", "-o", "json"]);
    const error: unknown = await nobody.catch((reason: unknown) => reason);
    assert.ok(error instanceof CommandError && error.code === 4 && error.stdout === "");
    assert.equal((JSON.parse(error.stderr) as { error: { code: string } }).error.code, "DAEMON_UNREACHABLE");
    await until("the daemon's end", () => Promise.resolve(daemon.process.exit));
  });
});
