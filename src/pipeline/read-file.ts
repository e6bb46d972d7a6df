// Reads a file that a person named, whatever it turns out to be: bounded, so that /dev/zero ends too, and never
// blocking, so that a pipe nobody writes to cannot keep a thread. Called by configuration and allowlist loading, and for
// edits that are saved.
import { constants } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";

const pipePatienceMs = 5000;
const pipePauseMs = 10;

/** A pipe that ended before it began: whoever should have written has failed, or has not come. */
export const nothingWritten = "nothing was written to it";

/** At most `limit` + 1 bytes: more than `limit` tells the caller that the file is too large. */
export async function readBounded(path: string, limit: number, patienceMs = pipePatienceMs): Promise<Buffer> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stats = await handle.stat();
    const source = stats.isFIFO() ? new Pipe(handle, patienceMs) : handle;
    let buffer = Buffer.allocUnsafe(Math.min(stats.size > 0 ? stats.size + 1 : 65536, limit + 1));
    let length = 0;
    for (;;) {
      if (length === buffer.length) {
        if (length > limit) break;
        const larger = Buffer.allocUnsafe(Math.min(buffer.length * 2, limit + 1));
        buffer.copy(larger, 0, 0, length);
        buffer = larger;
      }
      const { bytesRead } = await source.read(buffer, length, buffer.length - length, null);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    return buffer.subarray(0, length);
  } finally {
    await handle.close();
  }
}

/** Waits a bounded time for a writer, and for what it writes. */
class Pipe {
  private begun = false;

  constructor(
    private readonly handle: FileHandle,
    private readonly patienceMs: number,
  ) {}

  async read(buffer: Buffer, offset: number, length: number, position: null): Promise<{ bytesRead: number }> {
    for (let waited = 0; ; waited += pipePauseMs) {
      const bytesRead = await this.attempt(buffer, offset, length, position);
      // Before there is a writer a pipe seems to have ended.
      if (bytesRead !== null && (bytesRead > 0 || this.begun)) {
        this.begun = true;
        return { bytesRead };
      }
      if (waited >= this.patienceMs) {
        throw new Error(bytesRead === null ? "it is a pipe, and its writer is silent" : nothingWritten);
      }
      await setTimeout(pipePauseMs);
    }
  }

  /** null: there is a writer, and nothing to read. */
  private async attempt(buffer: Buffer, offset: number, length: number, position: null): Promise<number | null> {
    try {
      return (await this.handle.read(buffer, offset, length, position)).bytesRead;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return null;
      throw error;
    }
  }
}
