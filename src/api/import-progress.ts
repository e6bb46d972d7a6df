// How far imports are, for those who wait: the command line asks while its own import is under way. Kept by routes.ts,
// main thread.

export type ImportPhase = "receiving" | "reading" | "comparing" | "filling";

export interface ImportState {
  phase: ImportPhase;
  done: number;
  /** Bytes while receiving and reading, then entries. */
  total: number;
}

export class ImportProgress {
  state: ImportState = { phase: "receiving", done: 0, total: 0 };

  at(phase: ImportPhase, done: number, total = this.state.total): void {
    this.state = { phase, done, total };
  }
}

/** Imports under way, by the name that who asked for one has given it. */
export class Imports {
  private readonly running = new Map<string, ImportProgress>();

  start(id: string): ImportProgress {
    const progress = new ImportProgress();
    this.running.set(id, progress);
    return progress;
  }

  end(id: string): void {
    this.running.delete(id);
  }

  list(): ({ id: string } & ImportState)[] {
    return [...this.running].map(([id, { state }]) => ({ id, ...state }));
  }
}
