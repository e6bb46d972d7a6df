// What most suites here begin with: a bed for all of its tests, and for each of them a far end and a gateway that has to
// end well. Called by the namespace tests, on Node's main thread.
import assert from "node:assert/strict";
import { after, afterEach, before } from "node:test";

import { ADDRESS, Bed, type BedOptions } from "../bed/bed.js";
import { type Config, Daemon } from "../bed/daemon.js";
import { until } from "../bed/command.js";
import { generate, type Load, type Sent, Sink, type SinkOptions } from "../bed/tools.js";
import { agreed, receivedIs, settled } from "./ledger.js";

/** What is sent where it does not matter what. */
export const LOAD: Load = { destination: ADDRESS.beyond, cpu: 0 };

export class Scene {
  // Made by the hooks: before them nobody asks.
  bed!: Bed;
  sink!: Sink;
  /** A test may put another one in its place. */
  daemon!: Daemon;

  async start(config: Config = {}, sink: SinkOptions = {}): Promise<void> {
    this.sink = await Sink.start(this.bed, sink);
    this.daemon = await Daemon.start(this.bed, config);
  }

  /** Packets, received by the gateway. */
  async send(load: Load): Promise<Sent> {
    const earlier = (await this.daemon.peek()).inside.received;
    const sent = await generate(this.bed, { ...LOAD, ...load });
    await receivedIs(this.daemon, earlier + sent.sent);
    return sent;
  }

  /** Packets leave again, after whatever the test did. */
  async recovers(): Promise<void> {
    const { forwarded } = (await settled(this.daemon)).inside;
    const more = async (): Promise<true | null> => {
      await this.send({ count: 1 });
      return (await settled(this.daemon)).inside.forwarded > forwarded ? true : null;
    };
    await until("packets to leave again", more, 20_000);
    await agreed(this.daemon, this.sink);
  }

  async stop(): Promise<void> {
    const exit = await this.daemon.stop();
    await this.sink.stop();
    assert.deepEqual(exit, { code: 0, signal: null }, this.daemon.process.stderr);
    assert.deepEqual(await this.daemon.leftovers(), []);
  }
}

/** Registers the hooks; each test, or the suite around it, calls start(). */
export function makeScene(options: BedOptions = {}): Scene {
  const scene = new Scene();
  before(async () => {
    scene.bed = await Bed.make({ staticNeighbours: true, ...options });
  });
  after(() => scene.bed.remove());
  afterEach(() => scene.stop());
  return scene;
}
