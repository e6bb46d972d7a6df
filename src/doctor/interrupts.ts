// Which CPUs serve an interface's interrupts, and where that leaves the workers. Called by interface.ts. Pure.
import { servingCpus, type HostCpus, type Interrupt } from "../injector/cpu-facts.js";
import { placeWorkers } from "../injector/placement.js";
import type { InterfaceFacts, Said } from "./facts.js";

export function interruptFindings(facts: InterfaceFacts, cpus: HostCpus): Said[] {
  const { interrupts } = facts;
  return [...(interrupts.length === 0 ? [] : [spread(interrupts, cpus.allowed)]), workers(facts, cpus)];
}

export function freeCpus(interrupts: readonly Interrupt[], cpus: readonly number[]): number[] {
  const serving = new Set(servingCpus(interrupts));
  return cpus.filter((cpu) => !serving.has(cpu));
}

function spread(interrupts: readonly Interrupt[], cpus: readonly number[]): Said {
  const topic = "interrupts";
  const serving = servingCpus(interrupts);
  const free = freeCpus(interrupts, cpus);
  const where = `${interrupts.length} on CPU ${serving.join(", ")}; free of them: ${free.length === 0 ? "none" : `CPU ${free.join(", ")}`}`;
  if (serving.length > 1 || interrupts.length < 2 || cpus.length < 2) return { level: "ok", topic, message: where };
  // The last CPU stays the worker's.
  const command = moved(interrupts, cpus.length > 2 ? cpus.slice(0, -1) : cpus);
  return { level: "note", topic, message: `${where}; one CPU does all the receiving`, command };
}

function moved(interrupts: readonly Interrupt[], targets: readonly number[]): string {
  const lines = interrupts.map(
    ({ number }, index) => `echo ${targets[index % targets.length]} > /proc/irq/${number}/smp_affinity_list`,
  );
  return lines.join("; ");
}

/** Where `auto` puts the workers if this is the inside interface. */
function workers(facts: InterfaceFacts, cpus: HostCpus): Said {
  const topic = "workers";
  const around = { ...cpus, interfaces: [facts], insideQueues: facts.channels?.now ?? 1 };
  const places = placeWorkers(around, { count: "auto", cpus: "auto", sendAll: true });
  const many = places.cpus.length === 1 ? "one worker" : `${places.cpus.length} workers`;
  const message = `auto puts ${many} on CPU ${places.cpus.join(", ")}${places.node === null ? "" : ` (NUMA node ${places.node})`}`;
  if (places.warning === null) return { level: "ok", topic, message };
  const others = cpus.allowed.filter((cpu) => !places.cpus.includes(cpu));
  const inTheWay = facts.interrupts.filter((interrupt) => interrupt.cpus.some((cpu) => places.cpus.includes(cpu)));
  const said: Said = { level: "note", topic, message: `${message}; ${places.warning}` };
  return others.length === 0 ? said : { ...said, command: moved(inTheWay, others) };
}
