// What the bench compares, and what its ladder climbs: each still loads, and forwards everything. A few packets through
// each; the bench alone measures. Needs root.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Bed } from "../bed/bed.js";
import { until } from "../bed/command.js";
import { type Arrived, generate, type Load, Sink } from "../bed/tools.js";
import {
  type Arrives,
  BareGateway,
  ClassicGateway,
  during,
  expecting,
  type Gateway,
  KernelGateway,
  type Place,
  PlainGateway,
  ProductGateway,
  StageGateway,
  STAGES,
} from "../../bench/gateways.js";
import { toLoad } from "../../bench/measure.js";
import { firstPackets, makeTranslators, NAT_PEER, natLoad, type Translator } from "../../bench/source-nat.js";
import { assertNothingWrong, ROOT_ONLY } from "./ledger.js";

/** Fewer than the shortest queue on any way has places (a veth's, 256): none is lost, however busy the host is. */
const PACKETS = 200;
const LOAD: Load = { ...toLoad({ innerBytes: 64, flows: 100 }), count: PACKETS };

/** The far end's report once all that was sent has arrived, or at last. */
async function arrivedAt(sink: Sink): Promise<Arrived> {
  const all = async (): Promise<Arrived | null> => {
    const arrived = await sink.report();
    return arrived.packets >= PACKETS ? arrived : null;
  };
  const arrived = await until("every packet to arrive", all).catch(() => sink.report());
  assert.equal(arrived.packets, PACKETS);
  assertNothingWrong(arrived);
  return arrived;
}

/** All of a load, by a gateway that is ready for such. */
async function passes(gateway: Gateway, load: Load = LOAD): Promise<Arrived> {
  await gateway.sink.reset();
  const purpose = load.latency ? "latency" : "load";
  const work = async (): Promise<Arrived> => {
    assert.equal((await generate(gateway.bed, load)).sent, PACKETS);
    return arrivedAt(gateway.sink);
  };
  return during(gateway, work, purpose);
}

/** All of a load, each with the right checksum. */
async function translates(gateway: Gateway): Promise<void> {
  assert.deepEqual((await passes(gateway)).udpChecksums, { checked: PACKETS, zero: 0 });
}

/** All of single packets, each with the time at which it was sent. */
async function stamps(gateway: Gateway): Promise<void> {
  const { latency } = await passes(gateway, { ...LOAD, latency: true, rate: 100_000 });
  assert.equal(latency?.count, PACKETS);
}

describe("in the bench,", ROOT_ONLY, () => {
  describe("where XDP or a worker takes every packet,", () => {
    let bed: Bed;
    before(async () => {
      bed = await Bed.make({ staticNeighbours: true });
    });
    after(() => bed.remove());

    /** Tests with a far end in common. */
    function arriving(how: Arrives, tests: (place: () => Place) => void): void {
      describe(`${how},`, () => {
        let place: Place;
        before(async () => {
          place = await expecting(bed, how, 1);
        });
        after(() => place.sink.stop());
        tests(() => place);
      });
    }

    arriving("raw", (place) => {
      test("a bare redirect passes every packet on", async () => {
        await passes(await BareGateway.make("redirect", place()));
      });

      test("a bare drop drops every packet", async () => {
        const drop = await BareGateway.make("drop", place());
        const earlier = (await bed.traffic("gateway", "in0")).received;
        const taken = async (): Promise<true | null> =>
          (await bed.traffic("gateway", "in0")).received >= earlier + PACKETS ? true : null;
        await during(drop, async () => {
          assert.equal((await generate(bed, LOAD)).sent, PACKETS);
          await until("every packet to be taken", taken);
        });
        assert.equal(drop.dropped, PACKETS);
      });

      for (const ledger of [false, true])
        test(`the ladder's parsing ${ledger ? "with" : "without"} the ledger passes every packet on`, async () => {
          await passes(new StageGateway(place(), "parse", ledger));
        });
    });

    arriving("unchanged", (place) => {
      for (const stage of STAGES.filter((name) => name !== "parse"))
        for (const ledger of [false, true])
          test(`the ladder's step "${stage}" ${ledger ? "with" : "without"} the ledger decapsulates every packet`, async () => {
            const gateway = new StageGateway(place(), stage, ledger);
            await translates(gateway);
            const counted = stage === "decapsulate" ? 0 : PACKETS;
            const forwarded = ledger ? counted : 0;
            assert.deepEqual(gateway.counted, { received: counted, redirected: counted, forwarded });
          });

      test("plain AF_XDP passes single packets on", async () => {
        await stamps(await PlainGateway.make(place()));
      });
    });

    arriving("translated", (place) => {
      test("the classic injector translates every packet", async () => {
        await translates(await ClassicGateway.make(place()));
      });

      test("the gateway translates every packet", async () => {
        await translates(await ProductGateway.make(undefined, undefined, place()));
      });
    });
  });

  for (const kind of ["conntrack", "stateless", "forward"] as const)
    test(`the kernel (${kind}) passes every packet on, on one core and on two`, async () => {
      const bed = await Bed.make({ staticNeighbours: true });
      try {
        const place = await expecting(bed, kind === "forward" ? "unchanged" : "translated", 1);
        const both = await KernelGateway.make(kind, place);
        for (const gateway of both) await translates(gateway);
        if (kind === "conntrack") await stamps(both[0]);
      } finally {
        await bed.remove();
      }
    });

  describe("a source NAT", () => {
    let all: Translator[] = [];
    before(async () => {
      all = await makeTranslators(true);
    });
    after(async () => {
      for (const bed of new Set(all.map((one) => one.bed))) await bed.remove();
    });

    for (const name of [NAT_PEER, "afxdp-snat"])
      test(`opens a session a flow and translates every answer back: ${name}`, async () => {
        const one = all.find((translator) => translator.name === name);
        assert.ok(one);
        await during(one, async () => {
          const answers = await firstPackets(one.bed, PACKETS);
          const sink = await Sink.start(one.bed, { interface: "src0", raw: true }, "source");
          const load = { ...natLoad({ interface: "dst0", answers }), count: PACKETS };
          assert.equal((await generate(one.bed, load, "target")).sent, PACKETS);
          await arrivedAt(sink);
          await sink.stop();
        });
      });
  });
});
