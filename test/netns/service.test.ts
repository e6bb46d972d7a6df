// What a service manager is told: by a real daemon, over a real socket of each kind. Needs root.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";

import { Bed } from "../bed/bed.js";
import { type Background, ROOT, until } from "../bed/command.js";
import { bedConfig, writeConfig } from "../bed/daemon.js";
import { ROOT_ONLY } from "./ledger.js";
import { traces } from "./remaining.js";
import { PYTHON } from "./wire.js";

/** Prints each message as a line of JSON. */
const MANAGER = `
import json, os, socket, sys
name = sys.argv[1]
if os.path.exists(name):
    os.unlink(name)
peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
peer.bind("\\0" + name[1:] if name[0] == "@" else name)
print("bound", flush=True)
while True:
    print(json.dumps(peer.recv(65536).decode()), flush=True)
`;

describe("a service manager", ROOT_ONLY, () => {
  let bed: Bed;
  let manager: Background;
  let daemon: Background;
  before(async () => {
    bed = await Bed.make({ staticNeighbours: true });
  });
  after(() => bed.remove());
  afterEach(async () => {
    await daemon.stop();
    await manager.stop();
    assert.deepEqual(await traces(bed), []);
  });

  async function start(address: string, environment: string[] = []): Promise<void> {
    manager = bed.start("gateway", PYTHON, ["-c", MANAGER, address]);
    await manager.nextLine();
    const file = writeConfig(bed, bedConfig(bed));
    const command = [...environment, `NOTIFY_SOCKET=${address}`, join(ROOT, "bin/vxpipe"), "run", "--config", file];
    daemon = bed.start("gateway", "env", command);
  }

  /** The next message that is not of another kind. */
  async function told(kind: RegExp): Promise<string> {
    for (;;) {
      const message = JSON.parse(await manager.nextLine(20_000)) as string;
      if (kind.test(message)) return message;
    }
  }

  for (const kind of ["path", "abstract"] as const) {
    test(`with ${kind === "path" ? "a" : "an"} ${kind} socket is told of readiness, a reload and the end`, async () => {
      await start(kind === "path" ? join(bed.directory, "notify") : `@${bed.name}/notify`);
      assert.equal(JSON.parse(await manager.nextLine(20_000)), "READY=1");
      assert.match(daemon.stderr, /"event":"ready"/);
      daemon.kill("SIGHUP");
      assert.match(await told(/^(?!STATUS)/), /^RELOADING=1\nMONOTONIC_USEC=\d+$/);
      assert.equal(await told(/^(?!STATUS)/), "READY=1");
      assert.match(daemon.stderr, /"event":"reloaded"/);
      daemon.kill("SIGTERM");
      assert.equal(await told(/^(?!STATUS)/), "STOPPING=1");
      assert.deepEqual(await daemon.exited, { code: 0, signal: null }, daemon.stderr);
    });
  }

  test("is told what keeps packets from flowing, and nothing else", async () => {
    await start(join(bed.directory, "notify"));
    assert.equal(await told(/^STATUS/), "STATUS=forwarding from in0 to out0");
    await bed.ip("target", "link set dst0 down");
    assert.equal(await told(/^/), "STATUS=not ready: the outside interface out0 has no carrier");
    await bed.ip("target", "link set dst0 up");
    assert.equal(await told(/^/), "STATUS=forwarding from in0 to out0");
  });

  test("with a watchdog hears again and again that the daemon is alive", async () => {
    await start(join(bed.directory, "notify"), ["WATCHDOG_USEC=10000000"]);
    for (let times = 0; times < 3; times++) assert.match(await told(/WATCHDOG/), /^WATCHDOG=1/);
  });

  test("that is gone does not harm the daemon, which says so", async () => {
    await start(join(bed.directory, "notify"));
    await told(/^READY/);
    await manager.stop();
    daemon.kill("SIGHUP");
    await until("the event", async () => (daemon.stderr.includes("supervisor_unreachable") ? true : null));
    daemon.kill("SIGTERM");
    assert.deepEqual(await daemon.exited, { code: 0, signal: null }, daemon.stderr);
  });
});
