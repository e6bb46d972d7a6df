// The thread beside the main one, for what would keep that from answering: large lists, configurations of thousands of rules.
// There while it has work, and a second longer. Owned by allowlist/load.ts; asked by it, by save.ts and by lifecycle.ts.
import { Piscina } from "piscina";

/** A file of tasks, which is beside this one. */
type TaskFile = "allowlist" | "config";

export class TaskThread {
  private pool: Piscina | null = null;

  /** `name`: of the task. `transferList`: what is handed over, and empty afterwards. */
  async run<Answer>(file: TaskFile, name: string, task: object, transferList: ArrayBuffer[] = []): Promise<Answer> {
    this.pool ??= new Piscina({ minThreads: 0, maxThreads: 1, idleTimeout: 1000 });
    const filename = new URL(`./${file}.js`, import.meta.url).href;
    return (await this.pool.run(task, { filename, name, transferList })) as Answer;
  }

  async close(): Promise<void> {
    await this.pool?.destroy();
    this.pool = null;
  }
}
