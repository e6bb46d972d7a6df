// What happened, under stable names: kept for /api/v1/events, handed to the log and to those who follow. Called by
// everything in the control plane, on the main thread. docs/EVENTS.md has the same list; a unit test compares.
import { RateLimiter } from "./rate-limit.js";

export type Level = "debug" | "info" | "warn" | "error";

/** Every event there is: its level, and when it happens. */
export const eventKinds = {
  allowlist_warning: ["warn", "An allowlist was loaded and has something questionable in it."],
  config_warning: ["warn", "The configuration is valid, and has something in it that is probably not meant."],
  datapath_chosen: ["info", "`datapath: auto` took the best datapath; by what it knows that."],
  datapath_degraded: ["warn", "The datapath, or how it is attached, is less than the best; why."],
  drop_sample: ["debug", "A packet was dropped: why, its headers and first bytes. Only while somebody watches."],
  drops_suppressed: ["debug", "So many more were dropped for a reason than were shown."],
  fates_unreported: ["warn", "The kernel does not report what became of every redirected packet; said once."],
  http_available: ["info", "`control.listen` could be had after all, and answers."],
  http_unavailable: ["warn", "`control.listen` cannot be had; why. Packets flow, and it is tried again."],
  injection_unavailable: ["warn", "The worker cannot send many packets a system call, and sends them one by one."],
  interface_back: ["info", "An interface that was gone is back; packets flow again."],
  interface_renamed: ["warn", "An interface has another name now; packets go on, but the next start would miss it."],
  internal_error: ["error", "A defect: something failed that should not."],
  ledger_unbalanced: ["error", "A defect: packets are unaccounted for after everything has ended."],
  lines_missed: ["warn", "The reader of a stream, or of the log, is too slow, and so many lines were left out."],
  link_changed: ["warn", "An interface went up or down, or changed its MTU or MAC."],
  nat_export_failed: ["warn", "A collector of NAT records cannot be reached; why. Packets and other records go on."],
  nat_export_resumed: ["info", "The collector is sent records again."],
  nat_pool_exhausted: [
    "error",
    "Subscribers find no free port block: new sessions are dropped as `no_block`; how many.",
  ],
  nat_records_failed: ["error", "`nat.source.records.file` cannot be written; records wait in memory."],
  nat_records_lag: [
    "error",
    "No port blocks are granted, or sessions created, because earlier records are not on the disk.",
  ],
  nat_records_resumed: ["info", "The records' file is written again; nothing is missing in it."],
  nat_records_unwritten: [
    "error",
    "The daemon ends, and these records are in no file: in the log alone, at most 100 a line, in `records`.",
  ],
  nat_sessions_full: ["error", "`nat.source.maxSessions` is reached: new sessions are dropped; how many."],
  nat_subscriber_limited: ["warn", "Subscribers are at their limits: what was dropped for which of them."],
  neighbour_failed: ["warn", "A next hop does not answer ARP or neighbour discovery."],
  neighbour_resolved: ["info", "A next hop answered."],
  policy_routing: ["warn", "The host has ip rules; only the tables main and local are followed."],
  previous_run_unclean: ["warn", "The run before this one was killed; how many packets it lost, if that is known."],
  privileges_dropped: ["info", "Capabilities that are not needed any more were given up; which were kept."],
  privileges_kept: ["error", "Capabilities could not be given up once packets flowed; packets are not affected."],
  ready: ["info", "Packets flow."],
  recovery_failed: ["error", "An interface is back, but the packet path could not be made anew; it is tried again."],
  redirect_refused: ["warn", "The outside interface took none of the first redirected packets."],
  reload_dropped_edits: ["warn", "Edits made at run time that a reload undid."],
  reload_failed: ["error", "The new configuration is wrong; the old one stays in force."],
  reload_plan: ["info", "What a reload is about to do; nothing has been done yet."],
  reloaded: ["info", "The configuration was read again and is in force."],
  restart_needed: ["warn", "Changes of the configuration that take effect when the daemon starts again."],
  rollback_failed: ["error", "Part of a change failed, and what was done of it could not be taken back."],
  route_changed: ["debug", "A route was added, changed or removed."],
  route_table_full: ["error", "More routes than there is room for."],
  settle_failed: ["error", "Redirected packets that nobody reported could not be counted."],
  state_unwritable: ["error", "The note of this run could not be written; packets are not affected."],
  stopped: ["info", "Detached; nothing is left in the kernel."],
  stopping: ["info", "Draining and detaching."],
  supervisor_unreachable: ["warn", "A message to the service manager (sd_notify) could not be sent."],
  took_over: ["warn", "The program that a killed daemon left running was replaced."],
  worker_cpu_busy: [
    "warn",
    "A worker shares its CPU with interrupts of the interfaces or with another one, has it for a part of the time only, or leaves none to others.",
  ],
  worker_recovered: ["warn", "A worker that stood still goes on."],
  worker_stalled: ["error", "A worker makes no progress; its CPU, and what becomes of its packets."],
} as const satisfies Record<string, readonly [Level, string]>;

export type EventName = keyof typeof eventKinds;

export function isEventName(name: string): name is EventName {
  return Object.hasOwn(eventKinds, name);
}

export interface Event {
  /** RFC 3339. */
  time: string;
  level: Level;
  event: string;
  detail: string;
  /** What else there is to know, under names of the event's own. */
  [field: string]: unknown;
}

export function makeEvent(event: EventName, time: string, detail: string, fields: object): Event {
  return { time, level: eventKinds[event][0], event, detail, ...fields };
}

export type Follower = (event: Event) => void;

const kept = 1000;
/** Of a kind, in the log as everywhere else: a flapping neighbour must not push out all other news. */
const most = 20;
const windowMs = 10_000;

export class EventLog {
  private readonly recent: Event[] = [];
  private readonly followers = new Set<Follower>();
  private readonly limiter = new RateLimiter(most, windowMs);

  constructor(
    private readonly log: (level: Level, event: string, detail: string, fields: object) => void,
    private readonly now: () => number = Date.now,
  ) {}

  emit(event: EventName, detail: string, fields: object = {}): void {
    if (this.limiter.allow(event, this.now())) this.tell(event, detail, fields);
  }

  /** That more of an event happened than came here. */
  suppressed(event: EventName, count: number): void {
    this.limiter.suppress(event, count, this.now());
  }

  /** Once a second: says how many of an event were suppressed. */
  tick(): void {
    for (const [event, suppressed] of this.limiter.takeSuppressed(this.now())) {
      this.tell(event as EventName, `${suppressed} more of ${event} within ${windowMs / 1000} s`, { suppressed });
    }
  }

  /** Oldest first. */
  list(): readonly Event[] {
    return this.recent;
  }

  /** Every event from now on, until the function returned is called. */
  follow(follower: Follower): () => void {
    this.followers.add(follower);
    return () => this.followers.delete(follower);
  }

  /** To the log alone: for what is not the same to everybody. */
  writeLog({ level, event, detail, time, ...fields }: Event): void {
    this.log(level, event, detail, { at: time, ...fields });
  }

  private tell(name: EventName, detail: string, fields: object): void {
    const event = makeEvent(name, new Date(this.now()).toISOString(), detail, fields);
    const { level } = event;
    this.log(level, name, detail, fields);
    for (const follower of this.followers) follower(event);
    if (level === "debug") return;
    this.recent.push(event);
    if (this.recent.length > kept) this.recent.shift();
  }
}
