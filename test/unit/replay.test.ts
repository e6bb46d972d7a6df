// `vxpipe replay` as a person runs it: every kind of capture in, the same packets out, damaged ones refused with what and
// where, and packet time as the only clock. Without root.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, test } from "node:test";
import { until } from "../bed/command.js";
import * as captures from "./captures.js";
import { pcap, readPackets, type Packet } from "./captures.js";

const root = new URL("../../../", import.meta.url).pathname;
const directory = mkdtempSync(join(tmpdir(), "vxpipe-replay-"));
after(() => rmSync(directory, { recursive: true }));

function framesOf(name: string): Buffer[] {
  return readPackets(readFileSync(join(root, "test/packets", name, "in.pcap"))).map(({ frame }) => frame);
}

const config = join(root, "test/packets/rule-udp/config.yaml");
const frames = framesOf("rule-udp");
const second = 1_000_000_000n;
/** With digits that only nanoseconds keep. */
const packets: Packet[] = frames.map((frame, index) => ({
  frame,
  time: 1_700_000_000n * second + BigInt(index) * 1_234_567n,
}));
const leaving = readPackets(readFileSync(join(root, "test/packets/rule-udp/out.pcap"))).map(({ frame }) => frame);

let runs = 0;

interface Side {
  received: number;
  forwarded: number;
  passed: number;
  pending: number;
  dropped: Record<string, number>;
}

function replay(input: Buffer | string, ...more: string[]) {
  const out = join(directory, `out-${++runs}.pcap`);
  let path = input;
  if (typeof path !== "string") {
    path = join(directory, `in-${runs}`);
    writeFileSync(path, input);
  }
  const files = ["--in", path as string, "--out", out];
  const { status, stdout, stderr } = spawnSync(
    join(root, "bin/vxpipe"),
    ["replay", "--config", config, ...files, ...more],
    { encoding: "utf8" },
  );
  const read = (): Buffer => readFileSync(out);
  return { code: status, out: stdout, err: stderr, path: path as string, read };
}

const statisticsOf = (text: string) => JSON.parse(text) as { inside: Side; datapath: object; uptimeSeconds: number };

/** Times as a capture with that unit keeps them. */
const kept = (unit: bigint) =>
  packets.map(({ time }, index) => ({ frame: leaving[index], time: time - (time % unit) }));

for (const endian of ["little", "big"] as const) {
  for (const [unit, ns] of [
    ["us", 1000n],
    ["ns", 1n],
  ] as const) {
    test(`a ${endian}-endian pcap in ${unit} comes out with its times`, () => {
      const { code, err, read } = replay(pcap(packets, endian, unit));
      assert.deepEqual([code, err], [0, ""]);
      assert.deepEqual(readPackets(read()), kept(ns));
      assert.equal(read().readUInt32LE(0), unit === "ns" ? 0xa1b23c4d : 0xa1b2c3d4);
    });
  }

  test(`a ${endian}-endian pcap-ng with interfaces of different resolution comes out with its times`, () => {
    const parts = packets.map(({ frame, time }, index) =>
      index % 2 === 0
        ? captures.enhancedPacket(endian, frame, time, 0)
        : captures.enhancedPacket(endian, frame, time / 1000n, 1),
    );
    const described = [captures.interfaceBlock(endian, 9), captures.interfaceBlock(endian)];
    const unknown = captures.block(endian, 0x0bad, Buffer.from("whatever"));
    const { code, err, read } = replay(
      Buffer.concat([captures.section(endian), unknown, ...described, unknown, ...parts]),
    );
    assert.deepEqual([code, err], [0, ""]);
    const expected = kept(1n).map((packet, index) => (index % 2 === 0 ? packet : (kept(1000n)[index] as Packet)));
    assert.deepEqual(readPackets(read()), expected);
  });
}

test("sections may differ in byte order, and simple and old packet blocks are packets", () => {
  const [first, next, third] = frames as [Buffer, Buffer, Buffer];
  const { code, err, read } = replay(
    Buffer.concat([
      captures.section("big"),
      captures.interfaceBlock("big", 0x8a, 1, 1000),
      captures.enhancedPacket("big", first, 5n * 1024n + 512n),
      captures.section("little"),
      captures.interfaceBlock("little"),
      captures.simplePacket("little", next),
      captures.oldPacket("little", third, 2000n * 1_000_000n),
    ]),
  );
  assert.deepEqual([code, err], [0, ""]);
  const times = [1005n * second + second / 2n, 1005n * second + second / 2n, 2000n * second];
  assert.deepEqual(
    readPackets(read()),
    times.map((time, index) => ({ frame: leaving[index], time })),
  );
});

