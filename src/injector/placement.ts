// Where the exception worker runs. Called by src/pipeline/apply.ts when the gateway is made, and by src/doctor, which tells
// beforehand; on the main thread.
import { readFileSync } from "node:fs";
import { VxpipeError } from "../pipeline/errors.js";

/** CPUs that this process may run on, ascending. */
export function allowedCpus(status: string = readFileSync("/proc/self/status", "utf8")): number[] {
  return cpuList(/^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? "0");
}

/** "0-2,5" as the kernel writes lists of CPUs. */
export function cpuList(list: string): number[] {
  return list.split(",").flatMap((range) => {
    const [from = 0, to = from] = range.split("-").map(Number);
    return Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
}

/** `auto`: the last CPU, for receive queues and their interrupts are usually spread from the first. */
export function placeWorker(wanted: number | "auto", allowed: readonly number[]): number {
  if (wanted === "auto") return allowed.at(-1) ?? 0;
  if (allowed.includes(wanted)) return wanted;
  throw new VxpipeError("CPU_UNAVAILABLE", `CPU ${wanted} of workers.cpus is not one of ours: ${allowed.join(", ")}`);
}
