// Records of sessions, in the file and at collectors: as many as there were flows, each created and ended once, the same told
// everywhere. IPFIX and NetFlow are read by tshark. Needs root.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { Capture } from "../bed/capture.js";
import { type Background, ROOT, run, until } from "../bed/command.js";
import { WORKER_DATAPATHS } from "../bed/daemon.js";
import { NAT, type NatBed } from "../bed/nat-bed.js";
import { host } from "../bed/nat-hosts.js";
import { ROOT_ONLY } from "./ledger.js";
import { makeNatScene } from "./nat-scene.js";

const RECEIVER = join(ROOT, "test/bed/udp_receive.py");
const FLOWS = 900;
const PORTS = { ipfix: 4739, netflow: 2055 } as const;
type Collector = keyof typeof PORTS;

interface SessionLine {
  event: "created" | "ended";
  protocol: string;
  vni: number;
  inside: string;
  outside: string;
  remote: string;
}

function sessionLines(file: string): SessionLine[] {
  const lines = readFileSync(file, "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line) as SessionLine).filter(({ event }) => /^(created|ended)$/.test(event));
}

function named({ protocol, inside, outside, remote }: SessionLine): string {
  return [protocol, inside, outside, remote].join(" ");
}

/** Who is not there refuses, and a kernel that has been told so does not send. */
async function listen(bed: NatBed, port: number): Promise<Background> {
  const listener = bed.start("gateway", "/usr/bin/python3", [RECEIVER, "127.0.0.1", String(port), "0"]);
  await until("the collector to listen", async () => (listener.lines.length > 0 ? true : null));
  return listener;
}

/** Events of sessions that a collector was sent, as `sessionLines` has them. */
async function collected(file: string, collector: Collector): Promise<string[]> {
  const names = ["nat_event", "srcaddr", "srcport", "post_natsource_ipv4_address", "post_naptsource_transport_port"];
  const fields = [...names, "dstaddr", "dstport"].flatMap((name) => ["-e", `cflow.${name}`]);
  const decode = `udp.port==${PORTS[collector]},cflow`;
  const text = await run("tshark", ["-r", file, "-d", decode, "-T", "fields", ...fields]);
  return text.split("\n").flatMap((line) => {
    const [events = [], ...columns] = line.split("\t").map((column) => column.split(","));
    // Blocks have no ports, no destination; and the source's columns in the order of the records.
    const sessions = events.flatMap((event, at) => (event === "4" || event === "5" ? [{ event, at }] : []));
    const [inside, insidePort, outside, outsidePort, remote, remotePort] = columns;
    return sessions.map(({ event, at }, index) => {
      const ends = [
        `${inside?.[at]}:${insidePort?.[index]}`,
        `${outside?.[at]}:${outsidePort?.[index]}`,
        `${remote?.[index]}:${remotePort?.[index]}`,
      ];
      return [event === "4" ? "created" : "ended", ...ends].join(" ");
    });
  });
}

for (const datapath of WORKER_DATAPATHS)
  describe(`by ${datapath}, with records of sessions`, ROOT_ONLY, () => {
    const scene = makeNatScene();

    test(`${FLOWS} flows are each recorded when they begin and when they end, and collectors are told the same`, async () => {
      const file = join(scene.bed.directory, `records-${datapath}.json`);
      const collectors = Object.keys(PORTS) as Collector[];
      const captures = await Promise.all(
        collectors.map((one) => Capture.start(scene.bed, "gateway", "lo", `udp dst port ${PORTS[one]}`)),
      );
      const listeners = await Promise.all(collectors.map((one) => listen(scene.bed, PORTS[one])));
      const records = {
        file,
        sessions: true,
        ipfix: `127.0.0.1:${PORTS.ipfix}`,
        netflow: `127.0.0.1:${PORTS.netflow}`,
      };
      await scene.start({ datapath }, { records, timeouts: { udp: 5, portHold: 1 } });
      const { mapped } = await host<{ mapped: string[] }>(scene.bed, "a", "flows", NAT.server, FLOWS);
      assert.equal(mapped.length, FLOWS);

      const ended = async (): Promise<SessionLine[] | null> => {
        const lines = sessionLines(file);
        return lines.length >= 2 * FLOWS ? lines : null;
      };
      const lines = await until("all sessions to have ended on the disk", ended, 30_000);
      const created = lines.filter(({ event }) => event === "created").map(named);
      assert.equal(new Set(created).size, FLOWS);
      assert.deepEqual(
        created.toSorted(),
        lines
          .filter(({ event }) => event === "ended")
          .map(named)
          .toSorted(),
      );
      assert.deepEqual(
        lines.filter(({ vni, protocol }) => vni !== 100 || protocol !== "udp"),
        [],
      );
      assert.deepEqual(new Set(lines.map(({ outside }) => outside)), new Set(mapped));

      await scene.agreed();
      const told = lines
        .map(({ event, inside, outside, remote }) => [event, inside, outside, remote].join(" "))
        .toSorted();
      for (const [at, collector] of collectors.entries()) {
        const capture = captures[at] as Capture;
        await capture.stop();
        assert.deepEqual((await collected(capture.file, collector)).toSorted(), told);
      }
      for (const listener of listeners) await listener.stop();
    });
  });
