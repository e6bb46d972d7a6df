// Writes a pcap-ng capture of dropped packets, each with a comment that says why: draft-ietf-opsawg-pcapng. Pure; used by
// `vxpipe monitor --write`.
import { vxConstant } from "../pipeline/abi.gen.js";

/** Two interfaces, since a frame that came and a packet that would have left are not of one place. */
export const captureForms = ["received", "leaving"] as const;
export type CaptureForm = (typeof captureForms)[number];

export interface CapturedPacket {
  form: CaptureForm;
  micros: bigint;
  /** Of the whole frame. */
  length: number;
  bytes: Uint8Array;
  comment: string;
}

const SECTION = 0x0a0d0d0a;
const INTERFACE = 1;
const PACKET = 6;
const COMMENT = 1;
const INTERFACE_NAME = 2;
const LINK_ETHERNET = 1;

/** The section and its interfaces; timestamps are in microseconds, which needs no option. */
export function captureHead(): Buffer {
  const section = Buffer.alloc(16);
  section.writeUInt32LE(0x1a2b3c4d, 0);
  section.writeUInt16LE(1, 4);
  section.writeBigInt64LE(-1n, 8);
  const interfaces = captureForms.map((name) => {
    const head = Buffer.alloc(8);
    head.writeUInt16LE(LINK_ETHERNET, 0);
    head.writeUInt32LE(vxConstant.sampleBytes, 4);
    return block(INTERFACE, head, option(INTERFACE_NAME, name), endOfOptions);
  });
  return Buffer.concat([block(SECTION, section), ...interfaces]);
}

export function capturePacket({ form, micros, length, bytes, comment }: CapturedPacket): Buffer {
  const head = Buffer.alloc(20);
  head.writeUInt32LE(captureForms.indexOf(form), 0);
  head.writeUInt32LE(Number(micros >> 32n), 4);
  head.writeUInt32LE(Number(micros & 0xffff_ffffn), 8);
  head.writeUInt32LE(bytes.length, 12);
  head.writeUInt32LE(length, 16);
  return block(PACKET, head, padded(bytes), option(COMMENT, comment), endOfOptions);
}

const endOfOptions = Buffer.alloc(4);

function block(type: number, ...parts: readonly Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 12);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(type, 0);
  head.writeUInt32LE(length, 4);
  return Buffer.concat([head, ...parts, head.subarray(4)]);
}

function option(code: number, text: string): Buffer {
  const value = Buffer.from(text);
  const head = Buffer.alloc(4);
  head.writeUInt16LE(code, 0);
  head.writeUInt16LE(value.length, 2);
  return Buffer.concat([head, padded(value)]);
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
