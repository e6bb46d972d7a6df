// Sees a worker that makes no progress: its loop turns at least once a second, packets or not, and counts its turns. Asked
// by runtime.ts with each second's reading, on the main thread. Pure.
//
// Time is counted in readings, not in seconds: when the whole process stood still (a debugger, a suspended machine, a starved
// host), no worker is to blame, and the next reading finds all of them at work.

/** A worker as the latest reading shows it. */
export interface Pulse {
  id: number;
  cpu: number;
  /** Turns of its loop so far. */
  turns: number;
}

export interface Stall {
  id: number;
  cpu: number;
  /** Readings without progress. */
  readings: number;
}

export interface Change extends Stall {
  stalled: boolean;
}

const readingsMax = 5;

export class Watchdog {
  private readonly still = new Map<number, Stall & { turns: number }>();

  /** What has changed since the reading before. */
  look(pulses: readonly Pulse[]): Change[] {
    return pulses.flatMap(({ id, cpu, turns }): Change[] => {
      const before = this.still.get(id);
      if (before === undefined || before.turns !== turns) {
        this.still.set(id, { id, cpu, turns, readings: 0 });
        return before !== undefined && before.readings >= readingsMax ? [{ ...before, stalled: false }] : [];
      }
      before.readings++;
      return before.readings === readingsMax ? [{ ...before, stalled: true }] : [];
    });
  }

  /** Other workers from now on. */
  forget(): void {
    this.still.clear();
  }

  stalled(): Stall[] {
    return [...this.still.values()].filter(({ readings }) => readings >= readingsMax);
  }
}
