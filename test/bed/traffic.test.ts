// The traffic tools themselves: a proof is worth what its witnesses are worth. In namespaces; needs root.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { ADDRESS, Bed, MAC } from "./bed.js";
import { Capture } from "./capture.js";
import { run } from "./command.js";
import { Bare, CLASSES, generate, Sink, type TrafficClass } from "./tools.js";

const ROOT_ONLY = process.getuid?.() === 0 ? {} : { skip: "namespaces need root" };
const FIELDS = ["udp.dstport", "vxlan.flags", "vxlan.vni", "ip.src", "ip.dst", "ip.len", "ip.checksum.status"];
const ALL_CLASSES = Object.fromEntries(CLASSES.map((name) => [name, 1])) as Record<TrafficClass, number>;

/** One line of tab-separated fields a frame, as another implementation understands it. */
async function dissect(file: string, fields: readonly string[]): Promise<string[][]> {
  const options = ["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-d", "udp.port==4789,vxlan"];
  const text = await run("tshark", [
    "-r",
    file,
    ...options,
    "-T",
    "fields",
    ...fields.flatMap((field) => ["-e", field]),
  ]);
  return text
    .trimEnd()
    .split("\n")
    .map((line) => line.split("\t"));
}

/** A vxlan device of the kernel as gateway, with whatever nftables does to the packets. */
async function makeKernelGateway(bed: Bed, rule: string): Promise<Bare> {
  await bed.ip(
    "gateway",
    `link add vx1 type vxlan id 1 local ${ADDRESS.inside} dstport 4789 dev in0 nolearning`,
    "link set vx1 address 02:00:00:00:00:aa up",
  );
  await bed.sysctl("gateway", { "net.ipv4.ip_forward": 1 });
  await bed.exec("gateway", "nft", ["-f", "-"], {
    input: `table ip vx {\nchain change {\ntype filter hook prerouting priority raw\n${rule}\n}\n}\n`,
  });
  return Bare.start(bed, "pass");
}

describe("the generator", ROOT_ONLY, () => {
  let bed: Bed;
  before(async () => {
    bed = await Bed.make({ staticNeighbours: true });
    await bed.exec("gateway", "ethtool", ["-K", "in0", "gro", "on"]);
  });
  after(() => bed.remove());

  test("writes every class with the lengths, addresses and checksums it promises, as tshark reads them", async () => {
    const capture = await Capture.start(bed, "gateway", "in0", "udp port 4789");
    const sent = await generate(bed, {
      count: 70,
      mix: ALL_CLASSES,
      flows: 5,
      size: 333,
      rate: 5000,
      vni: 7,
      otherVni: 8,
    });
    await capture.stop();
    const rows = await dissect(capture.file, [...FIELDS, "udp.checksum.status", "ipv6.src"]);
    assert.equal(rows.length, 70);
    const seen = Object.fromEntries(CLASSES.map((name) => [name, 0])) as Record<TrafficClass, number>;
    for (const [ports, flags, vni, sources, destinations, lengths, ipStatus, udpStatus, v6] of rows) {
      assert.equal(destinations?.split(",")[0], ADDRESS.inside);
      assert.equal(lengths?.split(",")[0], String(333 + 50));
      const inner = sources?.split(",")[1];
      const truncated = lengths === `${333 + 50},${333 + 100}`;
      // 1: good; 3: not present, which only the outer UDP header may say; 2: not to be judged, being truncated.
      assert.equal(ipStatus, v6 ? "1" : "1,1");
      assert.equal(udpStatus, truncated ? "3,2" : "3,1");
      if (v6) seen.ipv6++;
      else if (truncated) seen.truncated++;
      else if (flags === "0x0000") seen.no_flag++;
      else if (vni === "8") seen.other_vni++;
      else if (inner?.startsWith("198.51.100.")) seen.denied++;
      else if (ports === "4789,9") seen.no_rule++;
      else if (ports === "4789,31765") seen.rule++;
    }
    assert.deepEqual(seen, sent.classes);
    assert.equal(seen.rule, 10);
  });

  test("gives every flow a 5-tuple of its own and an outer source port that depends on it alone", async () => {
    const capture = await Capture.start(bed, "gateway", "in0", "udp port 4789");
    await generate(bed, { count: 300, flows: 100, sources: "10.1.0.0/30", rate: 20_000 });
    await capture.stop();
    const rows = await dissect(capture.file, ["ip.src", "udp.srcport"]);
    const outerOf = new Map<string, string>();
    for (const [sources, ports] of rows) {
      const [outer, inner] = ports?.split(",") ?? [];
      const flow = `${sources?.split(",")[1]}:${inner}`;
      assert.equal(outerOf.get(flow) ?? outer, outer);
      outerOf.set(flow, outer ?? "");
      assert.ok(Number(outer) >= 49152);
    }
    assert.equal(outerOf.size, 100);
  });

  test("counts what the driver took, to the packet, when the far ring overflows", async () => {
    const bare = await Bare.start(bed, "drop");
    // With NAPI in a thread that has to share the sender's CPU, 256 slots are soon full.
    await bed.exec("gateway", "sh", ["-c", "echo 1 > /sys/class/net/in0/threaded"]);
    const sent = await generate(bed, { duration: 0.5, cpu: 0, flows: 100, mix: { rule: 3, denied: 2, other_vni: 5 } });
    await bed.exec("gateway", "sh", ["-c", "echo 0 > /sys/class/net/in0/threaded"]);
    assert.equal(await bare.stop(), sent.sent);
    assert.ok(sent.refused > 0, "nothing was refused, so nothing was tested");
    assert.equal(sent.generated, sent.sent + sent.refused);
    assert.equal(
      Object.values(sent.classes).reduce((sum, count) => sum + count, 0),
      sent.sent,
    );
  });

  test("keeps to a rate", async () => {
    const sent = await generate(bed, { duration: 1, rate: 20_000 });
    // What is due while others have the CPU is left out.
    assert.ok(sent.sent > 15_000 && sent.sent < 20_500, `${sent.sent} packets`);
  });

  test("refuses what it cannot do with one sentence and exit code 2", async () => {
    await assert.rejects(generate(bed, { mix: { rule: 0 } }), { code: 2, stderr: /weights must add up/ });
    await assert.rejects(generate(bed, { interface: "none0" }), { code: 2, stderr: /no interface none0/ });
    await assert.rejects(generate(bed, { flows: 100_000 }), { code: 2, stderr: /more flows than sources/ });
  });
});

