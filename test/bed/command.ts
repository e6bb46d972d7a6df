// Processes of the test bed: run one to its end, or keep one in the background and talk to it by lines.
// Called by the rest of test/bed, the namespace tests, the bench and the demo, on Node's main thread.
import { type ChildProcessWithoutNullStreams, execFile, execFileSync, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** The repository, seen from dist/test/bed. */
export const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

export class CommandError extends Error {
  constructor(
    readonly command: string,
    readonly code: number | string | null,
    readonly stdout: string,
    readonly stderr: string,
  ) {
    super(`${command}: exit ${code}: ${stderr.trim() || stdout.trim()}`);
  }
}

export interface RunOptions {
  input?: string;
  timeoutMs?: number;
  env?: NodeJS.ProcessEnv;
}

/** Runs a command to its end; its standard output, or a CommandError. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      args,
      { timeout: options.timeoutMs ?? 60_000, maxBuffer: 64 << 20, killSignal: "SIGKILL", env: options.env },
      (error, stdout, stderr) => {
        if (error) {
          reject(new CommandError([command, ...args].join(" "), error.code ?? error.signal ?? null, stdout, stderr));
        } else {
          resolve(stdout);
        }
      },
    );
    // A child that reads none of it may close the pipe first; its exit code says what matters.
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(options.input ?? "");
  });
}

/** For clean-up on the way out of the process, when nothing asynchronous runs any more. Failure is silence. */
export function trySync(command: string, args: readonly string[]): string {
  try {
    return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"], timeout: 20_000 });
  } catch {
    return "";
  }
}

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** A process in the background whose standard output is read line by line. */
export class Background {
  readonly exited: Promise<Exit>;
  exit: Exit | null = null;
  stderr = "";
  readonly lines: string[] = [];
  #child: ChildProcessWithoutNullStreams;
  #taken = 0;
  #wake: (() => void)[] = [];

  constructor(
    readonly command: string,
    args: readonly string[],
    env?: NodeJS.ProcessEnv,
  ) {
    this.#child = spawn(command, args, { stdio: "pipe", env });
    this.#child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    this.#child.stdin.on("error", () => undefined);
    const reader = createInterface({ input: this.#child.stdout });
    reader.on("line", (line) => {
      this.lines.push(line);
      this.#notify();
    });
    const read = new Promise<void>((resolve) => reader.once("close", resolve));
    this.exited = new Promise((resolve, reject) => {
      this.#child.once("error", reject);
      this.#child.once("close", (code, signal) => {
        void read.then(() => {
          this.exit = { code, signal };
          this.#notify();
          resolve(this.exit);
        });
      });
    });
    this.exited.catch(() => undefined);
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  #notify(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  /** The next line of standard output that nobody has taken yet. */
  async nextLine(timeoutMs = 10_000): Promise<string> {
    const deadline = Date.now() + timeoutMs;
    while (this.#taken >= this.lines.length) {
      if (this.exit !== null) throw new Error(`${this.command} ended (${this.exit.code}): ${this.stderr.trim()}`);
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`${this.command} printed nothing for ${timeoutMs} ms: ${this.stderr.trim()}`);
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#wake.push(resolve);
        timer = setTimeout(resolve, left);
      });
      clearTimeout(timer);
    }
    return this.lines[this.#taken++] ?? "";
  }

  send(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  closeInput(): void {
    this.#child.stdin.end();
  }

  kill(signal: NodeJS.Signals): void {
    if (this.exit === null) this.#child.kill(signal);
  }

  /** Sends a signal and waits for the end; SIGKILL when that takes too long. */
  async stop(signal: NodeJS.Signals = "SIGTERM", timeoutMs = 15_000): Promise<Exit> {
    this.kill(signal);
    const timer = setTimeout(() => this.kill("SIGKILL"), timeoutMs);
    try {
      return await this.exited;
    } finally {
      clearTimeout(timer);
    }
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Repeats a check until it holds; `what` names it when it never does. */
export async function until<T>(what: string, check: () => Promise<T | null>, timeoutMs = 10_000): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const result = await check();
    if (result !== null) return result;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await sleep(20);
  }
}
