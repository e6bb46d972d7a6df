// Gathers facts: reads /proc and /sys, runs ip, ethtool and bpftool. Changes nothing and needs no root; what it
// may not see, or lacks the tool for, is not known. Called by src/cli/commands/doctor.ts, on the main thread.
import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { VxpipeError } from "../pipeline/errors.js";
import { loadNative } from "../pipeline/native.js";
import { memlockOf } from "../pipeline/privileges.js";
import { readHostCpus, readInterfaceCpus } from "../injector/cpu-facts.js";
import type { FarEnd, HostFacts, InterfaceFacts, XdpProgram } from "./facts.js";
import * as parse from "./parse.js";

const toolMs = 10_000;

/** Runs tools, and remembers which of them there are not. */
export class Tools {
  readonly missing = new Set<string>();

  /** Where ethtool and ip are is not on every user's path. */
  constructor(private readonly path = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`) {}

  /** Standard output; what failed printed nothing. */
  run(command: string, ...args: string[]): Promise<string> {
    const env = { ...process.env, PATH: this.path, LC_ALL: "C" };
    return new Promise((resolve) => {
      execFile(command, args, { env, timeout: toolMs, maxBuffer: 16 << 20 }, (error, stdout) => {
        // EACCES: a directory of the path that this user may not look into.
        if (error !== null && ["ENOENT", "EACCES"].includes(String(error.code))) this.missing.add(command);
        resolve(stdout);
      });
    });
  }

  async json(command: string, ...args: string[]): Promise<unknown> {
    try {
      return JSON.parse(await this.run(command, ...args)) as unknown;
    } catch {
      return null;
    }
  }
}

export function collectHost(tools: Tools): HostFacts {
  const status = read("/proc/self/status");
  const jit = read("/proc/sys/net/core/bpf_jit_enable").trim();
  return {
    kernel: release(),
    btf: existsSync("/sys/kernel/btf/vmlinux"),
    bpffs: parse.mountsOf(read("/proc/self/mounts"), "bpf"),
    uid: process.geteuid?.() ?? 0,
    capabilities: parse.capabilitiesOf(status),
    memlock: memlockOf(read("/proc/self/limits")),
    jit: jit === "" ? null : Number(jit),
    cpus: readHostCpus(),
    missingTools: [...tools.missing],
  };
}

/** One link as `ip -j -d link` shows it; only what is used here. */
interface Link {
  ifname: string;
  ifindex: number;
  mtu: number;
  flags: string[];
  link_type: string;
  linkinfo?: { info_kind?: string };
  link?: string;
  xdp?: { mode: number; prog?: { id?: number; name?: string } };
}

/** Interfaces that packets could come by: up, Ethernet, and of a device or a veth. */
export async function usableInterfaces(tools: Tools): Promise<string[]> {
  const links = ((await tools.json("ip", "-j", "-d", "link", "show")) ?? []) as Link[];
  const kinds = new Set<string | undefined>([undefined, "veth"]);
  return links
    .filter(({ link_type, flags, linkinfo }) => {
      return link_type === "ether" && flags.includes("UP") && kinds.has(linkinfo?.info_kind);
    })
    .map(({ ifname }) => ifname);
}

export async function collectInterface(tools: Tools, wanted: string): Promise<InterfaceFacts> {
  const link = await linkOf(tools, wanted);
  if (link === null) throw new VxpipeError("INTERFACE_UNKNOWN", `this host has no interface ${wanted}`);
  const { ifname: name } = link;
  const ethtool = (...args: string[]): Promise<string> => tools.run("ethtool", ...args);
  const { driver, version } = parse.driverOf(await ethtool("-i", name));
  const facts: InterfaceFacts = {
    name,
    ethernet: link.link_type === "ether",
    driver: driver ?? link.linkinfo?.info_kind ?? null,
    driverVersion: version,
    mtu: link.mtu,
    up: link.flags.includes("UP"),
    carrier: read(`/sys/class/net/${name}/carrier`).trim() === "1",
    channels: parse.channelsOf(await ethtool("-l", name)),
    rxRing: parse.rxRingOf(await ethtool("-g", name)),
    features: parse.featuresOf(await ethtool("-k", name)),
    rss: parse.rssOf(await ethtool("-x", name)),
    udpHash: parse.udpHashOf(await ethtool("-n", name, "rx-flow-hash", "udp4")),
    xdpFeatures: parse.xdpFeaturesOf(await driverSays(name)),
    xdp: programOf(link, await tools.json("bpftool", "-j", "net", "show", "dev", name)),
    ...readInterfaceCpus(name),
    allowanceExceeded: parse.allowanceExceededOf(await ethtool("-S", name)),
  };
  return facts.driver === "veth" ? { ...facts, farEnd: await farEndOf(tools, link) } : facts;
}

async function linkOf(tools: Tools, name: string): Promise<Link | null> {
  // A name is a file's name below /sys/class/net, and an argument of tools.
  if (!/^[^-/\s][^/\s]*$/.test(name) || name === "." || name === "..") return null;
  const [link] = ((await tools.json("ip", "-j", "-d", "link", "show", "dev", name)) ?? []) as Link[];
  if (link !== undefined) return link;
  if (!tools.missing.has("ip") || !existsSync(`/sys/class/net/${name}`)) return null;
  const of = (file: string): string => read(`/sys/class/net/${name}/${file}`).trim();
  const flags = (Number(of("flags")) & 1) === 1 ? ["UP"] : [];
  return {
    ifname: name,
    ifindex: Number(of("ifindex")),
    mtu: Number(of("mtu")),
    flags,
    link_type: of("type") === "1" ? "ether" : "",
  };
}

/** Null without the addon too. */
async function driverSays(name: string): Promise<number | null> {
  return loadNative().then(
    (native) => native.xdpFeatures(name),
    () => null,
  );
}

/** Of linux/if_link.h: XDP_ATTACHED_DRV and what follows; bpftool's names mean the same. */
const modes = ["", "native", "generic", "offloaded", "several"] as const;
const modesOfBpftool: Record<string, XdpProgram["mode"]> = {
  driver: "native",
  generic: "generic",
  offload: "offloaded",
  multi: "several",
};

function programOf({ xdp }: Link, shown: unknown): XdpProgram | null {
  const mode = modes[xdp?.mode ?? 0];
  if (mode) return { mode, id: xdp?.prog?.id ?? null, name: xdp?.prog?.name ?? null };
  const [net] = (Array.isArray(shown) ? shown : []) as { xdp?: { mode?: string; id?: number }[] }[];
  const first = net?.xdp?.[0];
  const known = modesOfBpftool[first?.mode ?? ""];
  return known === undefined ? null : { mode: known, id: first?.id ?? null, name: null };
}

async function farEndOf(tools: Tools, { link }: Link): Promise<FarEnd | null> {
  if (link === undefined) return null;
  const far = await linkOf(tools, link);
  if (far === null) return null;
  const features = parse.featuresOf(await tools.run("ethtool", "-k", far.ifname));
  const gro = features?.["generic-receive-offload"]?.on ?? null;
  return { name: far.ifname, mtu: far.mtu, gro, xdp: far.xdp !== undefined };
}

/** What cannot be read says nothing. */
function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