describe("the far end", ROOT_ONLY, () => {
  const rule = `31765=${ADDRESS.target}:8081`;

  async function through(
    change: string,
    load: Parameters<typeof generate>[1],
  ): Promise<Awaited<ReturnType<Sink["stop"]>>> {
    const bed = await Bed.make({ staticNeighbours: true });
    try {
      await makeKernelGateway(bed, change);
      const sink = await Sink.start(bed, { rule, unchanged: ADDRESS.beyond });
      await generate(bed, { rate: 100_000, ...load });
      return await sink.stop();
    } finally {
      await bed.remove();
    }
  }
  const translate = `udp dport 31765 ip daddr set ${ADDRESS.target} udp dport set 8081 notrack`;

  test("finds nothing wrong with packets that are as the rule says, large and small", async () => {
    for (const size of [64, 65, 127, 777, 1400]) {
      const arrived = await through(translate, { count: 2000, size, flows: 50, mix: { rule: 3, no_rule: 1 } });
      assert.equal(arrived.packets, 2000);
      assert.equal(arrived.bytes, 2000 * (size + 14));
      assert.deepEqual([arrived.classes.rule, arrived.classes.no_rule], [1500, 500]);
      assert.equal(arrived.udpChecksums.checked, 2000);
      assert.ok(
        Object.values(arrived.wrong).every((count) => count === 0),
        JSON.stringify(arrived.wrong),
      );
    }
  });

  test("names a destination that is not what the rule says", async () => {
    const arrived = await through("", { count: 300 });
    assert.equal(arrived.wrong.destination, 300);
  });

  test("names a wrong UDP checksum", async () => {
    const arrived = await through(`udp dport 31765 udp checksum set 0x1234\n${translate}`, { count: 300, size: 1000 });
    assert.equal(arrived.wrong.udpChecksum, 300);
    assert.equal(arrived.wrong.ipChecksum, 0);
  });

  test("names a class that should have been dropped", async () => {
    const arrived = await through(translate, { count: 300, mix: { denied: 1 } });
    assert.equal(arrived.wrong.class, 300);
  });

  test("names packets of a flow that come again or too late", async () => {
    const bed = await Bed.make({ staticNeighbours: true });
    try {
      await makeKernelGateway(bed, translate);
      const sink = await Sink.start(bed, { rule });
      await generate(bed, { count: 10, firstSequence: 11 });
      await generate(bed, { count: 1, firstSequence: 20 });
      assert.deepEqual([(await sink.report()).wrong.duplicate, (await sink.report()).wrong.order], [1, 0]);
      await generate(bed, { count: 10 });
      assert.deepEqual([(await sink.report()).wrong.duplicate, (await sink.report()).wrong.order], [1, 10]);
      await sink.stop();
    } finally {
      await bed.remove();
    }
  });

  test("measures the age of stamped packets", async () => {
    const bed = await Bed.make({ staticNeighbours: true });
    try {
      await makeKernelGateway(bed, translate);
      const sink = await Sink.start(bed, { rule });
      const sent = await generate(bed, { latency: true, duration: 0.5, rate: 10_000, cpu: 0 });
      const { latency, packets } = await sink.stop();
      assert.equal(packets, sent.sent);
      assert.equal(latency?.count, sent.sent);
      assert.ok(
        latency !== null && latency.p50Us > 0.1 && latency.p50Us <= latency.p99Us && latency.p99Us <= latency.maxUs,
      );
    } finally {
      await bed.remove();
    }
  });

  test("leaves ARP and packets of others to the kernel", async () => {
    const bed = await Bed.make({ staticNeighbours: false });
    try {
      const sink = await Sink.start(bed, {});
      const text = await bed.exec("gateway", "ping", ["-c", "2", "-l", "2", "-i", "2", ADDRESS.target]);
      assert.match(text, /2 received/);
      const arrived = await sink.stop();
      assert.deepEqual([arrived.otherIp, arrived.packets], [2, 0]);
      assert.ok(arrived.neighbour >= 1);
    } finally {
      await bed.remove();
    }
  });

  test("refuses an interface that another program holds, and says so", async () => {
    const bed = await Bed.make();
    try {
      await Sink.start(bed, {});
      await assert.rejects(Sink.start(bed, {}), /attaching sink natively/);
      assert.equal((await bed.exec("target", "ip", ["-j", "link", "show", "dst0"])).includes(MAC.target), true);
    } finally {
      await bed.remove();
    }
  });
});
