// Two gateways on one host: what one counts is none of the other's. The tracepoints that see redirected packets are
// host-wide, and interfaces of different namespaces have the same numbers. By each datapath: injection is seen by the
// same tracepoints. Needs root.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { ADDRESS, Bed, MAC } from "../bed/bed.js";
import { DATAPATHS, Daemon } from "../bed/daemon.js";
import { generate, type Load, Sink } from "../bed/tools.js";
import { agreed, receivedIs, ROOT_ONLY, tooMuchOf } from "./ledger.js";
import { traces } from "./remaining.js";

const LOAD: Load = { destination: ADDRESS.beyond, ports: "9", flows: 100 };

async function indexOf(bed: Bed, name: string): Promise<string> {
  return (await bed.exec("gateway", "cat", [`/sys/class/net/${name}/ifindex`])).trim();
}

for (const datapath of DATAPATHS) {
  test(
    `by ${datapath}, two gateways in two namespaces, with the same interface numbers, have a ledger each`,
    ROOT_ONLY,
    async () => {
      const beds = [await Bed.make({ staticNeighbours: true }), await Bed.make({ staticNeighbours: true })] as const;
      try {
        for (const name of ["in0", "out0"]) assert.equal(await indexOf(beds[0], name), await indexOf(beds[1], name));
        const sinks = await Promise.all(beds.map((bed) => Sink.start(bed)));
        const daemons = await Promise.all(beds.map((bed) => Daemon.start(bed, { datapath })));
        // The second one's far end is down: its losses must not show at the first.
        await beds[1].ip("target", "link set dst0 down");
        await Promise.all(beds.map((bed, index) => generate(bed, { ...LOAD, count: 200_000 + index, cpu: index })));
        for (const [index, daemon] of daemons.entries()) {
          await receivedIs(daemon, 200_000 + index);
          const { stats } = await agreed(daemon, sinks[index] as Sink);
          assert.equal(stats.inside.received, 200_000 + index);
          const { carrier_down = 0, ...dropped } = stats.inside.dropped;
          const tooMuch = tooMuchOf({ ...stats, inside: { ...stats.inside, dropped } }, datapath);
          const sent = 200_000 + index - tooMuch;
          assert.deepEqual([stats.inside.forwarded, carrier_down], index === 0 ? [sent, 0] : [0, sent]);
        }
        for (const daemon of daemons) assert.deepEqual(await daemon.stop(), { code: 0, signal: null });
        for (const bed of beds) assert.deepEqual(await traces(bed), []);
      } finally {
        for (const bed of beds) await bed.remove();
      }
    },
  );

  test(
    `by ${datapath}, two gateways in one namespace share the bpffs, and one outlives the other`,
    ROOT_ONLY,
    async () => {
      const bed = await Bed.make({ staticNeighbours: true });
      try {
        await bed.ip(
          "gateway",
          `link add in1 mtu 3400 type veth peer name src1 netns ${bed.namespace("source")} mtu 3400`,
          `link add out1 mtu 3400 type veth peer name dst1 netns ${bed.namespace("target")} mtu 3400`,
          "link set in1 up",
          "link set out1 up",
        );
        await bed.ip("source", "link set src1 up");
        await bed.ip("target", "link set dst1 up");
        const sinks = [await Sink.start(bed), await Sink.start(bed, { interface: "dst1" })] as const;
        const first = await Daemon.start(bed, { datapath });
        const second = await Daemon.start(bed, {
          datapath,
          inside: { interface: "in1", vxlan: {} },
          outside: { interface: "out1", nextHop: MAC.target },
          control: { listen: "127.0.0.1:9471", socket: join(bed.directory, "second.sock") },
        });
        await Promise.all([
          generate(bed, { ...LOAD, count: 100_000, cpu: 0 }),
          generate(bed, { ...LOAD, count: 150_000, cpu: 1, interface: "src1" }),
        ]);
        await receivedIs(first, 100_000);
        await receivedIs(second, 150_000);
        const arrivedOf = async (daemon: Daemon, sink: Sink): Promise<number> => {
          const { stats, arrived } = await agreed(daemon, sink);
          return arrived.packets + tooMuchOf(stats, datapath);
        };
        assert.equal(await arrivedOf(first, sinks[0]), 100_000);
        assert.equal(await arrivedOf(second, sinks[1]), 150_000);
        assert.deepEqual(await first.stop(), { code: 0, signal: null });
        assert.deepEqual(await first.leftovers(), []);
        await generate(bed, { ...LOAD, count: 1000, interface: "src1" });
        await receivedIs(second, 151_000);
        assert.equal(await arrivedOf(second, sinks[1]), 151_000);
        assert.deepEqual(await second.stop(), { code: 0, signal: null });
        assert.deepEqual(await traces(bed), []);
      } finally {
        await bed.remove();
      }
    },
  );
}
