// A daemon for tests of the command line: the real listener over a simulated gateway, in this process.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { FastifyInstance } from "fastify";
import { Imports } from "../../src/api/import-progress.js";
import type { Served } from "../../src/api/routes.js";
import { listenSocket } from "../../src/api/server.js";
import { drops, vxCounters, vxSampleForm } from "../../src/pipeline/abi.gen.js";
import { nothingAllowed } from "../../src/pipeline/allowlist/edit.js";
import { AllowlistLoader } from "../../src/pipeline/allowlist/load.js";
import { Applier } from "../../src/pipeline/apply.js";
import { checkConfig } from "../../src/pipeline/config/check.js";
import { EventLog } from "../../src/pipeline/events.js";
import { planOf } from "../../src/pipeline/plan.js";
import { Runtime } from "../../src/pipeline/runtime.js";
import { Saver } from "../../src/pipeline/save.js";
import { makeMetrics } from "../../src/telemetry/metrics.js";
import { ROOT } from "../bed/command.js";
import { sampleOf, tunnelled } from "./samples.js";
import { simulate, type SimulatedGateway } from "./simulated-native.js";

export const VXPIPE = join(ROOT, "bin/vxpipe");

export class Daemon {
  readonly directory = mkdtempSync(join(tmpdir(), "vxpipe-unit-"));
  readonly socket = join(this.directory, "vxpipe.sock");
  readonly loader = new AllowlistLoader();

  private constructor(
    readonly runtime: Runtime,
    readonly gateway: SimulatedGateway,
  ) {}
  server!: FastifyInstance;
  served!: Served;

  /** Goes with the test. `enforced`: with an allowlist, an empty one. */
  static async start(t: TestContext, enforced = false): Promise<Daemon> {
    const text = "inside: { interface: in0, vxlan: {} }\noutside: { interface: out0 }\ndatapath: xdp\n";
    const { config } = checkConfig(Buffer.from(`${text}${enforced ? "allowlist:\n" : ""}`), "x");
    assert.ok(config !== null);
    const { native, gateways } = simulate();
    const runtime = new Runtime(new Applier(native, () => undefined), new EventLog(() => undefined), native);
    await runtime.start(planOf(config, enforced ? nothingAllowed : null));
    const daemon = new Daemon(runtime, gateways[0] ?? assert.fail());
    const { loader } = daemon;
    daemon.served = {
      runtime,
      loader,
      metrics: makeMetrics(runtime, "1.2.3"),
      imports: new Imports(),
      saver: new Saver(join(daemon.directory, "vxpipe.yaml"), loader),
      reload: () => Promise.reject(new Error("nobody asked for it")),
      version: "1.2.3",
    };
    daemon.server = await listenSocket(daemon.socket, daemon.served);
    t.after(() => daemon.end());
    return daemon;
  }

  drop(reason: string, frame: Uint8Array = tunnelled, form: number = vxSampleForm.received): void {
    const drop = drops.findIndex(({ name }) => name === reason);
    this.gateway.count(0, vxCounters.offset.received, 1);
    this.gateway.count(0, vxCounters.offset.dropped + drop * 8, 1);
    this.gateway.samples.push(sampleOf({ drop, form, frame, timeNs: process.hrtime.bigint() }));
  }

  async end(): Promise<void> {
    await this.server.close();
    await this.loader.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
