// One of a daemon's workers, stopped while everything else goes on. Called by the namespace tests, on Node's main thread.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { Background, ROOT } from "../bed/command.js";
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
