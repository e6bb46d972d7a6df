// The running gateway as the control plane sees it: the plan in force, edits to it, its counters and its health. Made by
// lifecycle.ts; asked by the API and the telemetry; everything on the main thread.
import type { Gateway, NatHandoff, Snapshot } from "xdp-socket";
import { nothingKnown, type Evidence } from "../injector/datapath.js";
import type { Applier } from "./apply.js";
import { systemReason, VxpipeError } from "./errors.js";
import { isEventName, type EventLog } from "./events.js";
import { bringUp, judgeFirst } from "./bring-up.js";
import { InterfaceWatch } from "./interface-watch.js";
import { NatControl } from "./nat-control.js";
import type { Native } from "./native.js";
import { readCounters, slotsBytes, type Reading } from "./observe.js";
import { after, choiceOf, describe, plan, undo, type Action, type Plan } from "./plan.js";
import { UnsavedEdits } from "./unsaved-edits.js";
import { statisticsOf, type Statistics, type Timed, type WorkerStats } from "./statistics.js";
import type { Pending } from "./write-file.js";
import { Watchdog, type Stall } from "./watchdog.js";
import { Watchers } from "./watchers.js";

/** changing: there is no packet path, until another has been made. */
export type Phase = "starting" | "running" | "changing" | "stopping" | "stopped";

const unreportedAdvice =
  "the kernel does not report the fate of every redirected packet: tracing programs are left out on this host. " +
  "Such packets are counted like the last one reported; see the counter unreported";

/** What a reload is about to do. */
export interface Coming {
  actions: readonly string[];
  /** Keys that only a restart brings into effect: they are left as before. */
  restart: readonly string[];
  /** Edits made at run time that go. */
  dropped: readonly string[];
}

export class Runtime {
  phase: Phase = "starting";
  private wanted: Plan | null = null;
  private before: Timed;
  private latest: Timed;
  private final: Reading | null = null;
  private readonly watchdog = new Watchdog();
  private turn: Promise<unknown> = Promise.resolve();
  /** Edits made at run time since the last load that are not in the files. */
  readonly unsaved = new UnsavedEdits();
  private settling = false;
  private settled: Promise<void> = Promise.resolve();
  private warned = false;
  private evidence: Evidence = nothingKnown;
  /** Redirected packets have shown whether they are taken. */
  private proven = false;
  /** Nothing is brought up any more while somebody stops. */
  rebuilt: Promise<void> = Promise.resolve();
  private defect: unknown = null;
  private readonly interfaces: InterfaceWatch;
  private rebuilding = false;
  readonly started = performance.now();
  readonly watchers: Watchers;
  private natControl: NatControl | null = null;

  constructor(
    readonly applier: Applier,
    readonly events: EventLog,
    private readonly native: Pick<Native, "interfaceName" | "interfaceFacts" | "lockFile">,
  ) {
    this.interfaces = new InterfaceWatch(native);
    const gateway = {
      running: () => this.phase === "running",
      vxlanPort: () => (this.plan.datapath.encapsulation === "vxlan" ? this.plan.datapath.vxlanPort : null),
      drainEvents: () => this.drainEvents(),
      drainSamples: (most: number) => this.applier.gateway.drainSamples(most),
      dropped: () => {
        const { inside, outside } = this.reading();
        return { inside: inside.dropped, outside: outside.dropped };
      },
    };
    this.watchers = new Watchers(gateway, events);
    this.before = this.latest = { reading: readCounters(new ArrayBuffer(slotsBytes)), time: this.started };
  }

  get plan(): Plan {
    if (this.wanted === null) throw new VxpipeError("DAEMON_STARTING", "the daemon is still starting");
    return this.wanted;
  }

  get nat(): NatControl {
    if (this.natControl === null) throw new VxpipeError("DAEMON_STARTING", "the daemon is still starting");
    return this.natControl;
  }

  /** Brings the first plan into effect. */
  async start(wanted: Plan): Promise<void> {
    const gateway = (): Gateway | null =>
      this.phase === "running" && this.applier.exists ? this.applier.gateway : null;
    this.natControl = new NatControl(wanted, gateway, this.events, this.native);
    await this.natControl.start();
    this.evidence = await bringUp(this.applier, wanted, nothingKnown);
    this.wanted = wanted;
    this.interfaces.begin(this.applier.watched);
    this.phase = "running";
    this.watchers.setLogLevel(wanted.logLevel);
    this.tellChoice();
    this.tick();
  }

