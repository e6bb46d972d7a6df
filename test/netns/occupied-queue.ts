// Another program's AF_XDP socket at an interface's queue 0: nobody else can bind one there. Called by the namespace tests,
// on Node's main thread.
import assert from "node:assert/strict";
import { join } from "node:path";

import type { Bed } from "../bed/bed.js";
import { ROOT } from "../bed/command.js";
import { PYTHON } from "./wire.js";

/** It is bound when this returns, in the gateway's namespace; what it returns takes it away. */
export async function occupyQueue(bed: Bed, name: string): Promise<() => Promise<void>> {
  const occupier = bed.start("gateway", PYTHON, [join(ROOT, "test/netns/occupy_queue.py"), name]);
  await occupier.nextLine();
  return async () => {
    occupier.closeInput();
    assert.equal((await occupier.exited).code, 0, occupier.stderr);
  };
}
