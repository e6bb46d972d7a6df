// `vxpipe replay`: captures through the packet path, without root, daemon or interfaces. What is deterministic stays so:
// the packets' times are the only clock. Main thread; packets stay in the addon, on a thread of libuv's pool.
import { chooseDatapath, nothingKnown } from "../../injector/datapath.js";
import { existsSync, realpathSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import type { Replayed, ReplayFiles, ReplayPlan } from "xdp-socket";
import type { DropReason } from "../../pipeline/abi.gen.js";
import { AllowlistLoader } from "../../pipeline/allowlist/load.js";
import { systemReason, VxpipeError } from "../../pipeline/errors.js";
import { loadPlan } from "../../pipeline/load-config.js";
import { fromNative, loadNative } from "../../pipeline/native.js";
import { ledgerFaults, readCounters, slotsBytes } from "../../pipeline/observe.js";
import type { Plan } from "../../pipeline/plan.js";
import { compileRules } from "../../pipeline/rules.js";
import { sourceNatAt } from "../../pipeline/source-nat.js";
import { statisticsOf, type DirectionStats, type Statistics } from "../../pipeline/statistics.js";
import { natText } from "../../telemetry/report.js";
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
  refuseOneFileTwice(options);
  const loader = new AllowlistLoader();
  const plan = await loadPlan(options.config, loader, (warning) => note(format, warning)).finally(() => loader.close());
  const nat = plan.datapath.sourceNat !== null;
  if (!nat && (options.return !== undefined || options.returnOut !== undefined))
    throw new VxpipeError("USAGE", "--return and --return-out need nat.source in the configuration");
  const { counters, seconds } = await runCaptures(plan, options);
  if (counters.byteLength !== slotsBytes)
    throw new VxpipeError("ABI_MISMATCH", "the packet path and the control plane were built from different sources");
  const statistics = replayStatistics(counters, seconds, nat);
  if (options.stats !== undefined) writeStatistics(options.stats, statistics);
  print(format, statistics, () => text(statistics));
  const faults = ledgerFaults(counters);
  if (faults.length > 0) throw new VxpipeError("LEDGER_UNBALANCED", faults.join("; "));
}

/** Before anything is written: what is read would be gone, and of two outputs one. */
function refuseOneFileTwice(options: ReplayOptions): void {
  const read = { "--config": options.config, "--in": options.in, "--return": options.return };
  const written = { "--out": options.out, "--return-out": options.returnOut, "--stats": options.stats };
  const taken = new Map<string, string>();
  for (const [name, file] of Object.entries({ ...read, ...written })) {
    // What is not there to be read is another error, of who reads it.
    const same = file === undefined || (name in read && !existsSync(file)) ? null : identityOf(file);
    if (same === null) continue;
    const other = taken.get(same);
    if (other !== undefined && name in written)
      throw new VxpipeError("USAGE", `${other} and ${name} name the same file`);
    taken.set(same, name);
  }
}

/** The same for every name of a file, one that is not there yet too; null: a device, where nothing is kept. */
function identityOf(file: string): string | null {
  try {
    const found = statSync(file, { bigint: true });
    return found.isCharacterDevice() ? null : `${found.dev}:${found.ino}`;
  } catch {
    // Or one that cannot be had, as who reads or writes it will say.
    const folder = dirname(file);
    return resolve(existsSync(folder) ? realpathSync(folder) : folder, basename(file));
  }
}

/** As the datapath takes it, on the host a replay plays (native/replay/replay.h). */
function replayPlan({ datapath, allowlist, rules }: Plan): ReplayPlan {
  const { sourceNat } = datapath;
  return {
    ...datapath,
    allowlist: allowlist === null ? null : allowlist.compiled,
    rules: compileRules(rules),
    sourceNat: sourceNat === null ? null : sourceNatAt(sourceNat, 1),
    decrementTtl: datapath.decrementTtl || sourceNat !== null,
  };
}

function filesOf(arriving = "", leaving = ""): ReplayFiles {
  // Through links: what is replaced is the file, and what grows until then is beside it.
  const file = leaving !== "" && existsSync(leaving) ? realpathSync(leaving) : leaving;
  return { arriving, leaving: file, temporary: `${file}.part-${process.pid}` };
}

async function runCaptures(plan: Plan, options: ReplayOptions): Promise<Replayed> {
  const { replay: run } = await loadNative();
  const inside = filesOf(options.in, options.returnOut);
  const outside = filesOf(options.return, options.out);
  const abandon = (signal: NodeJS.Signals): void => {
    for (const { temporary } of [inside, outside]) rmSync(temporary, { force: true });
    process.kill(process.pid, signal);
  };
  for (const signal of ENDING) process.once(signal, abandon);
  try {
    return await run(replayPlan(plan), inside, outside);
  } catch (error) {
    throw fromNative(error);
  } finally {
    for (const signal of ENDING) process.off(signal, abandon);
  }
}

function replayStatistics(counters: ArrayBuffer, seconds: number, sourceNat: boolean): ReplayStatistics {
  const now = { reading: readCounters(counters), time: seconds * 1000 };
  // Packets of one moment have no rate.
  const start = seconds === 0 ? now : { reading: readCounters(new ArrayBuffer(slotsBytes)), time: 0 };
  const choice = chooseDatapath("xdp", nothingKnown);
  const live = statisticsOf(now, start, 0, { choice, workerCpus: [0], sourceNat });
  return { ...live, datapath: { mode: "replay", attach: null, zeroCopy: false }, workers: [] };
}

function writeStatistics(file: string, statistics: ReplayStatistics): void {
  try {
    writeFileSync(file, `${JSON.stringify(statistics)}\n`);
  } catch (error) {
    throw new VxpipeError("OUTPUT_UNWRITABLE", `${file}: ${systemReason(error)}`, { cause: error });
  }
}

function text({ inside, outside, nat, uptimeSeconds }: ReplayStatistics): string {
  const sides = nat === null ? [inside] : [inside, outside];
  const reasons = (Object.keys(inside.dropped) as DropReason[]).filter((reason) =>
    sides.some(({ dropped }) => dropped[reason] > 0),
  );
  const rows: [string, (side: DirectionStats) => number][] = [
    ["received", ({ received }) => received],
    ["forwarded", ({ forwarded }) => forwarded],
    ["passed", ({ passed }) => passed],
    ...reasons.map((reason): [string, (side: DirectionStats) => number] => [
      `dropped: ${reason}`,
      ({ dropped }) => dropped[reason],
    ]),
    ["extra fragments", ({ fragmentsExtra }) => fragmentsExtra],
    nat === null ? ["translated", ({ translated }) => translated] : ["originated", ({ originated }) => originated],
  ];
  const packets = table(
    ["packets", "inside", "outside"].slice(0, 1 + sides.length),
    rows.map(([name, of]) => [name, ...sides.map(of)]),
  );
  const parts = [`${uptimeSeconds.toFixed(1)} s of packet time`, packets, ...(nat === null ? [] : [natText(nat)])];
  return parts.join("\n\n");
}