test("the same capture twice is the same bytes, output and statistics", () => {
  const runOnce = () => {
    const stats = join(directory, "stats.json");
    const { out, read } = replay(pcap(packets), "--stats", stats, "-o", "json");
    return [out, readFileSync(stats, "utf8"), read().toString("hex")];
  };
  const first = runOnce();
  assert.deepEqual(runOnce(), first);
  assert.equal(first[0], first[1]);
  const { datapath, uptimeSeconds } = statisticsOf(first[0] as string);
  assert.deepEqual(datapath, { mode: "replay", attach: null, zeroCopy: false });
  assert.equal(uptimeSeconds, 0);
});

test("fragments wait for their first one by packet time, and no longer than the gateway lets them", () => {
  const pieces = framesOf("fragments-first-last-no-rule").slice(0, 3);
  const at = (seconds: number[]): Packet[] =>
    pieces.map((frame, index) => ({ frame, time: BigInt(seconds[index] ?? 0) * second }));
  const soon = replay(pcap(at([100, 101, 120])), "-o", "json");
  assert.equal(statisticsOf(soon.out).inside.forwarded, 3);
  assert.deepEqual(
    readPackets(soon.read()).map(({ time }) => time),
    [120n * second, 120n * second, 120n * second],
  );
  // Given up after 28 seconds; the datagram stays dropped for 30 more.
  const late = statisticsOf(replay(pcap(at([100, 101, 135])), "-o", "json").out).inside;
  assert.deepEqual([late.forwarded, late.dropped["fragment_limit"], late.pending], [0, 3, 0]);
  const never = statisticsOf(replay(pcap(at([100, 101]).slice(0, 2)), "-o", "json").out).inside;
  assert.deepEqual([never.received, never.dropped["fragment_limit"], never.pending], [2, 2, 0]);
});

test("time that runs backwards is kept as it is and loses nothing", () => {
  const backwards = frames.map((frame, index) => ({ frame, time: BigInt(1000 - index) * second }));
  assert.deepEqual(
    readPackets(replay(pcap(backwards)).read()),
    backwards.map(({ time }, index) => ({ frame: leaving[index], time })),
  );
});

/** A case's packets by its own configuration. */
function replayCase(name: string, edit: (frame: Buffer) => Buffer = (frame) => frame): Side {
  const input = pcap(framesOf(name).map((frame, index) => ({ frame: edit(frame), time: BigInt(index) * second })));
  const { out } = replay(input, "--config", join(root, "test/packets", name, "config.yaml"), "-o", "json");
  return statisticsOf(out).inside;
}

test("every destination has a route but the host itself and what never leaves one", () => {
  // Of the case's nine: 0.0.0.0/8, 127.0.0.0/8, the broadcast address, and one that is made the VTEP's here.
  const toVtep = (frame: Buffer): Buffer => {
    const at = frame.indexOf(Buffer.from([192, 0, 2, 2]), 50);
    return at < 0 ? frame : Buffer.concat([frame.subarray(0, at), Buffer.from([192, 0, 2, 1]), frame.subarray(at + 4)]);
  };
  const { forwarded, dropped } = replayCase("no-route", toVtep);
  assert.deepEqual([forwarded, dropped["no_route"]], [5, 4]);
});

test("with plain Ethernet inside, packets are the frames to 02:00:00:00:00:01", () => {
  const { forwarded, passed, dropped } = replayCase("ethernet");
  assert.deepEqual([forwarded, passed, dropped["ipv6"], dropped["truncated"]], [9, 4, 1, 1]);
});

const good = pcap(packets);
const goodNg = Buffer.concat([
  captures.section("little"),
  captures.interfaceBlock("little"),
  captures.enhancedPacket("little", frames[0] as Buffer, 1n),
]);

function changed(bytes: Buffer, at: number, value: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt32LE(value, at);
  return copy;
}

