// A JSON text as bytes, value by value with the place of each: an allowlist of a million entries is read in one pass,
// without making strings of it, and what is wrong is found where it stands. Called by read.ts, in a Piscina task. Pure.

export type JsonPath = readonly (string | number)[];

export interface JsonWalk {
  /** A value that is not an object or array: its bytes, quotes included. */
  leaf(path: JsonPath, start: number, end: number): void;
  /** An object or array begins; true: the values below it are only looked at for syntax. */
  open(path: JsonPath, kind: "object" | "array", start: number): boolean;
  close(path: JsonPath, kind: "object" | "array", end: number): void;
  /** Whether a key may be in its object only once. */
  single(path: JsonPath): boolean;
  /** It is there again. */
  repeated(path: JsonPath, start: number): void;
}

/** Returns null, or the first place where the text stops being JSON. */
export function walkJson(bytes: Uint8Array, start: number, walk: JsonWalk): { offset: number; message: string } | null {
  const walker = new Walker(bytes, start, walk);
  try {
    walker.document();
    return null;
  } catch (error) {
    if (error instanceof JsonError) return { offset: error.offset, message: error.message };
    throw error;
  }
}

/** The text of a string's bytes, quotes included, or of any other leaf. */
export function leafValue(bytes: Uint8Array, start: number, end: number): unknown {
  return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("utf8"));
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
/** More bytes than any literal of a list needs. */
const literalMax = 400;

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const colon = 0x3a;
const openBrace = 0x7b;
const closeBrace = 0x7d;
const openBracket = 0x5b;
const closeBracket = 0x5d;

class Walker {
  private readonly path: (string | number)[] = [];
  private skipping = 0;

  constructor(
    private readonly bytes: Uint8Array,
    private at: number,
    private readonly walk: JsonWalk,
  ) {}

  document(): void {
    this.value();
    this.blanks();
    if (this.at < this.bytes.length) this.fail("the JSON value ends before this");
  }

  private fail(message: string, offset = this.at): never {
    throw new JsonError(offset, message);
  }

  private blanks(): void {
    for (; ; this.at++) {
      const byte = this.bytes[this.at];
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return;
    }
  }

  private value(): void {
    this.blanks();
    if (this.path.length > depthMax) this.fail("is nested too deeply");
    const start = this.at;
    const first = this.bytes[start];
    if (first === openBrace || first === openBracket) return this.container(first === openBrace ? "object" : "array");
    if (first === quote) this.string();
    else this.literal();
    if (this.skipping === 0) this.walk.leaf(this.path, start, this.at);
  }

  private literal(): void {
    const start = this.at;
    const text = Buffer.from(
      this.bytes.buffer,
      this.bytes.byteOffset + start,
      Math.min(literalMax, this.bytes.length - start),
    ).toString("latin1");
    const match = /^(?:true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![\w.+-])/.exec(text);
    if (match === null) this.fail(text === "" ? "the JSON text ends too early" : "a JSON value is expected here");
    this.at += match[0].length;
  }

  private string(): void {
    const start = this.at;
    let escaped = false;
    for (this.at++; ; this.at++) {
      const byte = this.bytes[this.at];
      if (byte === undefined) this.fail("this string does not end", start);
      if (byte === quote) break;
      if (byte === backslash) {
        escaped = true;
        this.at++;
      } else if (byte < 0x20) this.fail("a control character inside a string");
    }
    this.at++;
    if (!escaped) return;
    try {
      leafValue(this.bytes, start, this.at);
    } catch {
      this.fail("this string has an escape that JSON does not know", start);
    }
  }

  private container(kind: "object" | "array"): void {
    const isObject = kind === "object";
    const skip = this.skipping > 0 || this.walk.open(this.path, kind, this.at);
    this.at++;
    if (skip) this.skipping++;
    if (isObject) this.object();
    else this.array();
    if (skip) this.skipping--;
    if (this.skipping === 0) this.walk.close(this.path, kind, this.at);
  }

  private array(): void {
    let index = 0;
    this.members(closeBracket, () => this.path.push(index++));
  }

  private object(): void {
    const singles = new Set<string>();
    this.members(closeBrace, () => {
      this.blanks();
      if (this.bytes[this.at] !== quote) this.fail("a key in double quotes is expected here");
      const start = this.at;
      this.string();
      this.path.push(this.skipping === 0 ? this.key(start, singles) : "");
      this.blanks();
      if (this.bytes[this.at] !== colon) this.fail('":" is expected here');
      this.at++;
    });
  }

  /** Only those that matter are kept: there may be millions of others. */
  private key(start: number, singles: Set<string>): string {
    const key = leafValue(this.bytes, start, this.at) as string;
    const path = [...this.path, key];
    if (!this.walk.single(path)) return key;
    if (singles.has(key)) this.walk.repeated(path, start);
    singles.add(key);
    return key;
  }

  private members(close: number, enter: () => void): void {
    this.blanks();
    if (this.bytes[this.at] === close) {
      this.at++;
      return;
    }
    for (;;) {
      enter();
      this.value();
      this.path.pop();
      this.blanks();
      const next = this.bytes[this.at];
      if (next !== comma && next !== close) {
        const expected = `"," or "${String.fromCharCode(close)}" is expected here`;
        this.fail(next === undefined ? "the JSON text ends too early" : expected);
      }
      this.at++;
      if (next === close) return;
    }
  }
}
