// A daemon's life: start, reload, stop, in the order that leaves nothing half done. Driven by the run command with the
// process's signals; main thread.
import { setTimeout } from "node:timers/promises";
import { AllowlistLoader } from "./allowlist/load.js";
import { Applier } from "./apply.js";
import { firstProblems, VxpipeError } from "./errors.js";
import type { EventLog } from "./events.js";
import { readLastRun, writeLastRun } from "./last-run.js";
import { checkBeside, loadPlan, type Warn } from "./load-config.js";
import { loadNative, type Native } from "./native.js";
import { ledgerFaults, slotsBytes } from "./observe.js";
import type { Plan } from "./plan.js";
import { preflight } from "./preflight.js";
import { dropPrivileges } from "./privileges.js";
import { Runtime, type Coming } from "./runtime.js";
import type { Statistics } from "./statistics.js";

const reloadPatienceMs = 2000;

interface Closable {
  close(): Promise<unknown>;
}

export type Reload = (dryRun: boolean) => Promise<Coming>;

export interface Surroundings {
  /** Of the configuration. */
  file: string;
  events: EventLog;
  setLogLevel(level: string): void;
  /** Opens the listeners; they answer from then on, before packets flow. */
  open(runtime: Runtime, plan: Plan, loader: AllowlistLoader, reload: Reload): Promise<Closable[]>;
}

export interface Ending {
  statistics: Statistics;
  /** Empty: the ledger balances. */
  faults: string[];
}

