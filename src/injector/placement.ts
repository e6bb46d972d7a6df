// Which CPUs the workers are pinned to. Called by src/pipeline/apply.ts when the gateway is made, and by src/doctor, which
// tells beforehand; on the main thread. Pure; cpu-facts.ts gathers the facts.
//
// A worker on a CPU that also receives gets the time that receiving leaves, which under load is none. So `auto` ranks the
// CPUs: first those that serve no interrupt of the two interfaces, of these the ones on the inside device's memory, of these
// the ones that share no core with a CPU that serves interrupts, and the last first, for interrupts, and whatever else a
// host does at its start, are usually spread from the first.
import { VxpipeError } from "../pipeline/errors.js";
import { servingCpus, type CpuFacts } from "./cpu-facts.js";

/** Beyond it the CPUs that receive are the limit, whatever the host has. */
const autoWorkersMax = 8;

export interface WorkersWanted {
  count: number | "auto";
  cpus: readonly number[] | "auto";
  /** The workers send everything; else one has little to do, and a second one nothing. */
  sendAll: boolean;
  /** They spin at a real-time priority: each leaves its CPU to nobody. */
  keepCpus?: boolean;
}

export interface WorkerPlaces {
  /** One for each worker; a CPU that stands here twice is shared. */
  cpus: number[];
  /** NUMA node of their memory; null: the host has one node, or does not tell. */
  node: number | null;
  /** What is worth knowing about these places; null: nothing. */
  warning: string | null;
}

export function placeWorkers(facts: CpuFacts, wanted: WorkersWanted): WorkerPlaces {
  const cpus = wanted.cpus === "auto" ? ranked(facts) : usable(wanted.cpus, facts.allowed);
  const count = wanted.count === "auto" ? autoCount(facts, wanted, cpus.length) : wanted.count;
  const places = Array.from({ length: count }, (_, worker) => cpus[worker % cpus.length] ?? 0);
  return { cpus: places, node: nodeOf(facts, places), warning: warningOf(facts, places, wanted.keepCpus ?? false) };
}

function usable(cpus: readonly number[], allowed: readonly number[]): readonly number[] {
  const wrong = cpus.find((cpu) => !allowed.includes(cpu));
  if (wrong === undefined) return cpus;
  throw new VxpipeError("CPU_UNAVAILABLE", `CPU ${wrong} of workers.cpus is not one of ours: ${allowed.join(", ")}`);
}

/** Best first. */
function ranked(facts: CpuFacts): number[] {
  const serving = new Set(servingOf(facts));
  const near = insideNode(facts);
  const besideServing = new Set(facts.cores.filter((core) => core.some((cpu) => serving.has(cpu))).flat());
  const badness = (cpu: number): number =>
    (serving.has(cpu) ? 4 : 0) +
    (near !== null && facts.nodes.get(cpu) !== near ? 2 : 0) +
    (besideServing.has(cpu) ? 1 : 0);
  return [...facts.allowed].sort((a, b) => badness(a) - badness(b) || b - a);
}

/** As many as the inside interface has queues to feed them, on CPUs that serve no interrupts, one of which is left to the
 * control plane. */
function autoCount(facts: CpuFacts, { cpus, sendAll }: WorkersWanted, given: number): number {
  if (cpus !== "auto") return sendAll ? given : 1;
  if (!sendAll) return 1;
  const near = insideNode(facts);
  const serving = new Set(servingOf(facts));
  const free = facts.allowed.filter((cpu) => !serving.has(cpu) && (near === null || facts.nodes.get(cpu) === near));
  return Math.max(Math.min(facts.insideQueues, free.length - 1, autoWorkersMax), 1);
}

function servingOf({ interfaces }: CpuFacts): number[] {
  return servingCpus(interfaces.flatMap(({ interrupts }) => interrupts));
}

/** Null where it makes no difference. */
function insideNode({ nodes, interfaces }: CpuFacts): number | null {
  return new Set(nodes.values()).size > 1 ? (interfaces[0]?.node ?? null) : null;
}

/** All workers share one memory, which so is on the node of the first. */
function nodeOf({ nodes }: CpuFacts, [first]: readonly number[]): number | null {
  return first === undefined || new Set(nodes.values()).size < 2 ? null : (nodes.get(first) ?? null);
}

function warningOf(facts: CpuFacts, places: readonly number[], keepCpus: boolean): string | null {
  const list = (cpus: readonly number[]): string => [...new Set(cpus)].sort((a, b) => a - b).join(", ");
  if (keepCpus && facts.allowed.every((cpu) => places.includes(cpu))) {
    return `workers spin at a real-time priority on CPU ${list(places)}, which are all: packets are received, and commands answered, in what the kernel takes from them`;
  }
  const shared = places.filter((cpu, index) => places.indexOf(cpu) !== index);
  if (shared.length > 0) return `more than one worker on CPU ${list(shared)}: they take turns there`;
  const serving = servingOf(facts);
  const busy = places.filter((cpu) => serving.includes(cpu));
  if (busy.length > 0) return `CPU ${list(busy)} serves the interfaces' interrupts besides a worker`;
  if (keepCpus && facts.keptFromRealTimeMs > 0) {
    return `workers spin at a real-time priority, and the kernel stops them for ${facts.keptFromRealTimeMs} ms of every second: sysctl kernel.sched_rt_runtime_us=-1 leaves them their CPU`;
  }
  return null;
}
