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
  CAP_SYS_ADMIN: 21,
  CAP_PERFMON: 38,
  CAP_BPF: 39,
} as const;

/** Packet memory above the limit of locked memory; real-time scheduling. */
const useful = { CAP_IPC_LOCK: 14, CAP_SYS_NICE: 23 } as const;

/** Root's files of configuration may be other users': a reload has to read them as the start did. */
const rootsFiles = { CAP_DAC_OVERRIDE: 1, CAP_DAC_READ_SEARCH: 2 } as const;

export function missingCapabilities(native: Native): string[] {
  const missing = Object.entries(required).filter(([, number]) => !native.hasCapability(number));
  return missing.map(([name]) => name);
}

/** Gives up the rest in every thread, for good. Returns what is left. */
export function dropPrivileges(native: Native, uid: number = process.geteuid?.() ?? 0): string[] {
  const wanted = { ...required, ...useful, ...(uid === 0 ? rootsFiles : {}) };
  const kept = Object.entries(wanted).filter(([, number]) => native.hasCapability(number));
  native.keepCapabilities(Uint32Array.from(kept, ([, number]) => number));
  return kept.map(([name]) => name);
}
