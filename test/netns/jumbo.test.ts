// Packets that are larger than a worker's frame, which only drivers without native XDP bring: named, once each. Needs root.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";

import { ADDRESS, Bed, MAC } from "../bed/bed.js";
import { Daemon, WORKER_DATAPATHS } from "../bed/daemon.js";
import { vxConstant } from "../../src/pipeline/abi.gen.js";
import { tunnelled, udp, writePcap } from "./frames.js";
import { dropsOf, receivedIs, ROOT_ONLY, settled } from "./ledger.js";
import { RawSender } from "./wire.js";

const HEADERS = 14 + 20 + 8;
/** Bytes of a UDP datagram. */
const FITS = vxConstant.exceptionBytesMax - HEADERS;
const OF_EACH = 10;

describe("where MTUs are 9000 and XDP is generic", ROOT_ONLY, () => {
  let bed: Bed;
  before(async () => {
    bed = await Bed.make({ mtu: 9000, staticNeighbours: true });
    // A bridge has no native XDP.
    for (const [bridge, port, address] of [
      ["br0", "in0", MAC.inside],
      ["br1", "out0", MAC.outside],
    ] as const)
      await bed.ip(
        "gateway",
        `link add ${bridge} address ${address} type bridge`,
        `addr flush dev ${port}`,
        `link set ${port} master ${bridge}`,
        `link set ${bridge} mtu 9000 up`,
      );
    await bed.ip(
      "gateway",
      `addr add ${ADDRESS.outside}/24 dev br1`,
      `route replace default via ${ADDRESS.target} dev br1`,
      `neigh replace ${ADDRESS.target} lladdr ${MAC.target} dev br1`,
    );
  });
  after(() => bed.remove());
  let daemon: Daemon;
  afterEach(async () => {
    assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.process.stderr);
  });

  for (const datapath of WORKER_DATAPATHS)
    test(`a packet that no frame of a worker's holds is too_big by ${datapath}, and one that just fits leaves`, async () => {
      const config = { datapath, inside: { interface: "br0", vxlan: {} }, outside: { interface: "br1" } };
      daemon = await Daemon.start(bed, config);
      const sender = RawSender.start(bed);
      const earlier = (await bed.traffic("target", "dst0")).received;
      const file = join(bed.directory, "jumbo.pcap");
      const sizes = [FITS, FITS + 1, 4000, 8000].flatMap((size) => Array<number>(OF_EACH).fill(size));
      writePcap(
        file,
        sizes.map((size, id) =>
          tunnelled({
            source: "10.0.0.1",
            destination: ADDRESS.beyond,
            id,
            offset: 0,
            more: false,
            payload: udp(5000, 9, Buffer.alloc(size)),
          }),
        ),
      );
      await sender.send(file);
      await receivedIs(daemon, sizes.length);
      const stats = await settled(daemon);
      assert.deepEqual(dropsOf(stats), { too_big: 3 * OF_EACH });
      assert.equal((await bed.traffic("target", "dst0")).received - earlier, OF_EACH);
    });
});
