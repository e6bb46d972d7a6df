// What the daemon must be allowed to do, and what it gives up once it runs. Called by preflight.ts and lifecycle.ts on the
// main thread, and by the doctor.
//
// What is kept is needed again: for neighbours and lists while packets flow, the rest when an interface comes back and
// everything is made anew.
import type { Native } from "./native.js";

/** By number in linux/capability.h. */
export const required = {
  CAP_NET_ADMIN: 12,
  CAP_NET_RAW: 13,
  CAP_PERFMON: 38,
  CAP_BPF: 39,
} as const;

/** Packet memory above the limit of locked memory; real-time scheduling. */
const useful = { CAP_IPC_LOCK: 14, CAP_SYS_NICE: 23 } as const;

/** What the kernel locks at least: packet memory with one receive queue. More queues and the worker datapaths take more. */
const lockedMin = 16 << 20;

/** A bpffs that we mounted goes with the last of us. */
const unmounting = { CAP_SYS_ADMIN: 21 } as const;

/** Root's files of configuration may be other users': a reload has to read them as the start did. */
const rootsFiles = { CAP_DAC_OVERRIDE: 1, CAP_DAC_READ_SEARCH: 2 } as const;

export function missingCapabilities(native: Native): string[] {
  const missing = Object.entries(required).filter(([, number]) => !native.hasCapability(number));
  return missing.map(([name]) => name);
}

/** The limit of locked memory in /proc/<pid>/limits. */
export function memlockOf(text: string): number | null {
  const soft = /^Max locked memory +(\S+)/m.exec(text)?.[1];
  if (soft === undefined) return null;
  return soft === "unlimited" ? Infinity : Number(soft);
}

/** What an own limit of locked memory is short of, in a sentence; null: it is enough, or does not count. */
export function lockedShortage(native: Native, limits: string): string | null {
  const limit = memlockOf(limits);
  if (native.hasCapability(useful.CAP_IPC_LOCK) || limit === null || limit >= lockedMin) return null;
  const kib = (bytes: number): string => `${Math.floor(bytes / 1024)} KiB`;
  return `CAP_IPC_LOCK, and may lock ${kib(limit)} of memory; packets take ${kib(lockedMin)} at least`;
}

/** What a real-time priority of the workers is short of, in a sentence; null: it may be had, or is not asked for. */
export function priorityShortage(native: Native, limits: string, priority: number): string | null {
  const limit = Number(/^Max realtime priority +(\d+)/m.exec(limits)?.[1] ?? Infinity);
  if (priority <= limit || native.hasCapability(useful.CAP_SYS_NICE)) return null;
  return `CAP_SYS_NICE, and may give threads a real-time priority of ${limit} at most; workers.priority is ${priority}`;
}

/** Gives up the rest in every thread, for good. Returns what is left. */
export function dropPrivileges(native: Native, mounted: boolean, uid: number = process.geteuid?.() ?? 0): string[] {
  const wanted = { ...required, ...useful, ...(mounted ? unmounting : {}), ...(uid === 0 ? rootsFiles : {}) };
  const kept = Object.entries(wanted).filter(([, number]) => native.hasCapability(number));
  native.keepCapabilities(Uint32Array.from(kept, ([, number]) => number));
  return kept.map(([name]) => name);
}
