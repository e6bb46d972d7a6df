// The test bed for source NAT: real hosts on both sides of the gateway, each a network namespace.
//
//   a 10.0.0.5, c 10.0.0.6 -- br100 - vx100 (192.0.2.1) \                               router      server
//                                                        acc0 -- in0  gateway  out0 -- rt0  rt1 -- srv0 198.51.100.7, .8
//   b 10.0.0.5 -------------- br101 - vx101 (192.0.2.3) /
//        subscribers               access
//
// a and b have the same addresses, MACs too, in VNIs 100 and 101. Their router 10.0.0.1 is nobody's but for the gateway's
// ARP answers, and so are the pool's addresses in 203.0.113.0/24. No conntrack anywhere, ip_forward 0 in the gateway. Its
// kernel knows all its neighbours, so that it says nothing by itself and the far ends' counters are exact.
// Made by the namespace tests (test/netns/nat-*.test.ts), on Node's main thread.
import { Namespaces } from "./namespaces.js";

export const SUBSCRIBERS = ["a", "b", "c"] as const;
export type Subscriber = (typeof SUBSCRIBERS)[number];
export type NatPlace = Subscriber | "access" | "gateway" | "router" | "server";

export const NAT = {
  a: "10.0.0.5",
  b: "10.0.0.5",
  c: "10.0.0.6",
  gateway: "10.0.0.1",
  inside: "192.0.2.2",
  outside: "203.0.113.254",
  router: "203.0.113.250",
  server: "198.51.100.7",
  server2: "198.51.100.8",
  insideMac: "02:00:00:00:01:02",
  outsideMac: "02:00:00:00:02:01",
  accessMac: "02:00:00:00:01:01",
  routerMac: "02:00:00:00:02:02",
} as const;

export const VNI = { a: 100, b: 101, c: 100 } as const;
const VTEP = { 100: "192.0.2.1", 101: "192.0.2.3" } as const;
const SUBSCRIBER_MAC = { a: "02:00:00:00:05:05", b: "02:00:00:00:05:05", c: "02:00:00:00:05:06" } as const;

export interface NatBedOptions {
  /** Of the wire to the access node; subscribers have 50 less. */
  insideMtu?: number;
  outsideMtu?: number;
  queues?: number;
  /** What the hosts' interfaces would do in hardware stays undone, as between namespaces: checksums. */
  offloads?: boolean;
  /** No tunnel: a and c are plain Ethernet neighbours of the gateway, b is not there. */
  plain?: boolean;
}

export class NatBed extends Namespaces<NatPlace> {
  static async make(options: NatBedOptions = {}): Promise<NatBed> {
    const bed = new NatBed();
    try {
      await bed.mountBpffs();
      const places = [...SUBSCRIBERS, "access", "gateway", "router", "server"] as const;
      for (const place of places) await bed.addNamespace(place);
      await bed.#makeOutside(options);
      await bed.#makeInside(options);
      // What the ICMP of real hosts is limited to would decide about tests.
      for (const place of ["router", "server", ...SUBSCRIBERS] as const)
        await bed.sysctl(place, { "net.ipv4.icmp_ratelimit": 0 });
      return bed;
    } catch (error) {
      await bed.remove();
      throw error;
    }
  }

  /** Frames that the far ends of the gateway's two wires have received, both together. */
  async arrived(): Promise<number> {
    const [access, router] = await Promise.all([this.traffic("access", "acc0"), this.traffic("router", "rt0")]);
    return access.received + router.received;
  }

  async #wire(
    gateway: string,
    mac: string,
    far: NatPlace,
    farName: string,
    farMac: string,
    mtu: number,
    { queues = 1, offloads = false }: NatBedOptions,
  ): Promise<void> {
    const shape = `mtu ${mtu} numrxqueues ${queues} numtxqueues ${queues}`;
    await this.ip(
      far,
      `link add ${farName} ${shape} address ${farMac} type veth peer name ${gateway} ` +
        `netns ${this.namespace("gateway")} ${shape} address ${mac}`,
      `link set ${farName} up`,
    );
    await this.ip("gateway", `link set ${gateway} up`);
    // Frames as they are on a wire; GRO there has the far end take what is sent to it by XDP.
    await this.offloads(far, farName, offloads);
    await this.exec(far, "ethtool", ["-K", farName, "gro", "on"]);
  }

  async #makeOutside({ outsideMtu = 1500, ...wire }: NatBedOptions): Promise<void> {
    await this.#wire("out0", NAT.outsideMac, "router", "rt0", NAT.routerMac, outsideMtu, wire);
    await this.ip(
      "router",
      `addr add ${NAT.router}/24 dev rt0`,
      `neigh replace ${NAT.outside} lladdr ${NAT.outsideMac} dev rt0`,
      `link add rt1 type veth peer name srv0 netns ${this.namespace("server")}`,
      `addr add 198.51.100.1/24 dev rt1`,
      "link set rt1 up",
    );
    await this.ip(
      "server",
      `addr add ${NAT.server}/24 dev srv0`,
      `addr add ${NAT.server2}/24 dev srv0`,
      "link set srv0 up",
      "route add default via 198.51.100.1",
    );
    await this.ip(
      "gateway",
      `addr add ${NAT.outside}/24 dev out0`,
      `route add default via ${NAT.router}`,
      `neigh replace ${NAT.router} lladdr ${NAT.routerMac} dev out0`,
    );
    await this.sysctl("router", { "net.ipv4.ip_forward": 1 });
  }

  async #makeInside({ insideMtu = 1500, plain = false, ...wire }: NatBedOptions): Promise<void> {
    await this.#wire("in0", NAT.insideMac, "access", "acc0", NAT.accessMac, insideMtu, wire);
    const bridge = "type bridge mcast_snooping 0";
    if (plain) {
      await this.ip("access", `link add br0 ${bridge}`, "link set br0 up", "link set acc0 master br0");
      for (const name of ["a", "c"] as const) await this.#addSubscriber(name, "br0", insideMtu);
      return;
    }
    await this.ip("gateway", `addr add ${NAT.inside}/24 dev in0`);
    await this.ip("access", `neigh replace ${NAT.inside} lladdr ${NAT.insideMac} dev acc0`);
    for (const vni of [100, 101] as const) {
      await this.ip("gateway", `neigh replace ${VTEP[vni]} lladdr ${NAT.accessMac} dev in0`);
      await this.ip(
        "access",
        `addr add ${VTEP[vni]}/24 dev acc0`,
        `link add vx${vni} mtu ${insideMtu - 50} type vxlan id ${vni} local ${VTEP[vni]} remote ${NAT.inside} ` +
          "dstport 4789 dev acc0 nolearning",
        `link add br${vni} ${bridge}`,
        `link set vx${vni} master br${vni} up`,
        `link set br${vni} up`,
      );
    }
    for (const name of SUBSCRIBERS) await this.#addSubscriber(name, `br${VNI[name]}`, insideMtu - 50);
  }

  async #addSubscriber(name: Subscriber, bridge: string, mtu: number): Promise<void> {
    await this.ip(
      "access",
      `link add to-${name} mtu ${mtu} type veth peer name sub0 netns ${this.namespace(name)} ` +
        `mtu ${mtu} address ${SUBSCRIBER_MAC[name]}`,
      `link set to-${name} master ${bridge} up`,
    );
    await this.ip(
      name,
      `addr add ${NAT[name]}/24 dev sub0`,
      "link set sub0 up",
      `route add default via ${NAT.gateway}`,
    );
  }
}
