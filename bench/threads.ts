// What a gateway's own threads do during a measurement: how long they waited for their CPU, and how many system calls they
// made. Called by measure.ts, on Node's main thread.
import { readdirSync, readFileSync } from "node:fs";

import { Background } from "../test/bed/command.js";
import { tool } from "../test/bed/tools.js";

/** Threads of a process whose name begins so. */
export function threadsOf(pid: number, name: string): number[] {
  const own = `/proc/${pid}/task`;
  return readdirSync(own)
    .filter((thread) => readFileSync(`${own}/${thread}/comm`, "utf8").startsWith(name))
    .map(Number);
}

/** For how long they have been ready to run while their CPU ran something else. */
export function secondsWaited(threads: readonly number[]): number {
  const waits = threads.map((thread) => Number(readFileSync(`/proc/${thread}/schedstat`, "utf8").split(" ")[1]));
  return waits.reduce((sum, ns) => sum + ns, 0) / 1e9;
}

/** Counts their system calls (native/bench/vxcalls.cpp) from start() to stop(). */
export class CallCounter {
  private constructor(readonly process: Background) {}

  static async start(threads: readonly number[]): Promise<CallCounter> {
    const counter = new CallCounter(new Background(tool("vxcalls"), ["--threads", threads.join(",")]));
    await counter.process.nextLine();
    return counter;
  }

  async stop(): Promise<number> {
    const exit = await this.process.stop();
    if (exit.code !== 0) throw new Error(`vxcalls: exit ${exit.code}: ${this.process.stderr.trim()}`);
    return (JSON.parse(this.process.lines.at(-1) ?? "") as { calls: number }).calls;
  }
}
