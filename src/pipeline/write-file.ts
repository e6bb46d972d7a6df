// Replaces a file as a whole or not at all, in two steps: what can fail is done before what the file is about is changed,
// and the last step is a rename. Called by save.ts, on the main thread.
import { randomBytes } from "node:crypto";
import { open, realpath, rename, stat, unlink } from "node:fs/promises";
import { dirname } from "node:path";

export interface Pending {
  /** Of the file, links followed. */
  path: string;
  /** From here on the new content is there, also after a power failure as far as the file system promises that. */
  commit(): Promise<void>;
  abandon(): Promise<void>;
}

/** A file as it is now: another one, or other content, is told apart from it. */
export async function versionOf(path: string): Promise<string> {
  const { ino, size, mtimeNs } = await stat(path, { bigint: true });
  return `${ino} ${size} ${mtimeNs}`;
}

/** The new content is on the disk, beside the file, with its mode and owner. `version`: of which the new content was made;
 * whoever changes the file meanwhile does not lose that. */
export async function prepareFile(
  path: string,
  content: Uint8Array | string,
  version: string | null = null,
): Promise<Pending> {
  const target = await realpath(path);
  const temporary = `${target}.new-${randomBytes(6).toString("hex")}`;
  const abandon = (): Promise<void> => unlink(temporary).catch(() => undefined);
  const stats = await stat(target);
  // A rename would put a file in the place of /dev/null, for everybody.
  if (!stats.isFile()) throw new Error("it is not a regular file");
  const { mode, uid, gid } = stats;
  const handle = await open(temporary, "wx", 0o600);
  try {
    await handle.writeFile(content);
    const made = await handle.stat();
    if (made.uid !== uid || made.gid !== gid) await handle.chown(uid, gid);
    await handle.chmod(mode & 0o7777);
    await handle.sync();
  } catch (error) {
    await abandon();
    throw error;
  } finally {
    await handle.close();
  }
  const commit = async (): Promise<void> => {
    try {
      if (version !== null && (await versionOf(target)) !== version) throw new Error("it was changed meanwhile");
      await rename(temporary, target);
    } catch (error) {
      await abandon();
      throw error;
    }
    // The file is in its place, whether or not its file system can promise more.
    await syncDirectory(dirname(target)).catch(() => undefined);
  };
  return { path: target, commit, abandon };
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  await directory.sync().finally(() => directory.close());
}
