// Which CPUs serve an interface's interrupts, and which are free for the worker. Called by interface.ts. Pure.
import { placeWorker } from "../injector/placement.js";
import type { InterfaceFacts, Interrupt, Said } from "./facts.js";

const topic = "interrupts";

export function interruptFindings({ interrupts }: InterfaceFacts, cpus: readonly number[]): Said[] {
  if (interrupts.length === 0) return [];
  const serving = servingCpus(interrupts);
  const free = freeCpus(interrupts, cpus);
  const where = `${interrupts.length} on CPU ${serving.join(", ")}; free of them: ${free.length === 0 ? "none" : `CPU ${free.join(", ")}`}`;
  return [...spread(interrupts, serving, cpus, where), ...worker(serving, free, cpus)];
}

export function servingCpus(interrupts: readonly Interrupt[]): number[] {
  return [...new Set(interrupts.flatMap((interrupt) => interrupt.cpus))].sort((a, b) => a - b);
}

export function freeCpus(interrupts: readonly Interrupt[], cpus: readonly number[]): number[] {
  const serving = new Set(servingCpus(interrupts));
  return cpus.filter((cpu) => !serving.has(cpu));
}

function spread(interrupts: readonly Interrupt[], serving: number[], cpus: readonly number[], where: string): Said[] {
  if (serving.length > 1 || interrupts.length < 2 || cpus.length < 2) return [{ level: "ok", topic, message: where }];
  // The last CPU stays the worker's.
  const targets = cpus.length > 2 ? cpus.slice(0, -1) : cpus;
  const command = interrupts
    .map(({ number }, index) => `echo ${targets[index % targets.length]} > /proc/irq/${number}/smp_affinity_list`)
    .join("; ");
  return [{ level: "note", topic, message: `${where}; one CPU does all the receiving`, command }];
}

/** `workers.cpus: auto` takes the last CPU. */
function worker(serving: readonly number[], free: readonly number[], cpus: readonly number[]): Said[] {
  const auto = placeWorker("auto", cpus);
  if (!serving.includes(auto))
    return [{ level: "ok", topic: "worker", message: `auto puts it on CPU ${auto}, which is free` }];
  const best = free.at(-1);
  if (best === undefined) {
    const message = `auto puts it on CPU ${auto}, which also serves interrupts; no CPU is free of them`;
    return [{ level: "note", topic: "worker", message }];
  }
  const message = `auto puts it on CPU ${auto}, which also serves interrupts; in the configuration say: workers: { cpus: [${best}] }`;
  return [{ level: "note", topic: "worker", message }];
}
