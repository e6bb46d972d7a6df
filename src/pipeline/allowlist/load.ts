// Loads allowlists: reads the file or takes the text, has it compiled by a Piscina task. Called at start, at reload, by
// imports and by `config check`; main thread.
import type { CompiledAllowlist } from "xdp-socket";
import { systemReason, VxpipeError } from "../errors.js";
import { readBounded } from "../read-file.js";
import type { CompileTask, DifferenceTask, RewriteTask } from "../tasks/allowlist.js";
import { TaskThread } from "../tasks/thread.js";
import type { Compiled, CompileResult } from "./compile.js";
import type { ListEdit } from "./rewrite.js";

/** What one import or file may have: some 16 million IPv4 addresses. */
export const allowlistBytesMax = 256 * 1024 * 1024;

export interface LoadOptions {
  skipInvalid?: boolean;
  /** Told now and then how many bytes have been read. */
  progress?: (bytes: number) => void;
}

const progressMs = 100;

export class AllowlistLoader {
  readonly thread = new TaskThread();

  async fromFile(path: string): Promise<Compiled> {
    let bytes: Buffer;
    try {
      bytes = await readBounded(path, allowlistBytesMax);
    } catch (error) {
      throw new VxpipeError("ALLOWLIST_UNREADABLE", `${path}: ${systemReason(error)}`, { cause: error });
    }
    if (bytes.length > allowlistBytesMax) throw tooLarge(path);
    return this.fromText(bytes, path);
  }

  /** `bytes` is handed over to the task and empty afterwards. */
  async fromText(bytes: Uint8Array, file: string, options: LoadOptions = {}): Promise<Compiled> {
    const own = owned(bytes);
    const progress = new Int32Array(new SharedArrayBuffer(4));
    const task: CompileTask = { bytes: own, file, skipInvalid: options.skipInvalid === true, progress };
    const timer = setInterval(() => options.progress?.(Atomics.load(progress, 0)), progressMs);
    let result: CompileResult;
    try {
      result = await this.thread.run("allowlist", "compile", task, [own.buffer as ArrayBuffer]);
    } finally {
      clearInterval(timer);
    }
    if (result.ok) return result.value;
    const { count, problems } = result;
    throw new VxpipeError("ALLOWLIST_INVALID", `${file}: ${count} ${count === 1 ? "entry is" : "entries are"} wrong`, {
      problems,
    });
  }

  /** How many entries the one has that the other has not. */
  async difference(from: CompiledAllowlist, to: CompiledAllowlist): Promise<{ added: number; removed: number }> {
    const task: DifferenceTask = { from, to };
    return this.thread.run("allowlist", "difference", task);
  }

  /** A list's text with an edit made; null: it is the same. `bytes` is handed over. */
  async rewrite(bytes: Uint8Array, edit: ListEdit): Promise<Uint8Array | null> {
    const task: RewriteTask = { bytes: owned(bytes), edit };
    return this.thread.run("allowlist", "rewrite", task, [task.bytes.buffer as ArrayBuffer]);
  }

  close(): Promise<void> {
    return this.thread.close();
  }
}

/** A pooled Buffer shares its memory with others, which would lose it too when it is handed over. */
function owned(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);
}

export function tooLarge(path: string): VxpipeError {
  return new VxpipeError("ALLOWLIST_UNREADABLE", `${path}: is larger than ${allowlistBytesMax / 1024 / 1024} MiB`);
}
