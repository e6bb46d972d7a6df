// `vxpipe replay`: a capture through the packet path, without root, daemon or interfaces. What is deterministic stays so:
// the packets' times are the only clock. Main thread; packets stay in the addon, on a thread of libuv's pool.
import { chooseDatapath, nothingKnown } from "../../injector/datapath.js";
import { existsSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { AllowlistLoader } from "../../pipeline/allowlist/load.js";
import { systemReason, VxpipeError } from "../../pipeline/errors.js";
import { loadPlan } from "../../pipeline/load-config.js";
import { fromNative, loadNative } from "../../pipeline/native.js";
import { ledgerFaults, readCounters, slotsBytes } from "../../pipeline/observe.js";
import type { Plan } from "../../pipeline/plan.js";
import { compileRules } from "../../pipeline/rules.js";
import { statisticsOf, type Statistics } from "../../pipeline/statistics.js";
import { table } from "../../telemetry/units.js";
import { note, print, type Format } from "../output.js";

/** What ends a command that does not listen; the addon's thread does not get to clean up then. */
const ENDING = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export interface ReplayOptions {
  config: string;
  in: string;
  out: string;
  stats?: string;
  return?: string;
  returnOut?: string;
}

/** The body of `stats -o json`; nothing is attached and no threads work, and rates are those of the capture's time. */
type ReplayStatistics = Omit<Statistics, "datapath"> & {
  datapath: { mode: "replay"; attach: null; zeroCopy: false };
};

export async function replay(options: ReplayOptions, format: Format): Promise<void> {
  if (options.return !== undefined || options.returnOut !== undefined)
    throw new VxpipeError("USAGE", "--return and --return-out need source NAT, which this version does not have");
  if (options.stats === options.out) throw new VxpipeError("USAGE", "--out and --stats name the same file");
  const loader = new AllowlistLoader();
  const plan = await loadPlan(options.config, loader, (warning) => note(format, warning)).finally(() => loader.close());
  if (plan.datapath.sourceNat !== null)
    throw new VxpipeError(
      "USAGE",
      "replay does no source NAT in this version: take nat.source out of the configuration",
    );
  const { counters, seconds } = await runCapture(plan, options.in, options.out);
  if (counters.byteLength !== slotsBytes)
    throw new VxpipeError("ABI_MISMATCH", "the packet path and the control plane were built from different sources");
  const statistics = replayStatistics(counters, seconds);
  if (options.stats !== undefined) writeStatistics(options.stats, statistics);
  print(format, statistics, () => text(statistics));
  const faults = ledgerFaults(counters);
  if (faults.length > 0) throw new VxpipeError("LEDGER_UNBALANCED", faults.join("; "));
}

async function runCapture(
  plan: Plan,
  input: string,
  output: string,
): Promise<{ counters: ArrayBuffer; seconds: number }> {
  const { replay: run } = await loadNative();
  const { allowlist, rules, datapath } = plan;
  // Through links: what is replaced is the file, and what grows until then is beside it.
  const file = existsSync(output) ? realpathSync(output) : output;
  const temporary = `${file}.part-${process.pid}`;
  const abandon = (signal: NodeJS.Signals): void => {
    rmSync(temporary, { force: true });
    process.kill(process.pid, signal);
  };
  for (const signal of ENDING) process.once(signal, abandon);
  try {
    return await run(
      { ...datapath, allowlist: allowlist === null ? null : allowlist.compiled, rules: compileRules(rules) },
      input,
      file,
      temporary,
    );
  } catch (error) {
    throw fromNative(error);
  } finally {
    for (const signal of ENDING) process.off(signal, abandon);
  }
}

function replayStatistics(counters: ArrayBuffer, seconds: number): ReplayStatistics {
  const now = { reading: readCounters(counters), time: seconds * 1000 };
  // Packets of one moment have no rate.
  const start = seconds === 0 ? now : { reading: readCounters(new ArrayBuffer(slotsBytes)), time: 0 };
  const live = statisticsOf(now, start, 0, { choice: chooseDatapath("xdp", nothingKnown), workerCpus: [0] });
  return { ...live, datapath: { mode: "replay", attach: null, zeroCopy: false }, workers: [] };
}

function writeStatistics(file: string, statistics: ReplayStatistics): void {
  try {
    writeFileSync(file, `${JSON.stringify(statistics)}\n`);
  } catch (error) {
    throw new VxpipeError("OUTPUT_UNWRITABLE", `${file}: ${systemReason(error)}`, { cause: error });
  }
}

function text({ inside, fragmentsExtra, uptimeSeconds }: ReplayStatistics): string {
  const drops = Object.entries(inside.dropped).filter(([, count]) => count > 0);
  const rows: (readonly [string, number])[] = [
    ["received", inside.received],
    ["forwarded", inside.forwarded],
    ["passed", inside.passed],
    ...drops.map(([reason, count]) => [`dropped: ${reason}`, count] as const),
    ["translated", inside.translated],
    ["extra fragments", fragmentsExtra],
  ];
  return `${uptimeSeconds.toFixed(1)} s of packet time\n\n${table(["packets", "inside"], rows)}`;
}
