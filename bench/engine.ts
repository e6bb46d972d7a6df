// The NAT engine alone (native/bench/vxengine): one core, no kernel, no traffic. Called by run.ts, before the rounds.
import { run } from "../test/bed/command.js";
import { tool } from "../test/bed/tools.js";

export interface EngineResult {
  /** Packets of live sessions, both directions, million a second. */
  hitMpps: number;
  outMpps: number;
  inMpps: number;
  /** Sessions created and expired. */
  createsPerSecond: number;
  bytesPerSession: number;
  sessions: number;
  /** Until an engine of ten million sessions is ready, its memory touched. */
  readySeconds: number;
}

export async function measureEngine(): Promise<EngineResult> {
  return JSON.parse(await run(tool("vxengine"), [])) as EngineResult;
}