  private tellChoice(): void {
    const choice = choiceOf(this.plan, this.evidence);
    this.applier.placement = { ...this.applier.placement, choice };
    const { configured, mode, best, why, insideAttach, outsideAttach } = choice;
    const fields = { mode, insideAttach, outsideAttach };
    const generic = [insideAttach, outsideAttach].includes("generic") ? ", by generic XDP" : "";
    if (!best) this.events.emit("datapath_degraded", `the datapath is ${mode}${generic}: ${why}`, fields);
    else if (configured === "auto") this.events.emit("datapath_chosen", `the datapath is ${mode}: ${why}`, fields);
  }

  /** An edit: takes its turn, and sees the plan that the one before it left. `what` it was is told by a reload that
   * drops it. `save` has what is to be saved ready before anything changes, so that the edit is saved too or not made;
   * returns the file. */
  change(
    edit: (plan: Plan) => Plan | Promise<Plan>,
    what: string,
    save: (() => Promise<Pending>) | null = null,
    { wholeList }: { wholeList: boolean } = { wholeList: false },
  ): Promise<string | null> {
    return this.inTurn(async () => {
      const old = this.plan;
      const wanted = await edit(old);
      const pending = (await save?.()) ?? null;
      try {
        await this.transition(old, wanted);
      } catch (error) {
        await pending?.abandon();
        throw error;
      }
      const note = (): void => this.unsaved.note(what, wanted.allowlist !== old.allowlist);
      if (pending !== null) await this.commit(pending, old, note);
      if (wholeList) this.unsaved.clearList();
      if (pending === null && wanted !== old) note();
      return pending?.path ?? null;
    });
  }

  /** The edit is in force by now: what cannot be saved is taken back. */
  private async commit(pending: Pending, old: Plan, inForce: () => void): Promise<void> {
    try {
      await pending.commit();
    } catch (error) {
      const reason = `${pending.path}: ${systemReason(error)}`;
      let outcome = "nothing was changed";
      try {
        await this.transition(this.plan, old);
      } catch {
        inForce();
        outcome = "the edit is in force, but not saved";
      }
      throw new VxpipeError("NOT_SAVED", `${reason}; ${outcome}`, { cause: error });
    }
  }

  /** A reload: takes its turn like an edit. `announce` is told beforehand what is coming; false: do none of it. */
  reload(wanted: Plan, announce: (coming: Coming) => boolean): Promise<void> {
    return this.inTurn(async () => {
      const old = this.plan;
      const actions = plan(old, wanted);
      const restart = actions.flatMap((action) => (action.do === "needsRestart" ? action.keys : []));
      if (!announce({ actions: describe(old, actions), restart, dropped: this.unsaved.list() })) return;
      await this.transition(old, wanted);
      this.unsaved.clear();
    });
  }

  private inTurn<Value>(work: () => Promise<Value>): Promise<Value> {
    const next = this.turn.then(() => {
      if (this.phase !== "running") throw new VxpipeError("DAEMON_STARTING", `the daemon is ${this.phase}`);
      return work();
    });
    this.turn = next.catch(() => undefined);
    return next;
  }

  /** All of it, or, when something fails, nothing: what has been done is taken back. */
  private async transition(old: Plan, wanted: Plan): Promise<void> {
    const actions = plan(old, wanted);
    const done: Action[] = [];
    try {
      for (const action of actions) {
        done.push(action);
        await this.applier.apply(action);
      }
    } catch (error) {
      await this.goBack(old, done);
      throw error;
    }
    // What needs a restart is not in force. A list may differ in what the kernel does not see, such as its organizations.
    this.wanted = { ...actions.reduce(after, old), allowlist: wanted.allowlist, rules: wanted.rules };
    this.watchers.setLogLevel(this.wanted.logLevel);
  }

  /** The last one done is the one that failed: a list is set whole or not at all, the others may be half done. */
  private async goBack(old: Plan, done: readonly Action[]): Promise<void> {
    const failed = done.at(-1);
    const whole = failed?.do === "setAllowlist" || failed?.do === "editAllowlist";
    const stays = whole ? done.slice(0, -1) : [...done];
    while (stays.length > 0) {
      const back = undo(old, stays.at(-1) as Action);
      try {
        if (back !== null) await this.applier.apply(back);
      } catch (error) {
        this.events.emit("rollback_failed", error instanceof Error ? error.message : String(error));
        break;
      }
      stays.pop();
    }
    this.wanted = stays.reduce(after, old);
    this.watchers.setLogLevel(this.wanted.logLevel);
  }

