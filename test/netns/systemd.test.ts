// The unit of deploy/ under the service manager that it is for: systemd starts it as a user of its own, is told when packets
// flow, reloads it, starts it again when it was killed, and stops it. Needs root.
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { ADDRESS, Bed } from "../bed/bed.js";
import { type Background, ROOT, run, until } from "../bed/command.js";
import type { Stats } from "../bed/daemon.js";
import { ServiceManager } from "../bed/service-manager.js";
import { generate, Sink } from "../bed/tools.js";
import { ROOT_ONLY } from "./ledger.js";
import { attachment } from "./remaining.js";
import { holdWorker, stopProcess } from "./thread-stop.js";

const CONFIG = "inside: { interface: in0, vxlan: {} }\noutside: { interface: out0 }\n";

describe("vxpipe.service", ROOT_ONLY, () => {
  let bed: Bed;
  let manager: ServiceManager;
  let sink: Sink;
  before(async () => {
    bed = await Bed.make({ staticNeighbours: true });
    sink = await Sink.start(bed);
    const config = join(bed.directory, "service.yaml");
    writeFileSync(config, CONFIG);
    manager = await ServiceManager.start(bed, config);
  });
  after(async () => {
    await manager?.stop();
    await bed.remove();
  });

  async function stats(): Promise<Stats> {
    return JSON.parse(
      await manager.exec("env", "PATH=/opt/node:/usr/bin", "/opt/vxpipe/bin/vxpipe", "stats", "-o", "json"),
    ) as Stats;
  }

  async function forwards(count: number): Promise<void> {
    const { forwarded } = (await stats()).inside;
    await generate(bed, { destination: ADDRESS.beyond, count });
    const all = async (): Promise<true | null> =>
      (await stats()).inside.forwarded === forwarded + count ? true : null;
    await until("packets to be forwarded", all);
  }

  test("is active when packets can flow, and not before", async () => {
    await manager.systemctl("start", "vxpipe");
    assert.match(await manager.log(), /"event":"ready"/);
    assert.equal(await attachment(bed, "in0"), "native");
    await forwards(100);
    const status = async (): Promise<true | null> =>
      (await manager.show("StatusText"))["StatusText"] === "forwarding from in0 to out0" ? true : null;
    await until("the status", status);
    // The trial may do all it does under the unit's limits.
    const { choice } = (await stats()) as unknown as { choice: { why: string } };
    assert.match(choice.why, /answered a redirected frame; .* answered a frame sent by AF_XDP TX$/);
    const { User, ActiveState, WatchdogUSec } = await manager.show("User", "ActiveState", "WatchdogUSec");
    assert.deepEqual(
      { User, ActiveState, WatchdogUSec },
      { User: "vxpipe", ActiveState: "active", WatchdogUSec: "20s" },
    );
  });

  test("runs as its user, and shows root its maps where they are documented", async () => {
    const pid = (await manager.show("MainPID"))["MainPID"] ?? "";
    const uid = await manager.exec("stat", "-c", "%U", `/proc/${pid}`);
    assert.equal(uid.trim(), "vxpipe");
    const maps = await manager.exec("bpftool", "map", "show", "pinned", "/sys/fs/bpf/vxpipe/in0/stats_map");
    assert.match(maps, /stats_map/);
    const files = await manager.exec("find", "/var/lib/vxpipe", "/run/vxpipe", "!", "-type", "d", "-printf", "%m %u\n");
    assert.deepEqual(files.trim().split("\n").sort(), ["600 vxpipe", "660 vxpipe"]);
  });

  test("reloads", async () => {
    await manager.systemctl("reload", "vxpipe");
    await until("the reload", async () => (/"event":"reloaded"/.test(await manager.log()) ? true : null));
    assert.equal((await manager.show("ActiveState"))["ActiveState"], "active");
  });

  test("comes back by itself when it was killed, and takes over what it left running", async () => {
    await manager.systemctl("kill", "--signal=SIGKILL", "vxpipe");
    const again = async (): Promise<true | null> => {
      const { ActiveState, NRestarts } = await manager.show("ActiveState", "NRestarts");
      return ActiveState === "active" && NRestarts === "1" ? true : null;
    };
    await until("a new start", again, 20_000);
    assert.match(await manager.log(), /"event":"took_over"/);
    await forwards(100);
  });

  test("is tried until its interface is there, however late, but not with a wrong configuration", async () => {
    await manager.systemctl("stop", "vxpipe");
    await bed.ip("gateway", "link set in0 down", "link set in0 name in9");
    await manager.systemctl("--no-block", "start", "vxpipe");
    // Five in ten seconds are systemd's own limit.
    const tried = async (): Promise<true | null> =>
      Number((await manager.show("NRestarts"))["NRestarts"]) >= 6 ? true : null;
    await until("the seventh start", tried, 60_000);
    await bed.ip("gateway", "link set in9 name in0", "link set in0 up");
    const active = async (): Promise<true | null> =>
      (await manager.show("ActiveState"))["ActiveState"] === "active" ? true : null;
    await until("the service to be active", active, 20_000);
    await manager.systemctl("stop", "vxpipe");
    await manager.exec("sh", "-c", "echo 'wrong: 1' >>/etc/vxpipe/vxpipe.yaml");
    await assert.rejects(manager.systemctl("start", "vxpipe"));
    const { ActiveState, ExecMainStatus, NRestarts } = await manager.show("ActiveState", "ExecMainStatus", "NRestarts");
    assert.deepEqual(
      { ActiveState, ExecMainStatus, NRestarts },
      { ActiveState: "failed", ExecMainStatus: "2", NRestarts: "0" },
    );
    await manager.exec("sed", "-i", "/wrong/d", "/etc/vxpipe/vxpipe.yaml");
    await manager.systemctl("start", "vxpipe");
  });

  /** What it is pinned as: as much after a restart as before. */
  async function pins(): Promise<string[]> {
    return (await manager.exec("find", "/sys/fs/bpf/vxpipe", "-mindepth", "1")).trim().split("\n").sort();
  }

  /** What `hang` does to the running daemon ends with its restart by the service manager, which sees nothing of it until
   * `count` packets have come: how many of them were lost with the daemon. The others have arrived: systemd lets what stands
   * still go on when it ends it, and a worker may be quicker than the signal. */
  async function restartsAfter(hang: (pid: number) => Promise<unknown>, count: number): Promise<number> {
    await manager.systemctl("restart", "vxpipe");
    await forwards(100);
    const [pinned, { MainPID: first }] = [await pins(), await manager.show("MainPID")];
    const logged = (await manager.log()).length;
    const earlier = (await sink.report()).packets;
    await manager.asleep(async () => {
      await hang(manager.processes()[0] ?? assert.fail("no process"));
      await generate(bed, { destination: ADDRESS.beyond, count });
    });
    const again = async (): Promise<true | null> => {
      const { ActiveState, MainPID, NRestarts } = await manager.show("ActiveState", "MainPID", "NRestarts");
      return ActiveState === "active" && MainPID !== first && NRestarts === "1" ? true : null;
    };
    await until("the service manager to start it again", again, 60_000);
    const log = (await manager.log()).slice(logged);
    const { crash_lost: lost = 0 } = (await stats()).inside.dropped;
    assert.match(log, new RegExp(`"event":"previous_run_unclean".*it lost ${lost} packets in flight`));
    assert.match(log, /"event":"took_over"/);
    assert.equal((await sink.report()).packets - earlier, count - lost);
    await forwards(100);
    assert.deepEqual(await pins(), pinned);
    return lost;
  }

  test("is started again when the daemon hangs, and what it had not sent is told", async () => {
    await manager.exec("sh", "-c", "echo 'datapath: afxdp' >> /etc/vxpipe/vxpipe.yaml");
    await manager.override("watchdog", "WatchdogSec=6");
    await restartsAfter(stopProcess, 50);
  });

  test("is started again when a worker stands still for good, while the daemon itself goes on", async () => {
    let holder: Background | undefined;
    const [logged, stands] = [(await manager.log()).length, /"event":"worker_stalled"/];
    const hang = async (pid: number): Promise<void> => {
      holder = await holdWorker({ process: { pid } });
      // A process has ended when its last thread has, and this one waits for who holds it.
      const ended = async (): Promise<true | null> =>
        /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8")) ? true : null;
      released = until("the daemon to be killed", ended, 60_000).then(() => holder?.stop("SIGKILL"));
    };
    let released: Promise<unknown> = Promise.resolve();
    try {
      assert.equal(await restartsAfter(hang, 50), 50);
    } finally {
      await holder?.stop("SIGKILL");
      await released;
    }
    assert.match((await manager.log()).slice(logged), stands);
  });

  test("stops without a trace", async () => {
    await manager.systemctl("stop", "vxpipe");
    const { ActiveState, Result, ExecMainStatus } = await manager.show("ActiveState", "Result", "ExecMainStatus");
    assert.deepEqual([ActiveState, Result, ExecMainStatus], ["inactive", "success", "0"]);
    for (const name of ["in0", "out0"]) assert.equal(await attachment(bed, name), "");
    assert.equal((await manager.exec("find", "/sys/fs/bpf/vxpipe", "-mindepth", "1")).trim(), "");
    await sink.stop();
  });

  test("is a unit that systemd has nothing to say against", async () => {
    // The program need not be installed where the unit has it.
    const unit = join(bed.directory, "vxpipe.service");
    copyFileSync(join(ROOT, "deploy/vxpipe.service"), unit);
    writeFileSync(unit, readFileSync(unit, "utf8").replace("/opt/vxpipe/bin/vxpipe", "/usr/bin/true"));
    assert.equal(await run("sh", ["-c", `systemd-analyze verify ${unit} 2>&1`]), "");
    // 0 is safe, 10 is root without limits; what it needs makes up the rest.
    await run("systemd-analyze", ["security", "--offline=yes", "--threshold=30", unit]);
  });
});
