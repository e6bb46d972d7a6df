// What drivers are known to do with XDP, where no tool tells. Used by interface.ts and datapath.ts. Pure.
import type { FarEnd, InterfaceFacts } from "./facts.js";

interface Driver {
  /** Native XDP. */
  native: boolean;
  /** Takes frames redirected to it (ndo_xdp_xmit). */
  takesRedirected: boolean;
  /** Largest MTU with native XDP and one buffer a packet. */
  mtuMax?: number;
}

const both: Driver = { native: true, takesRedirected: true };
const neither: Driver = { native: false, takesRedirected: false };

const drivers: Record<string, Driver> = {
  // The largest frame in one 4 KiB page, less headroom and the kernel's own data at its end.
  ena: { ...both, mtuMax: 3498 },
  veth: { ...both, mtuMax: 3506 },
  virtio_net: both,
  ixgbe: both,
  i40e: both,
  ice: both,
  igb: both,
  igc: both,
  mlx5_core: both,
  bnxt_en: both,
  mlx4_en: { native: true, takesRedirected: false },
  bridge: neither,
  dummy: neither,
  ifb: neither,
  vxlan: neither,
};

/** Most drivers give a packet one page. */
export const mtuUsual = 3498;

export interface Abilities extends Omit<Driver, "takesRedirected"> {
  /** Null: only a trial tells. */
  takesRedirected: boolean | null;
  /** Who says so. */
  by: "the driver" | "the driver's name";
}

/** Null: nobody knows. */
export function abilitiesOf({ driver, xdpFeatures, xdp, farEnd }: InterfaceFacts): Abilities | null {
  const known = drivers[driver ?? ""];
  const veth = driver === "veth";
  if (xdpFeatures === null) {
    if (known === undefined) return null;
    return {
      ...known,
      takesRedirected: veth ? farEndTakes(farEnd ?? null) : known.takesRedirected,
      by: "the driver's name",
    };
  }
  const native = xdpFeatures["BASIC"] === true;
  // Many drivers take redirected frames only while a program is attached, and vxpipe attaches one to both interfaces: their
  // "no" counts only where one is. What a veth says is about its far end, and final.
  const takes = xdpFeatures["NDO_XMIT"] === true;
  const mayTake = native && !veth && xdp === null && known?.takesRedirected !== false;
  return { ...known, native, takesRedirected: !takes && mayTake ? null : takes, by: "the driver" };
}

function farEndTakes(far: FarEnd | null): boolean | null {
  if (far === null) return null;
  return far.xdp ? true : far.gro;
}

/** The driver from github.com/amzn/amzn-drivers, whose versions end in a letter; null: the kernel's own. */
export function outOfTreeEna({ driver, driverVersion }: InterfaceFacts): [number, number] | null {
  const found = driver === "ena" ? /^(\d+)\.(\d+)\.\d+g$/.exec(driverVersion ?? "") : null;
  return found === null ? null : [Number(found[1]), Number(found[2])];
}