  reading(): Reading {
    // The memory goes when the gateway stops: the last reading stands until the final one.
    if (this.phase === "running") return readCounters(this.applier.gateway.counters);
    const { carried } = this.applier;
    return this.final ?? (carried === null ? this.latest.reading : readCounters(carried.buffer));
  }

  /** Once a second: takes the sample that rates are made of, and what the native threads have to tell. */
  tick(): Statistics {
    this.drainEvents();
    this.events.tick();
    this.settled = this.settle().catch((error: unknown) => this.events.emit("settle_failed", String(error)));
    this.before = this.latest;
    this.latest = { reading: this.reading(), time: performance.now() };
    if (this.phase === "running") {
      this.watch(this.latest.reading.turns);
      this.watchFirst(this.latest.reading);
      this.nat.tick(this.latest.reading);
    }
    this.watchInterfaces();
    if (this.defect !== null) throw this.defect;
    return this.statistics(this.latest, this.before);
  }

  private watchInterfaces(): void {
    if (this.rebuilding || (this.phase !== "running" && this.phase !== "changing")) return;
    for (const { side, name, now } of this.interfaces.look()) {
      const text = `the ${side} interface ${name} is called ${now} now; packets go on, but a start would look for ${name}`;
      this.events.emit("interface_renamed", text);
    }
    // Another interface may be of another driver.
    if (this.interfaces.due()) {
      this.proven = false;
      this.rebuilt = this.rebuild(nothingKnown);
    }
  }

  private watch(turns: readonly number[]): void {
    const pulses = this.applier.placement.workerCpus.map((cpu, id) => ({ id, cpu, turns: turns[id] ?? 0 }));
    for (const change of this.watchdog.look(pulses)) {
      const { id: worker, cpu, readings } = change;
      if (change.stalled) {
        const meanwhile = "what is handed to it waits, and what finds its ring full is dropped";
        this.events.emit("worker_stalled", `${stallText(change)}: ${meanwhile}`, { worker, cpu });
      } else {
        const text = `worker ${worker} on CPU ${cpu} goes on after some ${readings} s`;
        this.events.emit("worker_recovered", text, { worker, cpu });
      }
    }
  }

  /** A trial says what one frame met; the first packets say it of packets. */
  private watchFirst({ fastPath }: Reading): void {
    if (this.proven || this.applier.placement.choice.mode !== "xdp") return;
    const redirect = judgeFirst(fastPath);
    if (redirect === null) return;
    this.proven = true;
    if (redirect.able) return;
    const auto = this.plan.datapath.datapath === "auto";
    const next = auto ? "the datapath changes" : "with `datapath: auto` or `afxdp` a worker would send";
    this.events.emit("redirect_refused", `${redirect.why}; ${next}`);
    if (auto) this.rebuilt = this.rebuild({ ...this.evidence, redirect });
  }

  /** Another gateway in place of this one, which goes on with its counters. Edits wait meanwhile. */
  private rebuild(evidence: Evidence): Promise<void> {
    this.rebuilding = true;
    const next = this.turn.then(() => this.replace(evidence)).catch((error: unknown) => this.giveUp(error));
    this.turn = next.catch((error: unknown) => (this.defect = error));
    return this.turn.then(() => {
      this.rebuilding = false;
    });
  }

  private async replace(evidence: Evidence): Promise<void> {
    if (this.phase !== "running" && this.phase !== "changing") return;
    const back = this.interfaces.waits;
    this.phase = "changing";
    await this.settled;
    await this.leave();
    this.evidence = await bringUp(this.applier, this.plan, evidence);
    this.watchdog.forget();
    this.interfaces.begin(this.applier.watched);
    this.phase = "running";
    this.tellChoice();
    const { inside, outside } = this.plan.datapath;
    if (back) this.events.emit("interface_back", `forwarding from ${inside} to ${outside} again`);
  }