const damaged: [what: string, bytes: Buffer, message: RegExp][] = [
  ["empty", Buffer.alloc(0), /is empty/],
  ["three bytes", good.subarray(0, 3), /is too short for a capture/],
  ["text", Buffer.from("not a capture"), /is neither pcap nor pcap-ng: it starts with 6e 6f 74 20/],
  ["gzip", Buffer.from([0x1f, 0x8b, 8, 0]), /compressed with gzip/],
  ["half a file header", good.subarray(0, 20), /file header is cut short: the file ends at byte 20/],
  ["another version", changed(good, 4, 9), /at byte 4: version 9 is not 2/],
  ["another link type", changed(good, 20, 113), /at byte 20: link type 113 is not Ethernet/],
  ["half a packet header", good.subarray(0, 30), /at byte 24: the header of packet 1 .* ends at byte 30/],
  ["half a packet", good.subarray(0, 60), /at byte 24: packet 1 that starts here is cut short.*byte 60/],
  ["a packet too long", changed(good, 32, 0x7fffffff), /packet 1, at byte 24: claims 2147483647 bytes/],
  ["a fraction too long", changed(good, 28, 1_000_000), /packet 1, at byte 24: the fraction of its time/],
  ["pcap-ng, no byte order", changed(goodNg, 8, 7), /at byte 8: .*byte-order mark/],
  ["pcap-ng, half a block", goodNg.subarray(0, goodNg.length - 9), /cut short/],
  ["pcap-ng, lengths that differ", changed(goodNg, 24, 32), /length is 28 at its start and 32 at its end/],
  ["pcap-ng, a block of 4 bytes", changed(goodNg, 32, 4), /at byte 28: a block of 4 bytes|interface block of 4/],
  ["pcap-ng, a packet longer than its block", changed(goodNg, 68, 5000), /claims 5000 bytes in a block of/],
  ["pcap-ng, no such interface", changed(goodNg, 56, 9), /interface 9 was not described/],
  [
    "pcap-ng, another link type",
    Buffer.concat([
      captures.section("big"),
      captures.interfaceBlock("big", 6, 113),
      captures.enhancedPacket("big", frames[0] as Buffer, 1n),
    ]),
    /link type 113 of its interface is not Ethernet/,
  ],
  ["pcap-ng, the year 20000", changed(goodNg, 60, 0x7fffffff), /its time is not between 1970 and 2106/],
];

for (const [what, bytes, message] of damaged) {
  test(`a damaged capture is refused with what and where: ${what}`, () => {
    const before = new Set(readdirSync(directory));
    const { code, err, path } = replay(bytes);
    assert.equal(code, 2);
    assert.ok(err.startsWith(`vxpipe: ${path}: `), err);
    assert.match(err, message);
    const left = readdirSync(directory).filter((name) => !before.has(name) && !name.startsWith("in-"));
    assert.deepEqual(left, [], "nothing is written");
  });
}

test("an output that is the capture itself is refused, under whatever name, and the capture stays as it was", () => {
  const [file, symbolic, hard] = ["both.pcap", "symbolic.pcap", "hard.pcap"].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  writeFileSync(file, good);
  symlinkSync(file, symbolic);
  linkSync(file, hard);
  for (const name of [file, `${directory}/./both.pcap`, symbolic, hard]) {
    for (const option of ["--out", "--stats"]) {
      const { code, err } = replay(file, option, name);
      assert.deepEqual([code, err.split("\n")[0]], [2, `vxpipe: --in and ${option} name the same file`], name);
    }
  }
  assert.match(
    replayNat("flows", good, "--return", symbolic, "--return-out", hard).err,
    /--return and --return-out name/,
  );
  assert.deepEqual(readFileSync(file), good);
});

test("files that cannot be read or written are one sentence", () => {
  assert.match(replay(join(directory, "missing")).err, /missing: No such file or directory/);
  assert.equal(replay(directory).code, 2);
  const nowhere = replay(good, "--stats", join(directory, "no/such/folder"));
  assert.deepEqual([nowhere.code, /there is no such file/.test(nowhere.err)], [1, true]);
  const args = ["replay", "--config", config, "--in", join(directory, "both.pcap"), "--out", "/nowhere/out.pcap"];
  assert.equal(spawnSync(join(root, "bin/vxpipe"), args).status, 1);
  assert.equal(spawnSync(join(root, "bin/vxpipe"), [...args.slice(0, -1), "/dev/full"]).status, 1);
});

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  test(`ended by ${signal} in the middle it leaves nothing behind, and what was there before as it was`, async () => {
    const folder = join(directory, signal);
    mkdirSync(folder);
    const [input, output] = [join(folder, "in.fifo"), join(folder, "out.pcap")];
    assert.equal(spawnSync("mkfifo", [input]).status, 0);
    writeFileSync(output, "from before");
    const command = spawn(join(root, "bin/vxpipe"), ["replay", "--config", config, "--in", input, "--out", output]);
    const ended = once(command, "exit");
    const writer = await open(input, "w"); // returns when it is read
    await writer.write(good);
    await until("the output to be begun", () => Promise.resolve(readdirSync(folder).length === 3 ? true : null));
    command.kill(signal);
    assert.deepEqual(await ended, [null, signal]);
    await writer.close();
    assert.deepEqual(readdirSync(folder).sort(), ["in.fifo", "out.pcap"]);
    assert.equal(readFileSync(output, "utf8"), "from before");
  });

