// What drivers are known to do with XDP, where no tool tells. Used by interface.ts and datapath.ts. Pure.
import type { InterfaceFacts } from "./facts.js";

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

export interface Abilities extends Driver {
  /** Who says so. */
  by: "xdp-loader" | "the driver's name";
}

/** Null: nobody knows. */
export function abilitiesOf({ driver, xdpFeatures, xdp }: InterfaceFacts): Abilities | null {
  const known = drivers[driver ?? ""];
  if (xdpFeatures === null) return known === undefined ? null : { ...known, by: "the driver's name" };
  // Many drivers take redirected frames only while a program is attached, and vxpipe attaches one to both interfaces; a
  // veth's far end has a say as well. So a "no" counts only where a program is.
  const mayTake = driver === "veth" || (xdp === null && known?.takesRedirected !== false);
  return {
    ...known,
    native: xdpFeatures["BASIC"] === true,
    takesRedirected: xdpFeatures["NDO_XMIT"] === true || mayTake,
    by: "xdp-loader",
  };
}

/** The driver from github.com/amzn/amzn-drivers, whose versions end in a letter; null: the kernel's own. */
export function outOfTreeEna({ driver, driverVersion }: InterfaceFacts): [number, number] | null {
  const found = driver === "ena" ? /^(\d+)\.(\d+)\.\d+g$/.exec(driverVersion ?? "") : null;
  return found === null ? null : [Number(found[1]), Number(found[2])];
}
