// A request's body into memory that can be handed to another thread: chunk by chunk as it comes, so that a large one does
// not stall the control plane at its end. Called by routes.ts, on the main thread.
import type { Readable } from "node:stream";
import { VxpipeError } from "../pipeline/errors.js";

const firstBytes = 65536;

/** `expected`: what content-length says, or null. */
export async function receive(
  body: Readable,
  expected: number | null,
  limit: number,
  progress: (bytes: number) => void,
): Promise<Uint8Array> {
  if (expected !== null && expected > limit) throw tooLarge(limit);
  let bytes = new Uint8Array(expected ?? firstBytes);
  let length = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    if (length + chunk.length > limit) throw tooLarge(limit);
    if (length + chunk.length > bytes.length) {
      const larger = new Uint8Array(Math.min(Math.max(bytes.length * 2, length + chunk.length), limit));
      larger.set(bytes.subarray(0, length));
      bytes = larger;
    }
    bytes.set(chunk, length);
    length += chunk.length;
    progress(length);
  }
  return length === bytes.length ? bytes : bytes.slice(0, length);
}

function tooLarge(limit: number): VxpipeError {
  return new VxpipeError("REQUEST_INVALID", `the list is larger than ${limit / 1024 / 1024} MiB`);
}
