// The test bed: three network namespaces in a row, source - gateway - target, joined by veth pairs.
//
//   source                        gateway                          target
//   src0 192.0.2.1  ------------  in0 192.0.2.2
//   (vxlan0 10.0.0.1)             out0 172.30.82.1  -------------  dst0 172.30.82.95
//
// Made by the namespace tests, the bench and the demo, on Node's main thread. What namespaces have in common:
// namespaces.ts.
import { Namespaces } from "./namespaces.js";

export type Place = "source" | "gateway" | "target";

export const ADDRESS = {
  source: "192.0.2.1",
  inside: "192.0.2.2",
  outside: "172.30.82.1",
  target: "172.30.82.95",
  source6: "2001:db8:1::1",
  inside6: "2001:db8:1::2",
  outside6: "2001:db8:2::1",
  target6: "2001:db8:2::95",
  /** Behind the target: what packets without a rule are sent to. */
  beyond: "203.0.113.9",
  beyond6: "2001:db8::cb00:7109",
} as const;

export const MAC = {
  source: "02:00:00:00:01:01",
  inside: "02:00:00:00:01:02",
  outside: "02:00:00:00:02:01",
  target: "02:00:00:00:02:02",
} as const;

export interface BedOptions {
  /** Of all veth interfaces; above 3,498 there is no native XDP without frags. */
  mtu?: number;
  outsideMtu?: number;
  queues?: number;
  /** false: IPv6 is off everywhere, and nothing but what the test sends is on the wires. */
  ipv6?: boolean;
  /** Checksum, segmentation and receive offloads of the source's interface and vxlan device. */
  offloads?: boolean;
  /** Permanent neighbour entries between gateway and target; false: they have to be resolved. */
  staticNeighbours?: boolean;
  /** A kernel vxlan device at the source, for real senders. */
  vxlan?: { vni: number; port?: number; address?: string; mtu?: number; underlay6?: boolean };
}

interface Wire {
  place: Place;
  name: string;
  mac: string;
}

const WIRES: [Wire, Wire][] = [
  [
    { place: "source", name: "src0", mac: MAC.source },
    { place: "gateway", name: "in0", mac: MAC.inside },
  ],
  [
    { place: "gateway", name: "out0", mac: MAC.outside },
    { place: "target", name: "dst0", mac: MAC.target },
  ],
];

export class Bed extends Namespaces<Place> {
  static async make(options: BedOptions = {}): Promise<Bed> {
    const bed = new Bed();
    try {
      await bed.mountBpffs();
      await bed.#makeNamespaces(options);
      await bed.#makeWires(options);
      await bed.#makeAddresses(options);
      if (options.vxlan) await bed.#makeVxlan(options.vxlan, options);
      return bed;
    } catch (error) {
      await bed.remove();
      throw error;
    }
  }

  async #makeNamespaces(options: BedOptions): Promise<void> {
    for (const place of ["source", "gateway", "target"] as const) await this.addNamespace(place, options.ipv6);
  }

  async #makeWires(options: BedOptions): Promise<void> {
    const queues = options.queues ?? 1;
    const shape = `numrxqueues ${queues} numtxqueues ${queues}`;
    for (const [index, [a, b]] of WIRES.entries()) {
      const mtu = index === 1 ? (options.outsideMtu ?? options.mtu ?? 3400) : (options.mtu ?? 3400);
      await this.ip(
        a.place,
        `link add ${a.name} mtu ${mtu} address ${a.mac} ${shape} type veth peer name ${b.name} ` +
          `netns ${this.namespace(b.place)} mtu ${mtu} address ${b.mac} ${shape}`,
      );
      await this.ip(a.place, `link set ${a.name} up`);
      await this.ip(b.place, `link set ${b.name} up`);
    }
    if (!options.offloads) await this.offloads("source", "src0", false);
  }

  async #makeAddresses(options: BedOptions): Promise<void> {
    await this.ip("source", `addr add ${ADDRESS.source}/24 dev src0`);
    await this.ip("gateway", `addr add ${ADDRESS.inside}/24 dev in0`, `addr add ${ADDRESS.outside}/24 dev out0`);
    await this.ip("target", `addr add ${ADDRESS.target}/24 dev dst0`, `addr add ${ADDRESS.beyond}/32 dev lo`);
    await this.ip("gateway", `route add default via ${ADDRESS.target}`);
    await this.ip("target", `route add default via ${ADDRESS.outside}`);
    await this.ip("source", `neigh replace ${ADDRESS.inside} lladdr ${MAC.inside} dev src0`);
    if (options.staticNeighbours) {
      await this.ip("gateway", `neigh replace ${ADDRESS.target} lladdr ${MAC.target} dev out0`);
      await this.ip("gateway", `neigh replace ${ADDRESS.source} lladdr ${MAC.source} dev in0`);
      await this.ip("target", `neigh replace ${ADDRESS.outside} lladdr ${MAC.outside} dev dst0`);
    }
    if (!options.ipv6) return;
    await this.ip("source", `addr add ${ADDRESS.source6}/64 dev src0 nodad`);
    await this.ip(
      "gateway",
      `addr add ${ADDRESS.inside6}/64 dev in0 nodad`,
      `addr add ${ADDRESS.outside6}/64 dev out0 nodad`,
    );
    await this.ip(
      "target",
      `addr add ${ADDRESS.target6}/64 dev dst0 nodad`,
      `addr add ${ADDRESS.beyond6}/128 dev lo nodad`,
    );
    await this.ip("gateway", `route add ::/0 via ${ADDRESS.target6}`);
    await this.ip("source", `neigh replace ${ADDRESS.inside6} lladdr ${MAC.inside} dev src0`);
  }

  async #makeVxlan(vxlan: NonNullable<BedOptions["vxlan"]>, options: BedOptions): Promise<void> {
    const [local, remote] = vxlan.underlay6 ? [ADDRESS.source6, ADDRESS.inside6] : [ADDRESS.source, ADDRESS.inside];
    // Nobody answers ARP behind a one-way gateway: without it every packet goes to the one remote.
    await this.ip(
      "source",
      `link add vxlan0 type vxlan id ${vxlan.vni} local ${local} remote ${remote} ` +
        `dstport ${vxlan.port ?? 4789} dev src0 nolearning`,
      `link set vxlan0 mtu ${vxlan.mtu ?? 1500} arp off up`,
      `addr add ${vxlan.address ?? "10.0.0.1"}/8 dev vxlan0`,
      `route add default dev vxlan0`,
    );
    if (options.ipv6)
      await this.ip("source", "addr add 2001:db8:10::1/64 dev vxlan0 nodad", "route add ::/0 dev vxlan0");
    if (!options.offloads) await this.offloads("source", "vxlan0", false);
  }
}