test("--return and --return-out without nat.source are refused", () => {
  for (const option of ["--return", "--return-out"]) {
    const { code, err } = replay(good, option, join(directory, "x.pcap"));
    assert.deepEqual([code, err.split("\n")[0]?.includes("need nat.source")], [2, true]);
  }
});

/** A case of test/replay with other files; `--config` counts where it is given last. */
function replayNat(name: string, input: Buffer | string, ...more: string[]) {
  return replay(input, "--config", join(root, "test/replay", name, "config.yaml"), ...more);
}

const natFile = (name: string, file: string): string => join(root, "test/replay", name, file);

test("with source NAT each of the captures but --in and --out may be left out", () => {
  const { code, err, read } = replayNat("flows", natFile("flows", "in.pcap"));
  assert.deepEqual([code, err], [0, ""]);
  assert.deepEqual(readPackets(read()), readPackets(readFileSync(natFile("flows", "out.pcap"))));
  const back = join(directory, "back.pcap");
  assert.equal(replayNat("ttl-expired", natFile("ttl-expired", "in.pcap"), "--return-out", back).code, 0);
  assert.equal(readPackets(readFileSync(back)).length, 3, "ICMP errors of ours need no --return");
});

test("of two packets at one time the one from inside is first, so its answer finds the way back", () => {
  const [first] = readPackets(readFileSync(natFile("flows", "in.pcap")));
  const [answer] = readPackets(readFileSync(natFile("flows", "return.pcap")));
  assert.ok(first !== undefined && answer !== undefined);
  const returning = (time: bigint): Side => {
    const [file, back] = [join(directory, "return.pcap"), join(directory, "back.pcap")];
    writeFileSync(file, pcap([{ frame: answer.frame, time }]));
    const { out } = replayNat("flows", pcap([first]), "--return", file, "--return-out", back, "-o", "json");
    return (JSON.parse(out) as { outside: Side }).outside;
  };
  assert.equal(returning(first.time).forwarded, 1);
  assert.equal(returning(first.time - 1000n).dropped["no_session"], 1);
});

test("captures from before 1971 and years apart are one clock", () => {
  const [first] = readPackets(readFileSync(natFile("flows", "in.pcap")));
  assert.ok(first !== undefined);
  const times = [0n, 300n, 1000n, 4_000_000_000n];
  const input = pcap(times.map((time) => ({ frame: first.frame, time: time * second })));
  const { out } = replayNat("flows", input, "-o", "json");
  const { nat, inside } = JSON.parse(out) as { nat: { sessionsCreated: number }; inside: Side };
  assert.deepEqual([inside.forwarded, nat.sessionsCreated], [4, 3]);
});

test("a damaged --return is refused by its name, and nothing is written", () => {
  const [file, back] = [join(directory, "damaged.pcap"), join(directory, "never.pcap")];
  writeFileSync(file, good.subarray(0, 60));
  const { code, err } = replayNat("flows", natFile("flows", "in.pcap"), "--return", file, "--return-out", back);
  assert.deepEqual([code, err.startsWith(`vxpipe: ${file}: `)], [2, true]);
  assert.equal(existsSync(back), false);
});

test("two outputs to one file are refused", () => {
  const file = join(directory, "once.pcap");
  assert.match(replay(good, "--stats", file, "--return-out", file).err, /--return-out and --stats name the same file/);
  const [again, other] = [join(directory, "again.pcap"), `${directory}/../${basename(directory)}/again.pcap`]; // not there yet
  assert.match(replay(good, "--out", again, "--stats", other).err, /--out and --stats name the same file/);
});

test("a device holds nothing that could be lost: outputs may both be /dev/null", () => {
  const { code, err } = replayNat(
    "flows",
    natFile("flows", "in.pcap"),
    "--out",
    "/dev/null",
    "--return-out",
    "/dev/null",
  );
  assert.deepEqual([code, err], [0, ""]);
});