export class Lifecycle {
  private listeners: Closable[] = [];
  private readonly startedAt = new Date().toISOString();
  private reloading: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly around: Surroundings,
    readonly runtime: Runtime,
    private readonly native: Native,
    private readonly initial: Plan,
    private readonly loader: AllowlistLoader,
  ) {}

  static async start(around: Surroundings): Promise<Lifecycle> {
    const loader = new AllowlistLoader();
    const warn: Warn = (message, event) => around.events.emit(event, message);
    const plan = await loadPlan(around.file, loader, warn);
    around.setLogLevel(plan.logLevel);
    const native = await loadNative();
    preflight(plan, native);
    const runtime = new Runtime(new Applier(native, around.setLogLevel), around.events, native);
    const life = new Lifecycle(around, runtime, native, plan, loader);
    try {
      await life.bringUp();
    } catch (error) {
      await life.abandon();
      throw error;
    }
    return life;
  }

  private async bringUp(): Promise<void> {
    const { events } = this.around;
    const { inside, outside } = this.initial.datapath;
    const { stateDirectory } = this.initial;
    const last = readLastRun(stateDirectory, inside);
    this.listeners = await this.around.open(this.runtime, this.initial, this.loader, (dryRun) => this.reload(dryRun));
    await this.runtime.start(this.initial);
    const attached = this.runtime.applier.attached;
    const lost = attached?.crashLost?.reduce((sum, packets) => sum + packets) ?? null;
    const loss =
      lost === null
        ? "how many packets it lost in flight is unknown, as it left no counters that this build can read"
        : `it lost ${lost} packets in flight`;
    if (last !== null && last.endedAt === null) {
      const text = `the run of pid ${last.pid}, started ${last.startedAt}, did not end cleanly; ${loss}`;
      events.emit("previous_run_unclean", text, { pid: last.pid, lost });
    }
    if (attached?.tookOver === true) {
      events.emit("took_over", `the program a killed daemon left on ${inside} was replaced; ${loss}`, { lost });
    }
    const { placesWarning, poolWarning } = this.runtime.applier;
    if (placesWarning !== null) events.emit("worker_cpu_busy", placesWarning);
    if (poolWarning !== null) events.emit("config_warning", poolWarning);
    this.note(null, null);
    this.giveUp();
    const { choice, workerCpus: workers } = this.runtime.applier.placement;
    const fields = { inside, outside, datapath: choice.mode, workers };
    events.emit("ready", `forwarding from ${inside} to ${outside}`, fields);
  }

  /** What is open needs no permission any more. Packets are worth more than having failed at this. */
  private giveUp(): void {
    const { events } = this.around;
    try {
      const kept = dropPrivileges(this.native, this.runtime.applier.mounted);
      events.emit("privileges_dropped", `kept ${kept.join(", ")}`, { kept });
    } catch (error) {
      events.emit("privileges_kept", String(error));
    }
  }

  /** A start that failed leaves nothing behind. */
  private async abandon(): Promise<void> {
    this.runtime.phase = "stopped";
    await this.runtime.applier.stop(slotsBytes).catch(() => undefined);
    await this.close();
  }

  private async close(): Promise<void> {
    await Promise.all(this.listeners.map((listener) => listener.close()));
    await this.loader.close();
  }

  /** Reads the configuration again, after reloads that were asked for before. What is wrong with it is logged, and the old
   * one stays in force. Says what has been done, or with `dryRun` would be. */
  reload(dryRun: boolean): Promise<Coming> {
    const next = this.reloading.then(() => this.reloadOnce(dryRun));
    this.reloading = next.catch(() => undefined);
    return next;
  }

  private async reloadOnce(dryRun: boolean): Promise<Coming> {
    const { events, file } = this.around;
    // Also where the configuration is wrong: it is what logrotate waits for.
    if (!dryRun) await this.runtime.nat.reopen();
    let coming: Coming = { actions: [], restart: [], dropped: [] };
    try {
      const warn: Warn = (message, event) => events.emit(event, message);
      const wanted = await loadPlan(file, this.loader, warn, checkBeside(this.loader.thread));
      await this.runtime.reload(wanted, (plan) => {
        coming = plan;
        const detail = plan.actions.length === 0 ? "nothing changes" : plan.actions.join("; ");
        if (!dryRun) events.emit("reload_plan", detail, { actions: plan.actions });
        return !dryRun;
      });
    } catch (error) {
      if (!dryRun) this.tellFailure(error);
      throw error;
    }
    if (!dryRun) this.tellReload(coming);
    return coming;
  }

  private tellReload({ dropped, restart }: Coming): void {
    const { events, file } = this.around;
    if (dropped.length > 0) {
      const detail = `dropped edits made at run time: ${dropped.join("; ")}`;
      events.emit("reload_dropped_edits", detail, { edits: dropped });
    }
    if (restart.length > 0) {
      events.emit("restart_needed", `changes that need a restart: ${restart.join(", ")}`, { keys: restart });
    }
    events.emit("reloaded", `${file} is in force`);
  }

  private tellFailure(error: unknown): void {
    const problems = error instanceof VxpipeError ? firstProblems(error.problems) : [];
    const message = error instanceof Error ? error.message : String(error);
    this.around.events.emit("reload_failed", `${message}; the old configuration stays in force`, { problems });
  }

  /** Drains, detaches, settles the ledger. Whatever fails, the listeners close: open ones would keep the process. */
  async stop(): Promise<Ending> {
    const { events } = this.around;
    events.emit("stopping", "draining and detaching");
    try {
      const ending = await this.detach();
      this.note(new Date().toISOString(), ending.statistics);
      events.emit("stopped", "detached; nothing is left in the kernel");
      return ending;
    } finally {
      await this.close();
    }
  }

  private async detach(): Promise<Ending> {
    // A reload that hangs on a file must not keep packets flowing for ever; one that still comes finds us stopping.
    await Promise.race([this.reloading, setTimeout(reloadPatienceMs, undefined, { ref: false })]);
    await this.runtime.rebuilt;
    try {
      this.runtime.tick();
    } catch (error) {
      this.around.events.emit("internal_error", String(error));
    }
    await this.runtime.nat.pump();
    this.runtime.phase = "stopping";
    const final = await this.runtime.applier.stop(slotsBytes);
    this.runtime.phase = "stopped";
    await this.runtime.endNat();
    await this.runtime.nat.stop();
    const statistics = this.runtime.finish(final);
    const faults = ledgerFaults(final.buffer);
    for (const fault of faults) this.around.events.emit("ledger_unbalanced", fault);
    return { statistics, faults };
  }

  /** For the next start. A full disk stops neither packets nor the final statistics for those who wait for them. */
  private note(endedAt: string | null, statistics: Statistics | null): void {
    const { stateDirectory, datapath } = this.initial;
    try {
      const run = { pid: process.pid, startedAt: this.startedAt, endedAt, statistics };
      writeLastRun(stateDirectory, datapath.inside, run);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const text = `${reason}; packets are not affected, but the next start cannot tell how this run ended`;
      this.around.events.emit("state_unwritable", text);
    }
  }
}
