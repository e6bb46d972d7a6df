// `vxpipe run`: the daemon in the foreground. Wires the pipeline to the process: signals, listeners, log, the live line and
// the final statistics. Main thread; packets never come here.
import { Imports } from "../../api/import-progress.js";
import { listenSocket, Port } from "../../api/server.js";
import { EventLog } from "../../pipeline/events.js";
import { exit, VxpipeError } from "../../pipeline/errors.js";
import { Saver } from "../../pipeline/save.js";
import { Lifecycle } from "../../pipeline/lifecycle.js";
import { loadNative } from "../../pipeline/native.js";
import type { Runtime } from "../../pipeline/runtime.js";
import { LiveLine, liveText } from "../../telemetry/live-line.js";
import { makeLog } from "../../telemetry/log.js";
import { makeMetrics } from "../../telemetry/metrics.js";
import { statisticsText } from "../../telemetry/report.js";
import { print, type Format } from "../output.js";
import { Supervisor } from "../supervisor.js";
import { version } from "../version.js";

const tickMs = 1000;

export async function run(file: string, format: Format): Promise<number> {
  // A reader that goes away must not take the gateway with it.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
  process.title = "vxpipe";
  const signals = new Signals();
  const line = new LiveLine(process.stderr);
  const log = makeLog("info", { write: (text) => line.write(text) });
  const events = new EventLog((level, event, detail, fields) => log.write(level, event, detail, fields));
  const life = await Lifecycle.start({
    file,
    events,
    setLogLevel: (level) => log.setLevel(level),
    open: async (runtime, plan, loader, reloadNow) => {
      const metrics = makeMetrics(runtime, version());
      const saver = new Saver(file, loader);
      const served = { runtime, loader, imports: new Imports(), saver, reload: reloadNow, metrics, version: version() };
      const socket = await listenSocket(plan.control.socket, served);
      return [socket, await Port.open(plan.control.listen, served)];
    },
  });
  const supervisor = new Supervisor(await loadNative(), events);
  supervisor.ready();
  signals.onReload(() => void reload(life, supervisor));
  let next = performance.now() + tickMs;
  while (!(await signals.stopWithin(next - performance.now()))) {
    try {
      const statistics = life.runtime.tick();
      tellMissed(line, events);
      if (!format.json) line.show(liveText(statistics, new Date()));
      supervisor.alive(life.runtime.stalledWorkers().length === 0, statusOf(life.runtime));
    } catch (error) {
      signals.fail(error);
    }
    // A late tick is not made up for; the next one is a second from the planned time.
    next = Math.max(next + tickMs, performance.now());
  }
  line.end();
  supervisor.stopping();
  if (signals.defect !== null) events.emit("internal_error", String(signals.defect));
  const { statistics, faults } = await life.stop();
  tellMissed(line, events);
  print(format, statistics, () => statisticsText(statistics));
  if (signals.defect !== null) throw signals.defect;
  if (faults.length > 0) throw new VxpipeError("LEDGER_UNBALANCED", faults.join("; "));
  return exit.ok;
}

function tellMissed(line: LiveLine, events: EventLog): void {
  const missed = line.takeMissed();
  if (missed > 0)
    events.emit("lines_missed", `whoever reads this is too slow: ${missed} lines were left out`, { missed });
}

async function reload(life: Lifecycle, supervisor: Supervisor): Promise<void> {
  supervisor.reloading();
  // What went wrong has been logged.
  await life.reload(false).catch(() => undefined);
  supervisor.ready();
}

function statusOf(runtime: Runtime): string {
  const missing = runtime.missing();
  const { inside, outside } = runtime.plan.datapath;
  return missing.length === 0 ? `forwarding from ${inside} to ${outside}` : `not ready: ${missing.join("; ")}`;
}

/** SIGTERM and SIGINT end the run, once: a second one must not cut the draining short, which takes seconds at most and
 * leaves nothing behind. SIGHUP reloads; during the start, as soon as that is over. */
class Signals {
  /** An error that nothing caught: the gateway still detaches before the process ends. */
  defect: Error | null = null;
  private stopped = false;
  private wake: () => void = () => undefined;
  private reloadWanted = false;
  private reload: () => void = () => (this.reloadWanted = true);

  constructor() {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.on(signal, () => {
        this.stopped = true;
        this.wake();
      });
    }
    process.on("uncaughtException", (error) => this.fail(error));
    process.on("SIGHUP", () => this.reload());
  }

  fail(error: unknown): void {
    this.defect ??= error instanceof Error ? error : new Error(String(error));
    this.stopped = true;
    this.wake();
  }

  onReload(action: () => void): void {
    this.reload = action;
    if (this.reloadWanted) action();
  }

  /** Waits; true: it is time to stop. */
  stopWithin(milliseconds: number): Promise<boolean> {
    if (this.stopped) return Promise.resolve(true);
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), Math.max(milliseconds, 0));
      this.wake = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
  }
}
