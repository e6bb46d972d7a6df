// What a daemon that ended, or never came up, may have left in a bed: programs on interfaces, pins, sockets, mounts.
// Called by the namespace tests, on Node's main thread.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

import type { Bed } from "../bed/bed.js";
import { run } from "../bed/command.js";

/** How an interface's XDP program is attached: "native", "generic", or "" without one. */
export async function attachment(bed: Bed, name: string): Promise<string> {
  const text = await bed.exec("gateway", "ip", ["-j", "-d", "link", "show", "dev", name]);
  const [link] = JSON.parse(text) as [{ xdp?: { mode: number } }];
  // enum of linux/if_link.h: XDP_ATTACHED_DRV 1, XDP_ATTACHED_SKB 2.
  const names = ["", "native", "generic"];
  return link.xdp ? (names[link.xdp.mode] ?? `mode ${link.xdp.mode}`) : "";
}

/** Everything there is of a daemon in this bed. */
export async function traces(bed: Bed): Promise<string[]> {
  const found: string[] = [];
  for (const name of ["in0", "out0"]) {
    const how = await attachment(bed, name);
    if (how !== "") found.push(`${how} XDP on ${name}`);
  }
  // The kernel's own are in the root of every new bpffs (kernel/bpf/preload).
  const pins = readdirSync(bed.bpffs, { recursive: true }).map(String);
  const foreign = pins.filter((pin) => pin !== "maps.debug" && pin !== "progs.debug");
  found.push(...foreign.map((pin) => `pin ${pin}`));
  if (existsSync(join(bed.directory, "vxpipe.sock"))) found.push("socket");
  const mounts = await run("findmnt", ["-n", "-o", "TARGET", "-t", "bpf"]);
  const ours = mounts.split("\n").filter((mount) => mount.includes(bed.directory) && !mount.endsWith(bed.bpffs));
  return [...found, ...ours.map((mount) => `mount ${mount}`)];
}
