// Every case under test/packets through the real gateway: what leaves is compared byte for byte with what scapy says
// it has to be, and the ledger with the case's counters. Needs root.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parse } from "yaml";

import type { Bed } from "../bed/bed.js";
import { readPcap } from "../bed/capture.js";
import { ROOT, run, until } from "../bed/command.js";
import { type Config, DATAPATHS, Daemon } from "../bed/daemon.js";
import { Collector, PYTHON, RawSender } from "./wire.js";
import { makeWorld } from "./world.js";

const ROOT_ONLY = process.getuid?.() === 0 ? {} : { skip: "namespaces need root" };
const FOLDER = join(ROOT, "test/packets");

/** counters.json, and what is compared of `vxpipe stats -o json`. */
interface Counters {
  received: number;
  forwarded: number;
  passed: number;
  pending: number;
  translated: number;
  checksumCompleted: number;
  fragmentsExtra: number;
  originated: number;
  dropped: Record<string, number>;
}

interface Case {
  name: string;
  sentence: string;
  config: Config;
  folder: string;
}

function readCases(): Case[] {
  const folders = readdirSync(FOLDER, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return folders
    .map(({ name }) => name)
    .filter((name) => !name.startsWith("__"))
    .sort()
    .map((name) => {
      const folder = join(FOLDER, name);
      const config = parse(readFileSync(join(folder, "config.yaml"), "utf8")) as Config;
      const allowlist = config["allowlist"] as { file: string } | undefined;
      if (allowlist) allowlist.file = join(folder, allowlist.file);
      return { name, folder, config, sentence: readFileSync(join(folder, "description.txt"), "utf8").trim() };
    });
}

/** Cases with one configuration share a daemon. */
function grouped(cases: readonly Case[]): Case[][] {
  const groups = new Map<string, Case[]>();
  for (const one of cases) {
    const key = JSON.stringify(one.config);
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  return [...groups.values()];
}

type Inside = Omit<Counters, "fragmentsExtra" | "originated">;

async function countersOf(daemon: Daemon): Promise<Counters> {
  // Over HTTP, which is quick; that the command prints the same is a test of its own.
  const stats = await daemon.peek();
  const { received, forwarded, passed, pending, translated, checksumCompleted, dropped } =
    stats.inside as unknown as Inside;
  const { fragmentsExtra, originated } = stats;
  return { received, forwarded, passed, pending, translated, checksumCompleted, fragmentsExtra, originated, dropped };
}

/** What was counted between two readings; reasons without drops are left out. */
function difference(now: Counters, earlier: Counters): Counters {
  const names = Object.keys(now).filter((name) => name !== "dropped" && name !== "pending");
  const at = (counters: Counters, name: string): number => counters[name as "received"];
  const numbers = Object.fromEntries(names.map((name) => [name, at(now, name) - at(earlier, name)]));
  const drops = Object.entries(now.dropped).map(([name, count]) => [name, count - (earlier.dropped[name] ?? 0)]);
  const dropped = Object.fromEntries(drops.filter(([, count]) => count !== 0)) as Record<string, number>;
  return { ...(numbers as unknown as Counters), pending: now.pending, dropped };
}

/** Frames of each pair of addresses and protocol, in order, as hex. */
function byFlow(frames: readonly Buffer[]): Record<string, string[]> {
  const flows: Record<string, string[]> = {};
  for (const frame of frames) {
    const isIpv4 = frame.readUInt16BE(12) === 0x0800;
    const key = isIpv4 ? `${frame.toString("hex", 26, 34)} ${frame[23]}` : frame.toString("hex", 22, 54);
    (flows[key] ??= []).push(frame.toString("hex"));
  }
  return Object.fromEntries(Object.entries(flows).sort());
}

describe("a packet case", ROOT_ONLY, () => {
  let bed: Bed;
  let sender: RawSender;
  let collector: Collector;
  before(async () => {
    bed = await makeWorld();
    sender = RawSender.start(bed);
    collector = await Collector.start(bed);
  });
  after(() => bed.remove());

  test("is what test/packets/generate.py writes", async () => {
    await run(PYTHON, [join(FOLDER, "generate.py"), "--check"]);
  });

  for (const [datapath, group] of DATAPATHS.flatMap((one) =>
    grouped(readCases()).map((cases) => [one, cases] as const),
  )) {
    describe(`by ${datapath}, with the configuration of ${group[0]?.name}`, () => {
      let daemon: Daemon;
      before(async () => {
        daemon = await Daemon.start(bed, { ...group[0]?.config, datapath });
      });
      after(async () => {
        assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.process.stderr);
        assert.deepEqual(await daemon.leftovers(), []);
        assert.deepEqual(byFlow(await collector.take()), {}, "frames that no case expected");
      });

      for (const { name, folder, sentence } of group) {
        test(`${name}: ${sentence}`, async () => {
          const wanted = JSON.parse(readFileSync(join(folder, "counters.json"), "utf8")) as Counters;
          const expected = readPcap(join(folder, "out.pcap"));
          const earlier = await countersOf(daemon);
          const sent = await sender.send(join(folder, "in.pcap"));
          assert.equal(sent, wanted.received);
          // Awaited, not asserted: what is wrong shows better in the comparison.
          const settled = async (): Promise<true | null> => {
            const { inside } = await daemon.peek();
            return inside.received - earlier.received === sent && inside.pending === 0 ? true : null;
          };
          await until("every packet to have a fate", settled).catch(() => undefined);
          const frames = await collector.collect(expected.length);
          assert.deepEqual(difference(await countersOf(daemon), earlier), wanted);
          assert.deepEqual(byFlow(frames), byFlow(expected));
        });
      }
    });
  }
});
