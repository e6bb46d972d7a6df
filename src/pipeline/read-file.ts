// Reads a file that a person named, whatever it turns out to be: bounded, so that /dev/zero ends too.
// Called by configuration and allowlist loading.
import { open } from "node:fs/promises";

/** At most `limit` + 1 bytes: more than `limit` tells the caller that the file is too large. */
export async function readBounded(path: string, limit: number): Promise<Buffer> {
  const handle = await open(path, "r");
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
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length, null);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    return buffer.subarray(0, length);
  } finally {
    await handle.close();
  }
}
