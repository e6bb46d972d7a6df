// The packet cases of test/packets replayed: what leaves is what scapy says, byte for byte and in order, and the counters
// are the case's. Needs neither root nor a kernel. What a replay has no host for is named here.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { readPcap } from "../bed/capture.js";

const root = new URL("../../../", import.meta.url).pathname;
const cases = join(root, "test/packets");
const directory = mkdtempSync(join(tmpdir(), "vxpipe-replay-"));
after(() => rmSync(directory, { recursive: true }));

/** Cases whose subject is the test bed's own routes and neighbours; a replay has one route and one neighbour. */
const needsHost = ["ethernet", "fragments-dropped", "next-hops-ipv6", "no-neighbour", "no-route"];
/** The bed's on-link neighbour; a replay has every packet go by its next hop. */
const onlinkMac = "020000000077";
const nextHopMac = "020000000003";

interface Counters {
  received: number;
  fragmentsExtra: number;
  originated: number;
  dropped: Record<string, number>;
}

/** What a case's counters.json compares. */
function comparable(file: string): Counters {
  const { inside, fragmentsExtra, originated } = JSON.parse(readFileSync(file, "utf8")) as {
    inside: Counters & Record<"forwarded" | "passed" | "pending" | "translated" | "checksumCompleted", number>;
    fragmentsExtra: number;
    originated: number;
  };
  const { received, forwarded, passed, pending, translated, checksumCompleted } = inside;
  const dropped = Object.fromEntries(Object.entries(inside.dropped).filter(([, count]) => count !== 0));
  const counts = { received, forwarded, passed, pending, translated, checksumCompleted };
  return { ...counts, fragmentsExtra, originated, dropped };
}

const hex = (file: string): string[] => readPcap(file).map((frame) => frame.toString("hex"));

const names = readdirSync(cases, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && !entry.name.startsWith("__"))
  .map(({ name }) => name);

test("the cases that need a host exist", () => {
  assert.deepEqual(
    needsHost.filter((name) => !names.includes(name)),
    [],
  );
});

for (const name of names.filter((one) => !needsHost.includes(one))) {
  test(`${name}, replayed: ${readFileSync(join(cases, name, "description.txt"), "utf8").trim()}`, () => {
    const [out, stats] = [join(directory, `${name}.pcap`), join(directory, `${name}.json`)];
    const files = ["--in", join(cases, name, "in.pcap"), "--out", out, "--stats", stats];
    const { status, stderr } = spawnSync(
      join(root, "bin/vxpipe"),
      ["replay", "--config", join(cases, name, "config.yaml"), ...files],
      { encoding: "utf8" },
    );
    assert.deepEqual([status, stderr], [0, ""]);
    assert.deepEqual(comparable(stats), JSON.parse(readFileSync(join(cases, name, "counters.json"), "utf8")));
    const expected = hex(join(cases, name, "out.pcap")).map((frame) =>
      frame.startsWith(onlinkMac) ? nextHopMac + frame.slice(nextHopMac.length) : frame,
    );
    assert.deepEqual(hex(out), expected);
  });
}
