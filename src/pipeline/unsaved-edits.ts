// Edits made at run time that no file has: a reload drops them and names them. Kept by runtime.ts; main thread.

/** The latest ones are named, the others counted. */
const namedMax = 100;
const textMax = 200;

export class UnsavedEdits {
  private named: string[] = [];
  private more = 0;

  note(what: string): void {
    this.named.push(what.length > textMax ? `${what.slice(0, textMax - 3)}...` : what);
    if (this.named.length <= namedMax) return;
    this.named.shift();
    this.more++;
  }

  list(): readonly string[] {
    return this.more === 0 ? [...this.named] : [`${this.more} earlier ones`, ...this.named];
  }

  clear(): void {
    this.named = [];
    this.more = 0;
  }
}
