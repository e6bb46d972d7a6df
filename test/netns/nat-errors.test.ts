// ICMP errors between real hosts, as their own kernels make and understand them: whoever is told, is told about what he sent,
// by whom he sent it to (RFC 5508 sections 4 and 7), and no mapping ends by it (RFC 4787 REQ-12). Needs root.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { WORKER_DATAPATHS } from "../bed/daemon.js";
import { NAT, type NatPlace, type Subscriber } from "../bed/nat-bed.js";
import { type IcmpError, Talker } from "../bed/nat-hosts.js";
import { ROOT_ONLY } from "./ledger.js";
import { makeNatScene } from "./nat-scene.js";

/** Said by the address itself. */
function portUnreachable(about: string): IcmpError {
  return { type: 3, code: 3, from: about.split(":")[0] ?? "", about };
}

for (const datapath of WORKER_DATAPATHS)
  describe(`by ${datapath}, a closed port`, ROOT_ONLY, () => {
    const scene = makeNatScene({ config: { datapath }, source: { filtering: "endpoint-independent" } });

    /** A public endpoint behind which nobody listens any more. */
    async function abandoned(name: Subscriber): Promise<string> {
      const talker = await Talker.start(scene.bed, name, 6000);
      const endpoint = await talker.who();
      await talker.stop();
      return endpoint ?? "";
    }

    async function listening(place: NatPlace): Promise<Talker> {
      const talker = await Talker.start(scene.bed, place, 6001);
      await talker.errors(0);
      return talker;
    }

    test("of a server is told to the subscriber who sent there, whose mapping goes on", async () => {
      const talker = await listening("a");
      const before = await talker.who();
      await talker.send(`${NAT.server}:9`, "anybody");
      assert.deepEqual(await talker.errors(), [portUnreachable(`${NAT.server}:9`)]);
      assert.equal(await talker.who(), before);
      await talker.stop();
    });

    test("of a subscriber is told to the server who sent there, by the public address", async () => {
      const endpoint = await abandoned("b");
      const talker = await listening("server");
      await talker.send(endpoint, "anybody");
      assert.deepEqual(await talker.errors(), [portUnreachable(endpoint)]);
      await talker.stop();
    });

    test("of a subscriber is told to a fellow subscriber, by the public address, whose mapping goes on", async () => {
      for (const [sender, sleeper] of [
        ["a", "b"],
        ["c", "a"],
      ] as const) {
        const endpoint = await abandoned(sleeper);
        const talker = await listening(sender);
        const before = await talker.who();
        await talker.send(endpoint, "anybody");
        assert.deepEqual(await talker.errors(), [portUnreachable(endpoint)], sender);
        assert.equal(await talker.who(), before);
        await talker.stop();
      }
    });
  });
