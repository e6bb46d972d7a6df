// `vxpipe doctor` in a bed's gateway namespace, on real veths: what it says of them is so. Needs root.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import type { Finding } from "../../src/doctor/facts.js";
import { Bed } from "../bed/bed.js";
import { CommandError, ROOT } from "../bed/command.js";
import { Daemon } from "../bed/daemon.js";
import { ROOT_ONLY } from "./ledger.js";

const VXPIPE = join(ROOT, "bin/vxpipe");

interface Report {
  ok: boolean;
  problems: number;
  findings: Finding[];
  datapath: { auto: string };
  interfaces: { name: string; driver: string }[];
}

describe("vxpipe doctor", ROOT_ONLY, () => {
  let bed: Bed;
  before(async () => {
    bed = await Bed.make();
  });
  after(() => bed.remove());

  /** Its report and exit code, which agree. */
  async function doctor(...args: string[]): Promise<Report> {
    const ran = bed.exec("gateway", VXPIPE, ["doctor", ...args, "-o", "json"]).then(
      (stdout) => ({ code: 0 as CommandError["code"], stdout }),
      (error: unknown) => {
        if (error instanceof CommandError && error.code === 1) return error;
        throw error;
      },
    );
    const { code, stdout } = await ran;
    const report = JSON.parse(stdout) as Report;
    assert.deepEqual([report.ok, report.problems === 0], [code === 0, code === 0]);
    return report;
  }

  const said = ({ findings }: Report, subject: string, topic: string): Finding | undefined =>
    findings.find((finding) => finding.subject === subject && finding.topic === topic);

  test("finds a veth fit inside, and knows that its far end, which it cannot see, takes no redirected frames", async () => {
    const report = await doctor("in0");
    assert.deepEqual(
      report.interfaces.map(({ name, driver }) => [name, driver]),
      [["in0", "veth"]],
    );
    const problems = report.findings.filter(({ subject, level }) => subject === "in0" && level === "problem");
    assert.deepEqual(problems, []);
    assert.match(said(report, "in0", "far end")?.message ?? "", /in another network namespace and has neither$/);
    assert.match(
      said(report, "in0", "datapath")?.message ?? "",
      /^auto is xdp with it inside, afxdp with it outside; /,
    );
    assert.equal(report.datapath.auto, "afxdp");
    await bed.exec("source", "ethtool", ["-K", "src0", "gro", "on"]);
    const better = await doctor("in0");
    assert.deepEqual([said(better, "in0", "datapath")?.level, better.datapath.auto], ["ok", "xdp"]);
    await bed.exec("source", "ethtool", ["-K", "src0", "gro", "off"]);
  });

  test("without a name looks at every interface that is up", async () => {
    const { interfaces } = await doctor();
    assert.deepEqual(interfaces.map(({ name }) => name).sort(), ["in0", "out0"]);
  });

  test("says of an MTU what the kernel says: 3506 starts, 3507 does not, and its command mends it", async () => {
    const links = [0, 1].map((end) => `link set dev pair${end} up`);
    await bed.ip("gateway", "link add name pair0 mtu 3507 type veth peer name pair1 mtu 3507", ...links);
    try {
      const program = join(ROOT, "build/native/gen/sink.bpf.o");
      const command = ["link", "set", "dev", "pair0", "xdpdrv", "obj", program, "sec", "xdp"];
      const attach = (): Promise<string> => bed.exec("gateway", "ip", command);
      const tooBig = said(await doctor("pair0"), "pair0", "MTU");
      assert.deepEqual([tooBig?.level, tooBig?.command], ["problem", "ip link set dev pair1 mtu 3506"]);
      await assert.rejects(attach(), /MTU is too large/);
      await bed.exec("gateway", "sh", ["-c", tooBig?.command ?? ""]);
      assert.equal(said(await doctor("pair0"), "pair0", "MTU")?.level, "ok");
      await attach();
      const foreign = said(await doctor("pair0"), "pair0", "XDP program");
      assert.match(foreign?.message ?? "", /^sink \(id \d+\) is attached, native/);
      assert.equal(said(await doctor("pair1"), "pair1", "far end")?.level, "ok");
      await bed.exec("gateway", "sh", ["-c", foreign?.command ?? ""]);
      assert.equal(said(await doctor("pair0"), "pair0", "XDP program")?.level, "ok");
      const far = said(await doctor("pair0"), "pair0", "far end");
      await bed.exec("gateway", "sh", ["-c", far?.command ?? ""]);
      assert.equal(said(await doctor("pair0"), "pair0", "far end")?.level, "ok");
    } finally {
      await bed.ip("gateway", "link del dev pair0");
    }
  });

  test("tells the gateway's own programs from others", async () => {
    const daemon = await Daemon.start(bed);
    try {
      const report = await doctor();
      for (const name of ["in0", "out0"]) {
        const { level, message } = said(report, name, "XDP program") ?? {};
        assert.equal(level, "ok");
        assert.match(message ?? "", /^vxpipe's own vx_\w+ \(id \d+\) is attached, native$/);
      }
    } finally {
      await daemon.stop();
    }
  });

  test("says that an interface is down, with the command that lifts it", async () => {
    await bed.ip("gateway", "link set dev out0 down");
    const down = said(await doctor("out0"), "out0", "carrier");
    assert.deepEqual([down?.level, down?.command], ["problem", "ip link set dev out0 up"]);
    await bed.exec("gateway", "sh", ["-c", down?.command ?? ""]);
    assert.equal(said(await doctor("out0"), "out0", "carrier")?.level, "ok");
  });

  test("ends with 3 where there is no such interface", async () => {
    for (const name of ["nowhere0", "../in0", "."]) {
      const error: unknown = await doctor(name).catch((reason: unknown) => reason);
      assert.ok(error instanceof CommandError && error.code === 3 && error.stdout === "");
      assert.equal((JSON.parse(error.stderr) as { error: { code: string } }).error.code, "INTERFACE_UNKNOWN");
    }
  });
});
