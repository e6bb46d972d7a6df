// The world that packet cases live in, as test/packets/world.py describes it: a bed with these MACs, neighbours and
// routes. Called by packets.test.ts, on Node's main thread.
import { ADDRESS, Bed } from "../bed/bed.js";

export const WORLD = {
  insideMac: "02:00:00:00:00:01",
  outsideMac: "02:00:00:00:00:02",
  hopMac: "02:00:00:00:00:03",
  onlink: "172.30.82.77",
  onlink6: "2001:db8:2::77",
  onlinkMac: "02:00:00:00:00:77",
} as const;

export async function makeWorld(): Promise<Bed> {
  const bed = await Bed.make({ outsideMtu: 1500, ipv6: true });
  // Nothing but what the test sends arrives inside, and nothing waits long for a neighbour that is not there.
  await bed.sysctl("source", { "net.ipv6.conf.src0.disable_ipv6": 1 });
  await bed.sysctl("gateway", {
    "net.ipv4.neigh.out0.retrans_time_ms": 100,
    "net.ipv6.neigh.out0.retrans_time_ms": 100,
  });
  await bed.ip("gateway", `link set in0 address ${WORLD.insideMac}`, `link set out0 address ${WORLD.outsideMac}`);
  await bed.ip("target", `link set dst0 address ${WORLD.hopMac}`);
  await bed.ip(
    "gateway",
    `neigh replace ${ADDRESS.target} lladdr ${WORLD.hopMac} dev out0`,
    `neigh replace ${ADDRESS.target6} lladdr ${WORLD.hopMac} dev out0`,
    `neigh replace ${WORLD.onlink} lladdr ${WORLD.onlinkMac} dev out0`,
    `neigh replace ${WORLD.onlink6} lladdr ${WORLD.onlinkMac} dev out0`,
    `route add unreachable 198.18.0.0/15`,
    `route add unreachable 2001:db8:dead::/48`,
  );
  return bed;
}
