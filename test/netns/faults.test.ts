// Interfaces that go, come back, change their name, address or size under a running gateway, and disks that fill: packets go
// on where they can, what is lost has a name, and the gateway recovers by itself. docs/OPERATIONS.md has the table. Needs root.
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { loadNative } from "../../src/pipeline/native.js";
import { RecordsFile } from "../../src/pipeline/records-file.js";
import { ADDRESS, Bed, MAC } from "../bed/bed.js";
import { ROOT, run, until } from "../bed/command.js";
import { bedConfig, Daemon, DATAPATHS, writeConfig } from "../bed/daemon.js";
import { generate, type Load, Sink } from "../bed/tools.js";
import { agreed, receivedIs, ROOT_ONLY, settled } from "./ledger.js";
import { traces } from "./remaining.js";
import { Collector, PYTHON } from "./wire.js";

const LOAD: Load = { destination: ADDRESS.beyond, ports: "9", sources: "10.0.0.1" };

async function readiness(daemon: Daemon, code: number): Promise<string[]> {
  await until(`readiness ${code}`, async () => ((await daemon.status("/readyz")) === code ? true : null), 20_000);
  const text = await daemon.bed.exec("gateway", "curl", ["-s", "http://127.0.0.1:9470/readyz"]);
  return (JSON.parse(text) as { missing: string[] }).missing;
}

/** As Bed.make() made them. */
async function bringBack(bed: Bed, name: "in0" | "out0", mtu = 3400): Promise<void> {
  const [place, far, farMac, mac] =
    name === "in0"
      ? (["source", "src0", MAC.source, MAC.inside] as const)
      : (["target", "dst0", MAC.target, MAC.outside] as const);
  await bed.ip(
    place,
    `link add ${far} mtu ${mtu} address ${farMac} type veth peer name ${name} netns ${bed.namespace("gateway")} mtu ${mtu} address ${mac}`,
    `link set ${far} up`,
  );
  await bed.offloads(place, far, false);
  await bed.ip("gateway", `link set ${name} up`);
  if (name === "in0") {
    await bed.ip("source", `addr add ${ADDRESS.source}/24 dev src0`);
    await bed.ip("gateway", `addr add ${ADDRESS.inside}/24 dev in0`);
    return;
  }
  await bed.ip("target", `addr add ${ADDRESS.target}/24 dev dst0`, `route add default via ${ADDRESS.outside}`);
  await bed.ip(
    "gateway",
    `addr add ${ADDRESS.outside}/24 dev out0`,
    `route add default via ${ADDRESS.target}`,
    `neigh replace ${ADDRESS.target} lladdr ${MAC.target} dev out0`,
  );
  await bed.ip("target", `neigh replace ${ADDRESS.outside} lladdr ${MAC.outside} dev dst0`);
}

for (const datapath of DATAPATHS) {
  describe(`an interface of a gateway (${datapath})`, ROOT_ONLY, () => {
    let bed: Bed;
    let daemon: Daemon;
    before(async () => {
      bed = await Bed.make({ staticNeighbours: true });
    });
    after(() => bed.remove());
    beforeEach(async () => {
      daemon = await Daemon.start(bed, { datapath });
    });
    afterEach(async () => {
      assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.process.stderr);
      assert.deepEqual(await traces(bed), []);
    });

    for (const [name, side] of [
      ["in0", "inside"],
      ["out0", "outside"],
    ] as const) {
      test(`that is deleted (${side}) is waited for, and forwards again when it is back, edits and counters kept`, async () => {
        let sink = await Sink.start(bed);
        await daemon.cli("allowlist", "add", "10.0.0.1", "--enforce");
        await generate(bed, { ...LOAD, count: 1000 });
        await receivedIs(daemon, 1000);
        await agreed(daemon, sink);
        await bed.ip("gateway", `link del ${name}`);
        const gone = `the ${side} interface ${name} is gone; one of that name is waited for`;
        assert.deepEqual(await readiness(daemon, 503), [gone]);
        if (name === "out0") await sink.stop().catch(() => undefined);
        await bringBack(bed, name);
        if (name === "out0") sink = await Sink.start(bed);
        assert.deepEqual(await readiness(daemon, 200), []);
        await sink.reset();
        const earlier = (await settled(daemon)).inside;
        assert.ok(earlier.received >= 1000 && earlier.forwarded === 1000, "the counters went on");
        await generate(bed, { ...LOAD, count: 500 });
        await generate(bed, { ...LOAD, count: 10, sources: "10.0.0.2" });
        await receivedIs(daemon, earlier.received + 510);
        const { inside } = await settled(daemon);
        assert.equal(inside.forwarded, 1500);
        assert.equal((inside.dropped["not_allowed"] ?? 0) - (earlier.dropped["not_allowed"] ?? 0), 10);
        await until("the far end to see them", async () => ((await sink.report()).packets === 500 ? true : null));
        assert.match(daemon.process.stderr, /"event":"interface_back"/);
        await sink.stop();
      });
    }

    test("that comes back larger than XDP can have it is not served, which is said with what to do, until that is done", async () => {
      await bed.ip("gateway", "link del in0");
      await readiness(daemon, 503);
      await bringBack(bed, "in0", 9000);
      const advice = "Lower the MTU of that interface";
      const failed = async (): Promise<true | null> =>
        (await readiness(daemon, 503)).some((missing) => missing.includes(advice)) ? true : null;
      await until("the reason", failed, 20_000);
      assert.match(daemon.process.stderr, new RegExp(`"event":"recovery_failed".*${advice}`));
      await bed.ip("gateway", "link set in0 mtu 3400");
      await bed.ip("source", "link set src0 mtu 3400");
      assert.deepEqual(await readiness(daemon, 200), []);
    });
  });
}

