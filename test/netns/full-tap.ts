// A far end that reads only when it is told to, as functions; the interface lives in a process of full_tap.py. Called by the
// namespace tests, on Node's main thread.
import { join } from "node:path";

import type { Bed } from "../bed/bed.js";
import { type Background, ROOT } from "../bed/command.js";
import { PYTHON } from "./wire.js";

export class Tap {
  private constructor(private readonly process: Background) {}

  /** In the gateway's namespace, with room for so many frames. */
  static async start(bed: Bed, name: string, room: number): Promise<Tap> {
    const tap = new Tap(bed.start("gateway", PYTHON, [join(ROOT, "test/netns/full_tap.py"), name]));
    await tap.process.nextLine();
    await bed.ip("gateway", `link set ${name} txqueuelen ${room} up`);
    return tap;
  }

  /** Sequence numbers of what has come since the last call, and of nothing that comes later. */
  async take(): Promise<number[]> {
    this.process.send("take");
    return (JSON.parse(await this.process.nextLine()) as { sequences: number[] }).sequences;
  }

  async stop(): Promise<void> {
    await this.process.stop();
  }
}
