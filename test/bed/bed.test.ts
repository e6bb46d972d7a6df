// The test bed: what it makes works, and what it made is gone. Needs root.
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { tmpdir } from "node:os";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { ADDRESS, Bed } from "./bed.js";
import { Capture, reassemble } from "./capture.js";
import { Background, run } from "./command.js";
import { converseTcp, mirrorLoopback, sendUdp, UdpReceiver } from "./endpoints.js";
import { sweepStaleBeds } from "./remains.js";
import { Bare } from "./tools.js";

const ROOT_ONLY = process.getuid?.() === 0 ? {} : { skip: "namespaces need root" };

function remains(name: string): string[] {
  const namespaces = existsSync("/run/netns") ? readdirSync("/run/netns") : [];
  return [...namespaces, ...readdirSync(tmpdir())].filter((entry) => entry.startsWith(name));
}

describe("a test bed", ROOT_ONLY, () => {
  test("joins its namespaces, with IPv4 and IPv6", async () => {
    const bed = await Bed.make({ ipv6: true });
    try {
      for (const [place, address] of [
        ["source", ADDRESS.inside],
        ["source", ADDRESS.inside6],
        ["target", ADDRESS.outside],
        ["target", ADDRESS.outside6],
      ] as const) {
        await bed.exec(place, "ping", ["-q", "-c", "1", "-W", "2", address]);
      }
    } finally {
      await bed.remove();
    }
  });

  test("leaves nothing behind, processes in its namespaces included", async () => {
    const bed = await Bed.make({ vxlan: { vni: 5 } });
    const sleeper = bed.start("gateway", "sleep", ["1000"]);
    assert.notEqual(remains(bed.name).length, 0);
    await bed.remove();
    assert.deepEqual(remains(bed.name), []);
    assert.notEqual(sleeper.exit, null);
    assert.ok(!(await run("findmnt", ["-n", "-o", "TARGET"])).includes(bed.name));
  });

  test("is swept by the next one when its process was killed", async () => {
    const script = `
      const { Bed } = await import(${JSON.stringify(join(dirname(fileURLToPath(import.meta.url)), "bed.js"))});
      const bed = await Bed.make();
      bed.start("target", "sleep", ["1000"]);
      console.log(bed.name);
      setInterval(() => {}, 1000);`;
    const victim = new Background(process.execPath, ["--input-type=module", "-e", script]);
    const name = await victim.nextLine();
    await victim.stop("SIGKILL");
    assert.notEqual(remains(name).length, 0);
    sweepStaleBeds();
    assert.deepEqual(remains(name), []);
  });

  test("carries a whole mirrored TCP conversation and datagrams in the kernel's VXLAN, offloads on and off", async () => {
    for (const offloads of [true, false]) {
      const bed = await Bed.make({ vxlan: { vni: 100 }, offloads });
      try {
        await mirrorLoopback(bed, "203.0.113.10");
        // With a program on the gateway's side the source cuts large segments itself, as for a real gateway.
        await Bare.start(bed, "pass");
        const capture = await Capture.start(bed, "gateway", "in0", "udp port 4789");
        const { sent, received } = await converseTcp(bed, "source", {
          from: "10.0.0.1",
          to: "203.0.113.10",
          port: 8080,
          bytes: 300_000,
        });
        assert.deepEqual(received, sent);
        const datagrams = await sendUdp(bed, { port: 31765, count: 10, bytes: 100 });
        assert.deepEqual([datagrams.count, datagrams.bytes], [10, 1000]);
        const inner = (await capture.stop()).map((frame) => frame.subarray(50));
        assert.deepEqual(reassemble(inner, "203.0.113.10:8080"), { bytes: 300_000, digest: sent.digest });
      } finally {
        await bed.remove();
      }
    }
  });

  test("hands datagrams to a receiver that digests them as the sender does", async () => {
    const bed = await Bed.make();
    try {
      const receiver = await UdpReceiver.start(bed, "gateway", ADDRESS.inside, 9000, 500);
      const sent = await sendUdp(bed, { from: ADDRESS.source, to: ADDRESS.inside, port: 9000, count: 500, bytes: 300 });
      assert.deepEqual(await receiver.finish(), sent);
    } finally {
      await bed.remove();
    }
  });
});

/** An Ethernet frame with a TCP segment from 10.0.0.1:1000 to 10.0.0.2:80. */
function segment(sequence: number, text: string, syn = false): Buffer {
  const frame = Buffer.alloc(54 + text.length);
  frame.writeUInt16BE(0x0800, 12);
  frame[14] = 0x45;
  frame.writeUInt16BE(40 + text.length, 16);
  frame[23] = 6;
  frame.set([10, 0, 0, 1, 10, 0, 0, 2], 26);
  frame.writeUInt16BE(1000, 34);
  frame.writeUInt16BE(80, 36);
  frame.writeUInt32BE(sequence >>> 0, 38);
  frame[46] = 0x50;
  frame[47] = syn ? 2 : 16;
  frame.write(text, 54);
  return frame;
}

describe("reassembly", () => {
  const opening = segment(0xfffffffe, "", true);
  const whole = reassemble([opening, segment(0xffffffff, "abcdef")], "10.0.0.2:80");

  test("puts segments in order across the end of the sequence space, and takes repeated bytes once", () => {
    const pieces = [
      opening,
      segment(2, "def"),
      segment(0xffffffff, "abc"),
      segment(0, "bcd"),
      segment(0xffffffff, "abc"),
    ];
    assert.deepEqual(reassemble(pieces, "10.0.0.2:80"), whole);
    assert.equal(whole.bytes, 6);
  });

  test("stops at a hole", () => {
    assert.equal(reassemble([opening, segment(0xffffffff, "abc"), segment(3, "ef")], "10.0.0.2:80").bytes, 3);
  });

  test("is empty for an endpoint nobody opened a connection to", () => {
    assert.deepEqual(reassemble([segment(5, "abc")], "10.0.0.2:80"), { bytes: 0, digest: "" });
  });
});