  /** Sessions end with the packet path, and what it knows of port blocks is told. */
  private async leave(): Promise<void> {
    await this.natControl?.pump();
    await this.applier.leave();
    await this.endNat();
  }

  /** After the packet path has ended. */
  async endNat(): Promise<void> {
    const { records } = this.applier;
    this.applier.records = null;
    await this.natControl?.ended(records);
  }

  /** A missing interface explains the failure, and watchInterfaces() tries again; without one it is a defect. */
  private async giveUp(error: unknown): Promise<void> {
    await this.leave();
    if (this.interfaces.missing().length === 0) throw error;
    const message = error instanceof Error ? error.message : String(error);
    const reason = error instanceof VxpipeError ? `${message} (${error.hint.replace(/\.$/, "")})` : message;
    if (this.interfaces.failed(reason)) this.events.emit("recovery_failed", `${reason}; it is tried again`);
  }

  /** Numbers of the workers that make no progress. */
  stalledWorkers(): number[] {
    return this.watchdog.stalled().map(({ id }) => id);
  }

  /** Not waited for: it visits every CPU that owes reports, and one may be busy. */
  private async settle(): Promise<void> {
    if (this.phase !== "running" || this.settling) return;
    this.settling = true;
    try {
      await this.applier.gateway.settle();
    } finally {
      this.settling = false;
    }
    this.warnOfUnreported(this.reading());
  }

  private warnOfUnreported({ inside }: Reading): void {
    if (inside.counts.unreported === 0 || this.warned) return;
    this.warned = true;
    this.events.emit("fates_unreported", unreportedAdvice);
  }

  /** Counters of now, rates of the last full second. */
  stats(): Statistics {
    const now = { reading: this.reading(), time: performance.now() };
    const { rates, workers } = this.statistics(this.latest, this.before);
    const current = this.statistics(now, now);
    const key = ({ role, id, cpu }: WorkerStats): string => `${role} ${id ?? cpu}`;
    const pps = new Map(workers.map((worker) => [key(worker), worker.pps]));
    for (const worker of current.workers) worker.pps = pps.get(key(worker)) ?? 0;
    const nat = current.nat === null ? null : { ...current.nat, handoffs: this.handoffs() };
    return { ...current, nat, rates };
  }

  private handoffs(): NatHandoff[] {
    return this.phase === "running" && this.applier.exists ? this.applier.gateway.natHandoffs() : [];
  }

  /** The whole run: rates are averages. */
  finish(counters: Uint8Array): Statistics {
    this.final = readCounters(counters.buffer);
    this.warnOfUnreported(this.final);
    const zero = { reading: readCounters(new ArrayBuffer(slotsBytes)), time: this.started };
    return this.statistics({ reading: this.final, time: performance.now() }, zero);
  }

  private statistics(now: Timed, before: Timed): Statistics {
    return statisticsOf(now, before, this.started, this.applier.placement);
  }

  snapshot(): Snapshot | null {
    return this.phase === "running" && this.applier.exists ? this.applier.gateway.snapshot() : null;
  }

  /** What keeps packets from flowing; empty: nothing. */
  missing(): string[] {
    const awaited = this.interfaces.missing();
    if (awaited.length > 0) return awaited;
    const snapshot = this.snapshot();
    if (snapshot === null) return [`the daemon is ${this.phase}`];
    const { inside, outside } = this.plan.datapath;
    const missing: string[] = [];
    if (!snapshot.attached) missing.push("the XDP programs are not attached");
    if (!snapshot.workersAlive) missing.push("the workers are not running");
    missing.push(...this.watchdog.stalled().map(stallText));
    if (!snapshot.insideCarrier) missing.push(`the inside interface ${inside} has no carrier`);
    if (!snapshot.outsideCarrier) missing.push(`the outside interface ${outside} has no carrier`);
    return missing;
  }

  private drainEvents(): void {
    if (this.phase !== "running") return;
    for (const { event, detail, suppressed } of this.applier.gateway.drainEvents()) {
      if (!isEventName(event))
        this.events.emit("internal_error", `an event without a name of ours: ${event} ${detail}`);
      else if (suppressed > 0) this.events.suppressed(event, suppressed);
      else this.events.emit(event, detail);
    }
  }
}

/** Readings are a second apart. */
function stallText({ id, cpu, readings }: Stall): string {
  return `worker ${id} on CPU ${cpu} has made no progress for ${readings} s`;
}
