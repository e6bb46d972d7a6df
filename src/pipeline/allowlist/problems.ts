// Wrong places of a list: noted by offset, told by line and column. Called by compile.ts, in a Piscina task. Pure.
import type { Problem } from "../errors.js";

/** This many are told of; the rest is only counted. */
const problemsMax = 10_000;

export class Problems {
  count = 0;
  /** Some are about the file, not about single entries. */
  fatal = false;
  private readonly noted: { offset: number; message: string }[] = [];

  note(offset: number, message: string): void {
    this.count++;
    if (this.noted.length < problemsMax) this.noted.push({ offset, message });
  }

  /** In order of place; columns count characters. */
  placed(bytes: Uint8Array, file: string): Problem[] {
    const problems: Problem[] = [];
    let line = 1;
    let column = 1;
    let counted = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
    let lineEnd = endOfLine(bytes, counted);
    for (const { offset, message } of this.noted.sort((a, b) => a.offset - b.offset)) {
      for (; lineEnd < offset; lineEnd = endOfLine(bytes, counted)) {
        line++;
        counted = lineEnd + 1;
        column = 1;
      }
      const text = Buffer.from(bytes.buffer, bytes.byteOffset + counted, Math.max(offset - counted, 0));
      column += text.toString("utf8").length;
      counted = Math.max(offset, counted);
      problems.push({ file, line, column, message });
    }
    const rest = this.count - problems.length;
    const last = problems.at(-1);
    if (rest > 0 && last !== undefined) problems.push({ ...last, message: `and ${rest} more are wrong` });
    return problems;
  }
}

function endOfLine(bytes: Uint8Array, from: number): number {
  const end = bytes.indexOf(0x0a, from);
  return end < 0 ? bytes.length : end;
}
