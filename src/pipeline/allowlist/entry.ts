// One allowlist entry, text to bytes and back. Called by the compiler (Piscina task) for each of possibly millions of
// entries, and by the daemon and command line for single ones.
//
// ip-num, which the configuration uses, takes 1.7 us for an IPv4 and 13 us for an IPv6 address: a list of a million
// would take many seconds. So IPv4 is parsed from the bytes here, and IPv6 is left to Node's inet_pton to judge and only
// expanded here; a property test holds both against ip-num.
import { isIPv6, SocketAddress } from "node:net";

export interface Entry {
  family: 4 | 6;
  /** 4 or 16 bytes, bits beyond the prefix zero. */
  address: Uint8Array;
  /** 32 or 128: a single address. */
  length: number;
}

const zero = 0x30;
const dot = 0x2e;
const slash = 0x2f;

/** An IPv4 address in [start, end) as an unsigned number; -1: not one. As strict as inet_pton. */
export function parseIpv4(bytes: Uint8Array, start: number, end: number): number {
  if (end - start < 7 || end - start > 15) return -1;
  let value = 0;
  let octet = 0;
  let digits = 0;
  let dots = 0;
  for (let index = start; index < end; index++) {
    const byte = bytes[index] as number;
    if (byte === dot) {
      if (digits === 0 || ++dots > 3) return -1;
      value = value * 256 + octet;
      octet = digits = 0;
      continue;
    }
    const digit = byte - zero;
    if (digit < 0 || digit > 9 || (digits > 0 && octet === 0) || ++digits > 3) return -1;
    octet = octet * 10 + digit;
    if (octet > 255) return -1;
  }
  return dots === 3 && digits > 0 ? value * 256 + octet : -1;
}

/** An address or prefix in [start, end): the entry, or what is wrong with it. */
export function parseEntryBytes(bytes: Uint8Array, start: number, end: number): Entry | string {
  let stop = bytes.subarray(start, end).indexOf(slash);
  stop = stop < 0 ? end : start + stop;
  const text = (): string =>
    `"${clip(Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("utf8"))}"`;
  const four = parseIpv4(bytes, start, stop);
  let entry: Entry;
  if (four >= 0) {
    entry = { family: 4, address: Uint8Array.of(four >>> 24, four >>> 16, four >>> 8, four), length: 32 };
  } else {
    const six = stop - start <= 45 ? parseIpv6(Buffer.from(bytes.subarray(start, stop)).toString("latin1")) : null;
    if (six === null) return `${text()} is not an IP address or prefix`;
    entry = { family: 6, address: six, length: 128 };
  }
  if (stop < end) {
    const length = parseLength(bytes, stop + 1, end);
    if (length < 0 || length > entry.length) {
      return `${text()}: the prefix length is a number from 0 to ${entry.length}`;
    }
    entry.length = length;
    mask(entry.address, length);
  }
  return unmapped(entry);
}

export function parseEntry(text: string): Entry | string {
  const bytes = Buffer.from(text.trim(), "utf8");
  return parseEntryBytes(bytes, 0, bytes.length);
}

function parseLength(bytes: Uint8Array, start: number, end: number): number {
  if (end - start < 1 || end - start > 3 || (end - start > 1 && bytes[start] === zero)) return -1;
  let value = 0;
  for (let index = start; index < end; index++) {
    const digit = (bytes[index] as number) - zero;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}

function parseIpv6(text: string): Uint8Array | null {
  if (!isIPv6(text) || text.includes("%")) return null;
  const address = new Uint8Array(16);
  const gap = text.indexOf("::");
  const head = gap < 0 ? text : text.slice(0, gap);
  writeGroups(address, 0, head);
  if (gap >= 0) {
    const tail = text.slice(gap + 2);
    writeGroups(address, 16 - groupBytes(tail), tail);
  }
  return address;
}

function groupBytes(text: string): number {
  if (text === "") return 0;
  const groups = text.split(":");
  return groups.length * 2 + (text.includes(".") ? 2 : 0);
}

function writeGroups(address: Uint8Array, offset: number, text: string): void {
  if (text === "") return;
  for (const group of text.split(":")) {
    if (group.includes(".")) {
      for (const octet of group.split(".")) address[offset++] = Number(octet);
      continue;
    }
    const value = Number.parseInt(group, 16);
    address[offset++] = value >> 8;
    address[offset++] = value & 255;
  }
}

function mask(address: Uint8Array, length: number): void {
  const whole = length >> 3;
  if (whole >= address.length) return;
  address[whole] = (address[whole] as number) & (0xff00 >> (length & 7));
  address.fill(0, whole + 1);
}

/** ::ffff:192.0.2.1 is how some tools write 192.0.2.1; no packet carries it. */
function unmapped(entry: Entry): Entry {
  if (entry.family === 4 || entry.length < 96) return entry;
  const { address } = entry;
  for (let index = 0; index < 10; index++) if (address[index] !== 0) return entry;
  if (address[10] !== 255 || address[11] !== 255) return entry;
  return { family: 4, address: address.slice(12), length: entry.length - 96 };
}

/** As inet_ntop writes it; a prefix with its length. */
export function formatEntry(family: 4 | 6, address: Uint8Array, length: number): string {
  const text = formatAddress(address);
  return length === (family === 4 ? 32 : 128) ? text : `${text}/${length}`;
}

export function formatAddress(address: Uint8Array): string {
  if (address.length === 4) return address.join(".");
  const groups: string[] = [];
  for (let index = 0; index < 16; index += 2) {
    groups.push((((address[index] as number) << 8) | (address[index + 1] as number)).toString(16));
  }
  return new SocketAddress({ address: groups.join(":"), family: "ipv6" }).address;
}

export function clip(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
