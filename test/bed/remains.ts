// What a test bed may leave behind, and its removal: namespaces, directories with a mounted bpffs, processes,
// BPF objects. Names carry the id of the process that made them, so that a later run can tell which belong to
// nobody any more. Called by bed.ts and daemon.ts, on Node's main thread.
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { run, sleep, trySync, until } from "./command.js";

const NAME = /^vx-(\d+)-[A-Za-z0-9]{6}/;

/** A new directory whose name is also the prefix of the bed's namespaces. */
export function makeBedDirectory(): { name: string; directory: string } {
  const directory = mkdtempSync(join(tmpdir(), `vx-${process.pid}-`));
  return { name: directory.slice(directory.lastIndexOf("/") + 1), directory };
}

function namespaces(prefix: (name: string) => boolean): string[] {
  return existsSync("/run/netns") ? readdirSync("/run/netns").filter(prefix) : [];
}

function mountsBelow(directory: string): string[] {
  const points = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "");
  return points.filter((point) => point.startsWith(`${directory}/`));
}

/** Ends the processes of one bed's namespaces and removes all that carries its name. Synchronous: also for `exit`. */
export function removeBed(name: string, directory: string): void {
  const mine = namespaces((other) => other.startsWith(`${name}-`));
  for (const namespace of mine) {
    for (const pid of trySync("ip", ["netns", "pids", namespace]).split("\n").filter(Boolean)) {
      try {
        process.kill(Number(pid), "SIGKILL");
      } catch {
        continue; // ended by itself
      }
    }
  }
  for (const namespace of mine) trySync("ip", ["netns", "del", namespace]);
  // Deepest first: a mount may lie in another.
  for (const mount of mountsBelow(directory).toReversed()) trySync("umount", ["-l", mount]);
  rmSync(directory, { recursive: true, force: true });
}

/** Removes beds whose process is gone: what a crash or `kill -9` left. */
export function sweepStaleBeds(): void {
  const names = new Set<string>();
  for (const entry of [...namespaces(() => true), ...readdirSync(tmpdir())]) {
    const match = NAME.exec(entry);
    if (match && !existsSync(`/proc/${match[1]}`)) names.add(match[0]);
  }
  for (const name of names) removeBed(name, join(tmpdir(), name));
}

/** Ids of the BPF objects a process holds, as its descriptors say. */
export interface BpfObjects {
  programs: Set<number>;
  maps: Set<number>;
  links: Set<number>;
}

export function bpfObjectsOf(pid: number): BpfObjects {
  const found: BpfObjects = { programs: new Set(), maps: new Set(), links: new Set() };
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
    let text = "";
    try {
      if (!readlinkSync(`/proc/${pid}/fd/${fd}`).includes("bpf")) continue;
      text = readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8");
    } catch {
      continue; // closed meanwhile
    }
    for (const [, key, id] of text.matchAll(/^(prog_id|map_id|link_id):\s*(\d+)/gm)) {
      if (key === "prog_id") found.programs.add(Number(id));
      if (key === "map_id") found.maps.add(Number(id));
      if (key === "link_id") found.links.add(Number(id));
    }
  }
  return found;
}

/** What bpftool shows of a kind. It fails when an object of another test goes while it looks: then it looks again. */
export function bpfObjects(kind: "prog" | "map" | "link"): Promise<{ id: number; name?: string }[]> {
  const show = async (): Promise<{ id: number; name?: string }[] | null> => {
    const text = await run("bpftool", ["-j", kind, "show"]).catch(() => null);
    return text === null ? null : (JSON.parse(text) as { id: number; name?: string }[]);
  };
  return until(`bpftool ${kind} show`, show);
}

async function idsNow(kind: "prog" | "map" | "link"): Promise<Set<number>> {
  return new Set((await bpfObjects(kind)).map(({ id }) => id));
}

/** Which of the objects still exist. The kernel frees them a moment after the last reference, so this waits a little. */
export async function survivors(objects: BpfObjects, patienceMs = 3_000): Promise<string[]> {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const [programs, maps, links] = await Promise.all([idsNow("prog"), idsNow("map"), idsNow("link")]);
    const left = [
      ...[...objects.programs].filter((id) => programs.has(id)).map((id) => `program ${id}`),
      ...[...objects.maps].filter((id) => maps.has(id)).map((id) => `map ${id}`),
      ...[...objects.links].filter((id) => links.has(id)).map((id) => `link ${id}`),
    ];
    if (left.length === 0 || Date.now() > deadline) return left;
    await sleep(50);
  }
}
