// Reads a file that a person named, whatever it turns out to be: bounded, so that /dev/zero ends too, and never
// blocking, so that a pipe nobody writes to cannot keep a thread. Called by configuration and allowlist loading.
import { constants } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";

const pipePatienceMs = 5000;
const pipePauseMs = 10;

/** What read(2) gives; waits a bounded time for a pipe's writer. */
async function readSome(handle: FileHandle, buffer: Buffer, offset: number): Promise<number> {
  for (let waited = 0; ; waited += pipePauseMs) {
    try {
      return (await handle.read(buffer, offset, buffer.length - offset, null)).bytesRead;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN" || waited >= pipePatienceMs) throw error;
      await setTimeout(pipePauseMs);
    }
  }
}

/** At most `limit` + 1 bytes: more than `limit` tells the caller that the file is too large. */
export async function readBounded(path: string, limit: number): Promise<Buffer> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const { size } = await handle.stat();
    let buffer = Buffer.allocUnsafe(Math.min(size > 0 ? size + 1 : 65536, limit + 1));
    let length = 0;
    for (;;) {
      if (length === buffer.length) {
        if (length > limit) break;
        const larger = Buffer.allocUnsafe(Math.min(buffer.length * 2, limit + 1));
        buffer.copy(larger, 0, 0, length);
        buffer = larger;
      }
      const bytesRead = await readSome(handle, buffer, length);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    return buffer.subarray(0, length);
  } finally {
    await handle.close();
  }
}
