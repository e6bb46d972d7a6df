// The order of a round. A host moves its virtual CPUs apart for some ten seconds and together again, which halves what a
// worker on the second core can do: so whatever takes two cores is visited while they are near each other, and the rest
// meanwhile. The same for peers and ourselves. Called by run.ts, on Node's main thread.
import { sleep } from "../test/bed/command.js";
import { pingPong } from "../test/bed/tools.js";

export interface Visit {
  readonly cores: number;
  run(): Promise<void>;
}

const LOOK_AGAIN_MS = 1000;
/** In the whole bench, when nothing else is left to do. */
let waitsLeft = 30;
let shortestNs = Number.POSITIVE_INFINITY;

async function coresAreNear(): Promise<boolean> {
  const { medianNs } = await pingPong();
  shortestNs = Math.min(shortestNs, medianNs);
  return medianNs < 2 * shortestNs;
}

/** Everything once: in the order given, but for what has to wait. */
export async function visitAll(visits: readonly Visit[]): Promise<void> {
  const left = [...visits];
  while (left.length > 0) {
    const near = await coresAreNear();
    const fitting = left.findIndex(({ cores }) => cores > 1 === near);
    if (fitting < 0 && !near && waitsLeft-- > 0) {
      await sleep(LOOK_AGAIN_MS);
      continue;
    }
    await left.splice(Math.max(fitting, 0), 1)[0]?.run();
  }
}
