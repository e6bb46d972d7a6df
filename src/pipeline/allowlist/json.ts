// Where the strings of a JSON text stand. JSON.parse is fast and forgets positions, so this slower walk runs only over
// texts in which something is wrong, to say where. Called by the compiler, in a Piscina task. Pure.

export type JsonPath = readonly (string | number)[];

export interface JsonWalk {
  /** Every value that is not an object or array, with the offset of its first character. */
  leaf(path: JsonPath, value: unknown, offset: number): void;
  /** Every object or array. */
  open?(path: JsonPath, kind: "object" | "array", offset: number): void;
}

/** Returns null, or the first place where the text stops being JSON. */
export function walkJson(text: string, walk: JsonWalk): { offset: number; message: string } | null {
  const walker = new Walker(text, walk);
  try {
    walker.document();
    return null;
  } catch (error) {
    if (error instanceof JsonError) return { offset: error.offset, message: error.message };
    throw error;
  }
}

class JsonError extends Error {
  constructor(
    readonly offset: number,
    message: string,
  ) {
    super(message);
  }
}

const depthMax = 64;

class Walker {
  private at = 0;
  private readonly path: (string | number)[] = [];

  constructor(
    private readonly text: string,
    private readonly walk: JsonWalk,
  ) {}

  document(): void {
    if (this.text.charCodeAt(0) === 0xfeff) this.at = 1;
    this.value();
    this.blanks();
    if (this.at < this.text.length) this.fail("the JSON value ends before this");
  }

  private fail(message: string, offset = this.at): never {
    throw new JsonError(offset, message);
  }

  private blanks(): void {
    while (" \t\r\n".includes(this.text[this.at] ?? "x")) this.at++;
  }

  private value(): void {
    this.blanks();
    if (this.path.length > depthMax) this.fail("is nested too deeply");
    const start = this.at;
    const first = this.text[start];
    if (first === "{") return this.object();
    if (first === "[") return this.array();
    if (first === '"') return this.walk.leaf(this.path, this.string(), start);
    const match = /(?:true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![\w.+-])/y;
    match.lastIndex = start;
    const word = match.exec(this.text);
    if (word === null)
      this.fail(first === undefined ? "the JSON text ends too early" : "a JSON value is expected here");
    this.at += word[0].length;
    this.walk.leaf(this.path, JSON.parse(word[0]) as unknown, start);
  }

  private string(): string {
    const start = this.at;
    for (this.at++; ; this.at++) {
      const code = this.text.charCodeAt(this.at);
      if (Number.isNaN(code)) this.fail("this string does not end", start);
      if (code === 0x22) break;
      if (code === 0x5c) this.at++;
      else if (code < 0x20) this.fail("a control character inside a string");
    }
    this.at++;
    try {
      return JSON.parse(this.text.slice(start, this.at)) as string;
    } catch {
      return this.fail("this string has an escape that JSON does not know", start);
    }
  }

  private object(): void {
    this.walk.open?.(this.path, "object", this.at++);
    this.members("}", () => {
      this.blanks();
      if (this.text[this.at] !== '"') this.fail("a key in double quotes is expected here");
      this.path.push(this.string());
      this.blanks();
      if (this.text[this.at] !== ":") this.fail('":" is expected here');
      this.at++;
    });
  }

  private array(): void {
    let index = 0;
    this.walk.open?.(this.path, "array", this.at++);
    this.members("]", () => this.path.push(index++));
  }

  private members(close: string, enter: () => void): void {
    this.blanks();
    if (this.text[this.at] === close) {
      this.at++;
      return;
    }
    for (;;) {
      enter();
      this.value();
      this.path.pop();
      this.blanks();
      const next = this.text[this.at];
      if (next !== "," && next !== close) {
        this.fail(next === undefined ? "the JSON text ends too early" : `"," or "${close}" is expected here`);
      }
      this.at++;
      if (next === close) return;
    }
  }
}
