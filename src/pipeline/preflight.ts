// What must be true of this host before anything is touched: one sentence each when it is not. Called by the daemon at
// start, and src/doctor tells of the same beforehand; on the main thread. Only looks; the kernel itself has the last word.
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { systemReason, VxpipeError } from "./errors.js";
import { makeDirectory } from "./make-directory.js";
import type { Native } from "./native.js";
import type { Plan } from "./plan.js";
import { lockedShortage, missingCapabilities, priorityShortage } from "./privileges.js";

export const kernelMin = [6, 1] as const;

export function isKernelEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map((part) => Number.parseInt(part, 10));
  return major > kernelMin[0] || (major === kernelMin[0] && minor >= kernelMin[1]);
}

export function checkKernel(version: string = release()): void {
  if (isKernelEnough(version)) return;
  throw new VxpipeError("KERNEL_TOO_OLD", `this is Linux ${version}; vxpipe needs ${kernelMin.join(".")} or newer`);
}

export function preflight(plan: Plan, native: Native): void {
  checkKernel();
  const missing = missingCapabilities(native);
  if (missing.length > 0) throw new VxpipeError("CAPABILITY_MISSING", `this process lacks ${missing.join(", ")}`);
  const limits = readFileSync("/proc/self/limits", "utf8");
  const shortage = lockedShortage(native, limits) ?? priorityShortage(native, limits, plan.datapath.workers.priority);
  if (shortage !== null) throw new VxpipeError("CAPABILITY_MISSING", `this process lacks ${shortage}`);
  if (!existsSync("/sys/kernel/btf/vmlinux")) {
    throw new VxpipeError("BTF_MISSING", "the kernel does not describe its types: /sys/kernel/btf/vmlinux is missing");
  }
  const { inside, outside } = plan.datapath;
  const facts = { inside: native.interfaceFacts(inside), outside: native.interfaceFacts(outside) };
  for (const [side, name] of [
    ["inside", inside],
    ["outside", outside],
  ] as const) {
    const found = facts[side];
    if (found === null) {
      throw new VxpipeError("INTERFACE_MISSING", `${side}.interface: this host has no interface ${name}`);
    }
    if (!found.ethernet) {
      throw new VxpipeError("INTERFACE_NOT_ETHERNET", `${side}.interface: ${name} is not an Ethernet interface`);
    }
  }
  if (facts.inside?.ifindex === facts.outside?.ifindex) {
    throw new VxpipeError("INTERFACE_SAME", `${inside} and ${outside} are the same interface`);
  }
  checkStateDirectory(plan.stateDirectory);
}

/** A disk in trouble: packets matter more than the note that goes there (lifecycle.ts says so when it cannot be written). */
const diskTrouble = new Set(["ENOSPC", "EDQUOT", "EROFS", "EIO"]);

function checkStateDirectory(directory: string): void {
  try {
    makeDirectory(directory, 0o750);
    accessSync(directory, constants.W_OK | constants.X_OK);
  } catch (error) {
    if (diskTrouble.has((error as NodeJS.ErrnoException).code ?? "")) return;
    throw new VxpipeError("STATE_UNWRITABLE", `state.directory ${directory}: ${systemReason(error)}`, { cause: error });
  }
}
