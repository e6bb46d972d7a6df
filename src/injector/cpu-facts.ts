// What this host tells about its CPUs and who of them serves an interface's interrupts. Called by src/pipeline/apply.ts when
// the gateway is made, and by src/doctor; on the main thread. Only reads, and what cannot be read says nothing.
import { readdirSync, readFileSync } from "node:fs";

export interface Interrupt {
  number: number;
  label: string;
  cpus: number[];
}

export interface InterfaceCpus {
  interrupts: Interrupt[];
  /** NUMA node of the device; null: it has none, or the host does not tell. */
  node: number | null;
}

export interface HostCpus {
  /** CPUs that this process may run on, ascending. */
  allowed: number[];
  /** NUMA node by CPU. */
  nodes: ReadonlyMap<number, number>;
  /** CPUs that are threads of one core, each. */
  cores: number[][];
  /** What the kernel keeps of every second from threads of a real-time priority, ms (Documentation/scheduler/sched-rt-group.rst). */
  keptFromRealTimeMs: number;
}

export interface CpuFacts extends HostCpus {
  /** The inside one first. */
  interfaces: readonly InterfaceCpus[];
  insideQueues: number;
}

export function readHostCpus(root = ""): HostCpus {
  const allowed = allowedCpus(read(`${root}/proc/self/status`));
  return {
    allowed,
    nodes: readNodes(`${root}/sys/devices/system/node`),
    cores: readCores(`${root}/sys/devices/system/cpu`, allowed),
    keptFromRealTimeMs: readKeptMs(`${root}/proc/sys/kernel`),
  };
}

/** -1 as their time: all. */
function readKeptMs(directory: string): number {
  const [period, runtime] = ["period", "runtime"].map((what) => Number(read(`${directory}/sched_rt_${what}_us`)));
  if (!period || runtime === undefined || runtime < 0) return 0;
  return (1000 * Math.max(period - runtime, 0)) / period;
}

/** CPUs that this process may run on, ascending. */
export function allowedCpus(status: string = read("/proc/self/status")): number[] {
  return cpuList(/^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? "0");
}

/** "0-2,5" as the kernel writes lists of CPUs; what is none is empty. */
export function cpuList(list: string): number[] {
  if (!/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(list.trim())) return [];
  return list.split(",").flatMap((range) => {
    const [from = 0, to = from] = range.split("-").map(Number);
    return Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
}

export function servingCpus(interrupts: readonly Interrupt[]): number[] {
  return [...new Set(interrupts.flatMap((interrupt) => interrupt.cpus))].sort((a, b) => a - b);
}

/** Those of all CPUs: where a worker may not go interrupts may be served. */
function readNodes(directory: string): Map<number, number> {
  const nodes = names(directory).flatMap((name) => /^node(\d+)$/.exec(name)?.[1] ?? []);
  return new Map(
    nodes.flatMap((node) =>
      cpuList(read(`${directory}/node${node}/cpulist`)).map((cpu) => [cpu, Number(node)] as const),
    ),
  );
}

function readCores(directory: string, cpus: readonly number[]): number[][] {
  const lists = cpus.map((cpu) => read(`${directory}/cpu${cpu}/topology/thread_siblings_list`).trim());
  return [...new Set(lists)].map(cpuList).filter((core) => core.length > 1);
}

/** What a VLAN, a bond or a bridge is made of has the interrupts. */
export function readInterfaceCpus(name: string, root = ""): InterfaceCpus {
  const directory = `${root}/sys/class/net/${name}`;
  const lower = names(directory).flatMap((entry) => /^lower_(.+)$/.exec(entry)?.[1] ?? []);
  if (lower.length > 0) {
    const parts = lower.map((part) => readInterfaceCpus(part, root));
    return { interrupts: parts.flatMap(({ interrupts }) => interrupts), node: parts[0]?.node ?? null };
  }
  // The device of a virtio interface is on the PCI device that has the interrupts.
  const devices = [`${directory}/device`, `${directory}/device/..`];
  const node = devices.map((device) => read(`${device}/numa_node`).trim()).find((text) => /^\d+$/.test(text));
  const own = devices.map((device) => names(`${device}/msi_irqs`)).find((list) => list.length > 0) ?? [];
  return {
    interrupts: readInterrupts(name, own.map(Number), root),
    node: node === undefined ? null : Number(node),
  };
}

/** Of the device's own list; where it keeps none, those whose label names the interface. */
function readInterrupts(name: string, own: readonly number[], root: string): Interrupt[] {
  const labels = interruptLabels(read(`${root}/proc/interrupts`));
  const byName = [...labels].filter(([, label]) => label === name || label.startsWith(`${name}-`));
  const numbers = own.length > 0 ? [...own] : byName.map(([number]) => number);
  return numbers
    .filter((number) => isForPackets(labels.get(number) ?? ""))
    .sort((a, b) => a - b)
    .map((number) => ({ number, label: labels.get(number) ?? "", cpus: affinityOf(`${root}/proc/irq/${number}`) }));
}

function affinityOf(directory: string): number[] {
  const effective = cpuList(read(`${directory}/effective_affinity_list`).trim());
  return effective.length > 0 ? effective : cpuList(read(`${directory}/smp_affinity_list`).trim());
}

/** Number and label of every line of /proc/interrupts that has a number. */
export function interruptLabels(text: string): Map<number, string> {
  const header = text.split("\n", 1)[0] ?? "";
  const cpus = header.split(/\s+/).filter((word) => word.startsWith("CPU")).length;
  const lines = [...text.matchAll(/^\s*(\d+): +(.*)$/gm)];
  // After the counts: the controller, its line, the label.
  return new Map(
    lines.map(([, number, rest = ""]) => [
      Number(number),
      rest
        .trim()
        .split(/\s+/)
        .slice(cpus + 2)
        .join(" "),
    ]),
  );
}

/** Not those that tell of the device, instead of its packets. */
export function isForPackets(label: string): boolean {
  return label !== "" && !/config|mgmnt|mgmt|async|control|ctrl|aenq|cmd|fault/i.test(label);
}

function names(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
