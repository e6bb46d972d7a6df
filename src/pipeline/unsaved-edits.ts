// Edits made at run time that no file has: a reload drops them and names them. Kept by runtime.ts; main thread.

/** The latest ones are named, the others counted. */
const namedMax = 100;
const textMax = 200;

export class UnsavedEdits {
  private named: { what: string; ofList: boolean }[] = [];
  private more = { ofList: 0, others: 0 };

  note(what: string, ofList: boolean): void {
    this.named.push({ what: what.length > textMax ? `${what.slice(0, textMax - 3)}...` : what, ofList });
    if (this.named.length <= namedMax) return;
    if (this.named.shift()?.ofList === true) this.more.ofList++;
    else this.more.others++;
  }

  list(): readonly string[] {
    const more = this.more.ofList + this.more.others;
    const named = this.named.map(({ what }) => what);
    return more === 0 ? named : [`${more} earlier ones`, ...named];
  }

  /** The list has been replaced as a whole. */
  clearList(): void {
    this.named = this.named.filter(({ ofList }) => !ofList);
    this.more.ofList = 0;
  }

  clear(): void {
    this.named = [];
    this.more = { ofList: 0, others: 0 };
  }
}
