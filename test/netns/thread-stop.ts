// A daemon that stands still, or one of its workers while everything else goes on. Called by the namespace tests, on Node's
// main thread.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { Background, ROOT, until } from "../bed/command.js";
import { PYTHON } from "./wire.js";

/** A daemon, by its process. */
interface Running {
  process: { pid: number };
}

export function workerThread({ process: { pid } }: Running, worker = 0): string {
  const name = (tid: string): string => readFileSync(`/proc/${pid}/task/${tid}/comm`, "utf8").trim();
  const tid = readdirSync(`/proc/${pid}/task`).find((one) => name(one) === `vx-worker-${worker}`);
  return tid ?? assert.fail(`no worker ${worker}`);
}

/** Every thread stands still when this returns, until SIGCONT. The signal alone is only the beginning: it stops the others
 * when one of them has been given a CPU to take it. */
export async function stopProcess(pid: number): Promise<void> {
  process.kill(pid, "SIGSTOP");
  const still = (tid: string): boolean => /^State:\s+T/m.test(readFileSync(`/proc/${pid}/task/${tid}/status`, "utf8"));
  const all = async (): Promise<true | null> => (readdirSync(`/proc/${pid}/task`).every(still) ? true : null);
  await until(`process ${pid} to stand still`, all);
}

/** The worker stands still when this returns, until the process that it returns ends. */
export async function holdWorker(daemon: Running, worker = 0): Promise<Background> {
  const stopper = new Background(PYTHON, [join(ROOT, "test/netns/thread_stop.py"), workerThread(daemon, worker)]);
  await stopper.nextLine();
  return stopper;
}

/** The worker stands still when this returns; what it returns lets it go on. */
export async function stopWorker(daemon: Running, worker = 0): Promise<() => Promise<void>> {
  const stopper = await holdWorker(daemon, worker);
  return async () => {
    stopper.closeInput();
    assert.equal((await stopper.exited).code, 0, stopper.stderr);
  };
}
