// Loads allowlists: reads the file or takes the text, has it compiled by a Piscina task. Called at start, at reload, by
// imports and by `config check`; main thread.
import { Piscina } from "piscina";
import { systemReason, VxpipeError } from "../errors.js";
import { readBounded } from "../read-file.js";
import type { CompileTask } from "../tasks/compile-allowlist.js";
import type { Compiled, CompileResult } from "./compile.js";

/** What one import or file may have: some 60 million IPv4 addresses. */
export const allowlistBytesMax = 1024 * 1024 * 1024;

export class AllowlistLoader {
  private pool: Piscina<CompileTask, CompileResult> | null = null;

  async fromFile(path: string): Promise<Compiled> {
    let bytes: Buffer;
    try {
      bytes = await readBounded(path, allowlistBytesMax);
    } catch (error) {
      throw new VxpipeError("ALLOWLIST_UNREADABLE", `${path}: ${systemReason(error)}`, { cause: error });
    }
    if (bytes.length > allowlistBytesMax)
      throw new VxpipeError("ALLOWLIST_UNREADABLE", `${path}: is larger than 1 GiB`);
    return this.fromText(bytes, path);
  }

  /** `bytes` is handed over to the task and empty afterwards. */
  async fromText(bytes: Uint8Array, file: string): Promise<Compiled> {
    this.pool ??= new Piscina<CompileTask, CompileResult>({
      filename: new URL("../tasks/compile-allowlist.js", import.meta.url).href,
      minThreads: 0,
      maxThreads: 1,
      idleTimeout: 1000,
    });
    // A pooled Buffer shares its memory with others, which would lose it too.
    const own = bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);
    const result = await this.pool.run({ bytes: own, file }, { transferList: [own.buffer as ArrayBuffer] });
    if (result.ok) return result.value;
    const count = result.problems.length;
    throw new VxpipeError("ALLOWLIST_INVALID", `${file}: ${count} ${count === 1 ? "entry is" : "entries are"} wrong`, {
      problems: result.problems,
    });
  }

  async close(): Promise<void> {
    await this.pool?.destroy();
    this.pool = null;
  }
}
