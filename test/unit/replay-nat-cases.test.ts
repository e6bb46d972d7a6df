// The cases of test/replay, source NAT both ways: what leaves is what scapy says, byte for byte and at that time, and the
// counters are the case's. Needs neither root nor a kernel.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { readPackets } from "./captures.js";

const root = new URL("../../../", import.meta.url).pathname;
const cases = join(root, "test/replay");
const directory = mkdtempSync(join(tmpdir(), "vxpipe-replay-"));
after(() => rmSync(directory, { recursive: true }));

interface Side {
  received: number;
  forwarded: number;
  passed: number;
  pending: number;
  dropped: Record<string, number>;
}

interface Counters {
  inside: Side;
  outside: Side;
  fragmentsExtra: number;
  originated: number;
}

/** What a case's counters.json compares. */
function comparable({ inside, outside, fragmentsExtra, originated }: Counters): Counters {
  const side = ({ received, forwarded, passed, pending, dropped }: Side): Side => {
    const reasons = Object.fromEntries(Object.entries(dropped).filter(([, count]) => count !== 0));
    return { received, forwarded, passed, pending, dropped: reasons };
  };
  return { inside: side(inside), outside: side(outside), fragmentsExtra, originated };
}

const packets = (file: string): string[] =>
  readPackets(readFileSync(file)).map(({ frame, time }) => `${time} ${frame.toString("hex")}`);

test("the cases are what their script writes", () => {
  const { status, stderr } = spawnSync("/usr/bin/python3", [join(cases, "generate.py"), "--check"], {
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
});

const names = readdirSync(cases, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && !entry.name.startsWith("__"))
  .map(({ name }) => name);

for (const name of names) {
  test(`${name}: ${readFileSync(join(cases, name, "description.txt"), "utf8").trim()}`, () => {
    const [folder, at] = [join(cases, name), (file: string): string => join(directory, `${name}-${file}`)];
    const arriving = ["--in", join(folder, "in.pcap"), "--return", join(folder, "return.pcap")];
    const leaving = ["--out", at("out.pcap"), "--return-out", at("return-out.pcap"), "--stats", at("stats.json")];
    const { status, stderr } = spawnSync(
      join(root, "bin/vxpipe"),
      ["replay", "--config", join(folder, "config.yaml"), ...arriving, ...leaving, "-o", "json"],
      { encoding: "utf8" },
    );
    assert.deepEqual([status, stderr], [0, ""]);
    for (const file of ["out.pcap", "return-out.pcap"])
      assert.deepEqual(packets(at(file)), packets(join(folder, file)), file);
    assert.deepEqual(
      comparable(JSON.parse(readFileSync(at("stats.json"), "utf8")) as Counters),
      JSON.parse(readFileSync(join(folder, "counters.json"), "utf8")),
    );
  });
}
