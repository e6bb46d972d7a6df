// Records as lines of JSON, in the bytes that are written to their file. Called by block-log.ts; pure.
//
// Sessions come by the hundred thousand a second, and a string of each would cost ten times what its bytes do: their
// lines are put together from bytes. Everything else is a line now and then, as JSON.stringify has it.
import { protocolName, type SessionRecord } from "./nat-names.js";

/** No line of a session is longer. */
const sessionBytesMax = 256;
const newline = 10;
const [dot, colon, zero] = [46, 58, 48];

/** As `nat session list` names things. A session that never ends here ended with its block, or with the run. */
const between = {
  time: ascii('{"time":"'),
  event: ascii('","event":"'),
  protocol: ascii('","protocol":"'),
  vni: ascii('","vni":'),
  inside: ascii(',"inside":"'),
  outside: ascii('","outside":"'),
  remote: ascii('","remote":"'),
  end: ascii('"}\n'),
} as const;
const created = ascii("created");
const ended = ascii("ended");
const none = ascii("null");
const protocols = Array.from({ length: 256 }, (_, number) => ascii(protocolName(number)));

export class RecordLines {
  private bytes: Buffer;
  private length = 0;
  private time = Number.NaN;
  private timeText = none;

  constructor(expected = 1) {
    this.bytes = Buffer.allocUnsafe(expected * sessionBytesMax);
  }

  /** Of JSON, without its end. */
  add(line: string): void {
    this.reserve(Buffer.byteLength(line) + 1);
    this.length += this.bytes.write(line, this.length);
    this.bytes[this.length++] = newline;
  }

  addSession(session: SessionRecord): void {
    this.reserve(sessionBytesMax);
    // Many of them are of one millisecond.
    if (session.time !== this.time) {
      this.time = session.time;
      this.timeText = ascii(new Date(session.time).toISOString());
    }
    this.length = putSession(this.bytes, this.length, session, this.timeText);
  }

  get all(): Buffer {
    return this.bytes.subarray(0, this.length);
  }

  private reserve(bytes: number): void {
    if (this.length + bytes <= this.bytes.length) return;
    const larger = Buffer.allocUnsafe(2 * this.bytes.length + bytes);
    this.bytes.copy(larger, 0, 0, this.length);
    this.bytes = larger;
  }
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

/** Each of these puts something at a place, and tells where it ends. */
function putSession(bytes: Uint8Array, start: number, session: SessionRecord, time: Uint8Array): number {
  let at = put(bytes, start, between.time);
  at = put(bytes, at, time);
  at = put(bytes, at, between.event);
  at = put(bytes, at, session.created ? created : ended);
  at = put(bytes, at, between.protocol);
  at = put(bytes, at, protocols[session.protocol] ?? none);
  at = put(bytes, at, between.vni);
  at = session.vni === null ? put(bytes, at, none) : putNumber(bytes, at, session.vni);
  at = put(bytes, at, between.inside);
  at = putEndpoint(bytes, at, session.inside, session.insidePort);
  at = put(bytes, at, between.outside);
  at = putEndpoint(bytes, at, session.outside, session.outsidePort);
  at = put(bytes, at, between.remote);
  at = putEndpoint(bytes, at, session.remote, session.remotePort);
  return put(bytes, at, between.end);
}

function putEndpoint(bytes: Uint8Array, start: number, address: number, port: number): number {
  let at = putNumber(bytes, start, address >>> 24);
  for (let shift = 16; shift >= 0; shift -= 8) {
    bytes[at] = dot;
    at = putNumber(bytes, at + 1, (address >>> shift) & 255);
  }
  bytes[at] = colon;
  return putNumber(bytes, at + 1, port);
}

function putNumber(bytes: Uint8Array, start: number, number: number): number {
  let end = start + 1;
  for (let limit = 10; number >= limit; limit *= 10) end++;
  let rest = number;
  for (let at = end - 1; at >= start; at--) {
    const more = Math.floor(rest / 10);
    bytes[at] = zero + rest - more * 10;
    rest = more;
  }
  return end;
}

function put(bytes: Uint8Array, start: number, text: Uint8Array): number {
  // Not set(): these are short, and it is a call out of JavaScript.
  for (let at = 0; at < text.length; at++) bytes[start + at] = text[at] as number;
  return start + text.length;
}