describe("a gateway", ROOT_ONLY, () => {
  let bed: Bed;
  before(async () => {
    bed = await Bed.make({ staticNeighbours: true });
  });
  after(() => bed.remove());
  afterEach(async () => {
    assert.deepEqual(await traces(bed), []);
  });

  /** All of it is forwarded. */
  async function forwards(daemon: Daemon, load: Load = {}): Promise<void> {
    const earlier = (await daemon.peek()).inside;
    await generate(bed, { ...LOAD, count: 100, ...load });
    await receivedIs(daemon, earlier.received + 100);
    const { inside } = await settled(daemon);
    assert.deepEqual([inside.forwarded - earlier.forwarded, inside.dropped], [100, earlier.dropped]);
  }

  const said = (daemon: Daemon, what: RegExp): Promise<unknown> =>
    until(`${what}`, async () => (what.test(daemon.process.stderr) ? true : null));

  describe("whose interfaces change", () => {
    let daemon: Daemon;
    beforeEach(async () => {
      daemon = await Daemon.start(bed);
    });
    afterEach(async () => {
      assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.process.stderr);
    });

    test("goes on under the old index when one is renamed, and says that a start would miss it", async () => {
      const sink = await Sink.start(bed);
      const rename = (from: string, to: string): Promise<void> =>
        bed.ip("gateway", `link set ${from} down`, `link set ${from} name ${to}`, `link set ${to} up`);
      await rename("in0", "in9");
      await said(daemon, /"event":"interface_renamed".*the inside interface in0 is called in9 now/);
      assert.deepEqual(await readiness(daemon, 200), []);
      await forwards(daemon);
      await rename("in9", "in0");
      await readiness(daemon, 200);
      await sink.stop();
    });

    test("sends from the outside interface's new MAC, and takes what comes to the inside one's", async () => {
      const collector = await Collector.start(bed);
      const [outside, inside] = ["02:00:00:00:02:bb", "02:00:00:00:01:bb"];
      // The kernel forgets an interface's neighbours when its address changes, permanent ones too.
      const neighbour = `neigh replace ${ADDRESS.target} lladdr ${MAC.target} dev out0`;
      await bed.ip("gateway", `link set in0 address ${inside}`, `link set out0 address ${outside}`, neighbour);
      const known = async (): Promise<true | null> => {
        await generate(bed, { ...LOAD, count: 1 });
        const { inside: counts } = await settled(daemon);
        return counts.dropped["no_neighbour"] === 0 ? true : null;
      };
      await until("the neighbour to be known again", known);
      const follows = async (): Promise<true | null> => {
        await forwards(daemon, { dstMac: inside });
        const last = (await collector.take()).at(-1);
        return last?.toString("hex", 6, 12) === outside.replaceAll(":", "") ? true : null;
      };
      await until("frames from the new MAC", follows);
      const old = [`link set in0 address ${MAC.inside}`, `link set out0 address ${MAC.outside}`];
      await bed.ip("gateway", ...old, neighbour);
      await collector.stop();
    });

    test("goes on when the inside MTU changes, and says so", async () => {
      const sink = await Sink.start(bed);
      await bed.ip("gateway", "link set in0 mtu 1500");
      await said(daemon, /"event":"link_changed".*inside interface is up, MTU 1500/);
      await forwards(daemon);
      await bed.ip("gateway", "link set in0 mtu 3400");
      await sink.stop();
    });
  });

  describe("whose disk is full", () => {
    let full: string;
    beforeEach(async () => {
      full = join(bed.directory, "full");
      mkdirSync(full);
      await run("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", full]);
      mkdirSync(join(full, "state"));
      await run("sh", ["-c", `touch ${full}/log; cat /dev/zero >${full}/zeros 2>/dev/null || true`]);
    });
    afterEach(async () => {
      await run("umount", [full]);
      rmdirSync(full);
    });
    const state = (): object => ({ directory: join(full, "state"), bpffs: join(bed.bpffs, "vxpipe") });

    test("starts, forwards and ends all the same, and says what could not be written", async () => {
      const sink = await Sink.start(bed);
      const daemon = await Daemon.start(bed, { state: state() });
      await said(daemon, /"event":"state_unwritable".*the file system is full; packets are not affected/);
      await forwards(daemon);
      await sink.stop();
      assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.process.stderr);
      assert.match(daemon.process.lines.join("\n"), /^received +100 /m);
      assert.deepEqual(readdirSync(join(full, "state")), []);
    });

    test("does not mind that its log cannot be written", async () => {
      const sink = await Sink.start(bed);
      const file = writeConfig(bed, bedConfig(bed, { state: state() }));
      const command = `exec ${join(ROOT, "bin/vxpipe")} run --config ${file} >${full}/log 2>&1`;
      const daemon = Daemon.adopt(bed, bed.start("gateway", "sh", ["-c", command]), {});
      await daemon.ready();
      await forwards(daemon);
      await sink.stop();
      assert.deepEqual(await daemon.stop(), { code: 0, signal: null });
    });

    test("leaves no part of a record that it can neither write nor take back for the next one to continue", async () => {
      rmSync(join(full, "zeros"));
      const path = join(full, "records");
      const file = new RecordsFile(path, await loadNative());
      await file.open();
      await file.append(Buffer.from("first\n"));
      await run("chattr", ["+a", path]);
      const many = Array.from({ length: 10_000 }, (_, number) => `line ${number}\n`);
      await assert.rejects(file.append(Buffer.from(many.join(""))), { code: "ENOSPC" });
      await assert.rejects(file.append(Buffer.from("too early\n")), { code: "EPERM" });
      await run("chattr", ["-a", path]);
      await file.append(Buffer.from("last\n"));
      await file.close();
      assert.equal(readFileSync(path, "utf8"), "first\nlast\n");
    });
  });

  describe("whose HTTP port cannot be had", () => {
    const reachable = async (): Promise<true | null> => {
      const answer = await bed.exec("gateway", "curl", ["-sS", "http://127.0.0.1:9470/healthz"]).catch(() => "");
      return answer.includes("alive") ? true : null;
    };

    test("says so once, forwards and obeys its socket all the same, and has the port when it is free", async () => {
      const taken =
        "import socket,sys; s=socket.create_server(('127.0.0.1',9470)); print('ready',flush=True); sys.stdin.read()";
      const holder = bed.start("gateway", PYTHON, ["-c", taken]);
      await holder.nextLine();
      const sink = await Sink.start(bed);
      const daemon = await Daemon.start(bed);
      assert.match(
        daemon.process.stderr,
        /"event":"http_unavailable".*control\.listen 127\.0\.0\.1:9470: the address is in use; packets and the socket are not affected/,
      );
      await forwards(daemon);
      await daemon.cli("allowlist", "add", "10.0.0.1", "--enforce");
      await holder.stop();
      await until("the port to answer", reachable);
      assert.match(daemon.process.stderr, /"event":"http_available"/);
      assert.equal(daemon.process.stderr.split("http_unavailable").length, 2);
      await forwards(daemon);
      await sink.stop();
      assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.process.stderr);
      assert.equal(await reachable(), null);
    });

    test("because the host lacks the address starts, and ends while it still tries", async () => {
      const control = { listen: "203.0.113.77:9470", socket: join(bed.directory, "vxpipe.sock") };
      const daemon = await Daemon.start(bed, { control });
      await said(daemon, /http_unavailable.*203\.0\.113\.77:9470: this host does not have that address;/);
      assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.process.stderr);
    });
  });

  test("whose state directory becomes read-only says so when it ends, and ends well", async () => {
    const directory = join(bed.directory, "readonly");
    mkdirSync(directory);
    await run("mount", ["-t", "tmpfs", "tmpfs", directory]);
    const daemon = await Daemon.start(bed, { state: { directory, bpffs: join(bed.bpffs, "vxpipe") } });
    await run("mount", ["-o", "remount,ro", directory]);
    assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.process.stderr);
    assert.match(daemon.process.stderr, /"event":"state_unwritable".*the file system is read-only/);
    const next = await Daemon.start(bed, { state: { directory, bpffs: join(bed.bpffs, "vxpipe") } });
    assert.deepEqual(await next.stop(), { code: 0, signal: null }, next.process.stderr);
    await run("umount", [directory]);
    rmdirSync(directory);
  });
});
