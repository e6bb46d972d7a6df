// Tunnel packets with inner IPv4 fragments, built here because there are more of them than a committed capture should
// have. Pure, but for writing a capture. Called by the namespace tests, on Node's main thread.
import { writeFileSync } from "node:fs";

import { ADDRESS, MAC } from "../bed/bed.js";

export interface Piece {
  source: string;
  destination: string;
  id: number;
  /** In bytes; a multiple of 8. */
  offset: number;
  more: boolean;
  payload: Buffer;
}

const quad = (text: string): Buffer => Buffer.from(text.split(".").map(Number));
const mac = (text: string): Buffer => Buffer.from(text.replaceAll(":", ""), "hex");

function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function ipv4(source: string, destination: string, id: number, flagsAndOffset: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(20);
  header[0] = 0x45;
  header.writeUInt16BE(20 + payload.length, 2);
  header.writeUInt16BE(id, 4);
  header.writeUInt16BE(flagsAndOffset, 6);
  header[8] = 64;
  header[9] = 17;
  header.set(quad(source), 12);
  header.set(quad(destination), 16);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, payload]);
}

/** Without a checksum. */
export function udp(sport: number, dport: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(sport, 0);
  header.writeUInt16BE(dport, 2);
  header.writeUInt16BE(8 + payload.length, 4);
  return Buffer.concat([header, payload]);
}

/** An inner fragment in VXLAN, from the source to the gateway of a bed. */
export function tunnelled(piece: Piece, vni = 100): Buffer {
  const flags = (piece.more ? 0x2000 : 0) | (piece.offset / 8);
  const packet = ipv4(piece.source, piece.destination, piece.id, flags, piece.payload);
  const inner = Buffer.concat([mac("02:00:00:00:00:aa"), mac("02:00:00:00:00:bb"), Buffer.from("0800", "hex"), packet]);
  const vxlan = Buffer.alloc(8);
  vxlan[0] = 8;
  vxlan.writeUInt32BE(vni << 8, 4);
  const outer = ipv4(ADDRESS.source, ADDRESS.inside, 1, 0, udp(49200, 4789, Buffer.concat([vxlan, inner])));
  return Buffer.concat([mac(MAC.inside), mac(MAC.source), Buffer.from("0800", "hex"), outer]);
}

/** A datagram to a port, without checksum, in two fragments. */
export function twoFragments(source: string, destination: string, id: number, port: number): [Piece, Piece] {
  const whole = udp(5000, port, Buffer.alloc(92, id));
  const common = { source, destination, id };
  return [
    { ...common, offset: 0, more: true, payload: whole.subarray(0, 48) },
    { ...common, offset: 48, more: false, payload: whole.subarray(48) },
  ];
}

export function writePcap(file: string, frames: readonly Buffer[]): void {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65535, 16);
  header.writeUInt32LE(1, 20);
  const records = frames.flatMap((frame) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(frame.length, 8);
    record.writeUInt32LE(frame.length, 12);
    return [record, frame];
  });
  writeFileSync(file, Buffer.concat([header, ...records]));
}
