// The service manager that started this daemon, if one did, told by sd_notify(3): when packets can flow, what keeps them
// from it, reloads, the end, and once a second that the daemon is alive. Made by the run command; main thread.
import type { EventLog } from "../pipeline/events.js";
import type { Native } from "../pipeline/native.js";

export class Supervisor {
  private readonly address: string;
  private readonly watched: boolean;
  private status = "";

  constructor(
    private readonly native: Pick<Native, "notifySupervisor">,
    private readonly events: EventLog,
    environment: NodeJS.ProcessEnv = process.env,
  ) {
    this.address = environment["NOTIFY_SOCKET"] ?? "";
    const { WATCHDOG_USEC: interval, WATCHDOG_PID: pid = String(process.pid) } = environment;
    this.watched = interval !== undefined && pid === String(process.pid);
  }

  ready(): void {
    this.tell("READY=1");
  }

  /** ready() follows, whatever became of it: the old configuration stays in force when it failed. */
  reloading(): void {
    this.tell(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
  }

  stopping(): void {
    this.tell("STOPPING=1");
  }

  /** Every second. `working`: false lets the service manager's watchdog bark. */
  alive(working: boolean, status: string): void {
    const lines: string[] = [];
    if (this.watched && working) lines.push("WATCHDOG=1");
    if (status !== this.status) lines.push(`STATUS=${status}`);
    this.status = status;
    if (lines.length > 0) this.tell(lines.join("\n"));
  }

  private tell(text: string): void {
    if (this.address === "") return;
    try {
      this.native.notifySupervisor(this.address, text);
    } catch (error) {
      this.events.emit("supervisor_unreachable", error instanceof Error ? error.message : String(error));
    }
  }
}
