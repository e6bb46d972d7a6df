// The file of nat.source.records: JSON lines, appended, on the disk before anybody is told. Used by block-log.ts; the work is
// done on libuv's pool, one call at a time.
//
// What fails leaves no half line: the file is cut to what was whole, at the latest before anything is appended. A file that was moved away keeps being written until it
// is opened again; one that was removed is made anew.
import { constants } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { VxpipeError } from "./errors.js";
import { makeDirectory } from "./make-directory.js";
import type { Native } from "./native.js";

const pieceBytes = 1024 * 1024;
const newline = 10;

export class RecordsFile {
  private handle: FileHandle | null = null;
  /** Of whole lines. */
  private length = 0;
  /** There may be more: what failed could not be cut off. */
  private ragged = false;

  constructor(
    readonly path: string,
    private readonly native: Pick<Native, "lockFile">,
  ) {}

  get isOpen(): boolean {
    return this.handle !== null;
  }

  /** True: the file is new, or empty. */
  async open(): Promise<boolean> {
    await this.close();
    makeDirectory(dirname(this.path), 0o750);
    // Not blocking: a pipe that nobody reads is refused at once.
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_APPEND | constants.O_NONBLOCK;
    const handle = await open(this.path, flags, 0o600);
    try {
      this.take(handle);
      const { size } = await handle.stat();
      this.length = await wholeLines(handle, size);
      if (this.length < size) await handle.truncate(this.length);
    } catch (error) {
      await handle.close();
      throw error;
    }
    this.handle = handle;
    this.ragged = false;
    return this.length === 0;
  }

  /** Of two daemons that write one file each would cut off the other's last line, and take its blocks for released. */
  private take({ fd }: FileHandle): void {
    if (this.native.lockFile(fd)) return;
    throw new VxpipeError("RECORDS_IN_USE", `nat.source.records.file ${this.path}: another daemon has it open`);
  }

  /** All of these lines, or none. */
  async append(bytes: Buffer): Promise<void> {
    const { handle } = this;
    if (handle === null) throw new Error("the file is not open");
    if (this.ragged) await handle.truncate(this.length);
    this.ragged = false;
    try {
      for (let at = 0; at < bytes.length;) at += (await handle.write(bytes, at)).bytesWritten;
      await handle.datasync();
    } catch (error) {
      await handle.truncate(this.length).catch(() => (this.ragged = true));
      throw error;
    }
    this.length += bytes.length;
  }

  /** Somebody removed it. */
  async isGone(): Promise<boolean> {
    return this.handle !== null && (await this.handle.stat()).nlink === 0;
  }

  async close(): Promise<void> {
    const { handle } = this;
    this.handle = null;
    await handle?.close();
  }
}

/** Bytes up to the last newline: a daemon that was killed while it wrote may have left a part of a line. */
async function wholeLines(handle: FileHandle, size: number): Promise<number> {
  for await (const { bytes, start } of backward(handle, size)) {
    const last = bytes.lastIndexOf(newline);
    if (last >= 0) return start + last + 1;
  }
  return 0;
}

async function* backward(handle: FileHandle, size: number): AsyncGenerator<{ bytes: Buffer; start: number }> {
  for (let end = size; end > 0;) {
    const start = Math.max(end - pieceBytes, 0);
    const bytes = Buffer.allocUnsafe(end - start);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, start);
    yield { bytes: bytes.subarray(0, bytesRead), start };
    end = start;
  }
}

/** The lines of a file, the last one first. None when there is no file. */
export async function* linesBackward(path: string): AsyncGenerator<string> {
  const handle = await openIfThere(path);
  if (handle === null) return;
  try {
    // Of a line whose beginning has not been read yet.
    let rest = Buffer.alloc(0);
    for await (const { bytes } of backward(handle, (await handle.stat()).size)) {
      let block = Buffer.concat([bytes, rest]);
      for (let at = block.lastIndexOf(newline); at >= 0; at = block.lastIndexOf(newline)) {
        if (at + 1 < block.length) yield block.toString("utf8", at + 1);
        block = block.subarray(0, at);
      }
      rest = block;
    }
    if (rest.length > 0) yield rest.toString("utf8");
  } finally {
    await handle.close();
  }
}

/** Those lines that have `needle` in them, the first one first. What has none of it is passed over without a look at it. */
export async function* linesWith(path: string, needle: string): AsyncGenerator<string> {
  const handle = await openIfThere(path);
  if (handle === null) return;
  try {
    let rest = Buffer.alloc(0);
    for (let at = 0; ;) {
      const piece = Buffer.allocUnsafe(pieceBytes);
      const { bytesRead } = await handle.read(piece, 0, piece.length, at);
      if (bytesRead === 0) return;
      at += bytesRead;
      const block = Buffer.concat([rest, piece.subarray(0, bytesRead)]);
      const whole = block.lastIndexOf(newline) + 1;
      yield* found(block.subarray(0, whole), needle);
      rest = block.subarray(whole);
    }
  } finally {
    await handle.close();
  }
}

function* found(lines: Buffer, needle: string): Generator<string> {
  for (let at = lines.indexOf(needle); at >= 0; at = lines.indexOf(needle, at)) {
    const start = lines.lastIndexOf(newline, at) + 1;
    const end = lines.indexOf(newline, at);
    yield lines.toString("utf8", start, end);
    at = end;
  }
}

async function openIfThere(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
