// What happened, under stable names: kept for /api/v1/events and handed to the log. Called by everything in the control
// plane, on the main thread.

export type Level = "debug" | "info" | "warn" | "error";

export interface Event {
  /** RFC 3339. */
  time: string;
  level: Level;
  event: string;
  detail: string;
}

const kept = 1000;

export class EventLog {
  private readonly recent: Event[] = [];

  constructor(private readonly sink: (level: Level, event: string, detail: string, fields: object) => void) {}

  emit(level: Level, event: string, detail: string, fields: object = {}): void {
    this.sink(level, event, detail, fields);
    if (level === "debug") return;
    this.recent.push({ time: new Date().toISOString(), level, event, detail });
    if (this.recent.length > kept) this.recent.shift();
  }

  /** Oldest first. */
  list(): readonly Event[] {
    return this.recent;
  }
}
