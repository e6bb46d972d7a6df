// Frames and vx_sample records for tests of the decoder and of those who watch. Pure.
import { vxDrop, vxSample, vxSampleForm } from "../../src/pipeline/abi.gen.js";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/[\s:]/g, ""), "hex");
const quad = (text: string): Buffer => Buffer.from(text.split(".").map(Number));
const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255]);

export function ethernet(type: number, payload: Uint8Array, ...vlans: number[]): Buffer {
  const tags = vlans.map((vlan) => Buffer.concat([u16(0x8100), u16(vlan)]));
  return Buffer.concat([hex("02:00:00:00:00:bb 02:00:00:00:00:aa"), ...tags, u16(type), payload]);
}

export function ipv4(source: string, destination: string, protocol: number, payload: Uint8Array, fragment = 0): Buffer {
  const head = hex("4500 0000 0001 0000 40 00 0000");
  head.writeUInt16BE(20 + payload.length, 2);
  head.writeUInt16BE(fragment, 6);
  head[9] = protocol;
  return Buffer.concat([head, quad(source), quad(destination), payload]);
}

/** Addresses in hexadecimal. */
export function ipv6(source: string, destination: string, next: number, payload: Uint8Array): Buffer {
  return Buffer.concat([
    hex("60000000"),
    u16(payload.length),
    Buffer.from([next, 64]),
    hex(source),
    hex(destination),
    payload,
  ]);
}

export function udp(source: number, destination: number, payload: Uint8Array = Buffer.alloc(4)): Buffer {
  return Buffer.concat([u16(source), u16(destination), u16(8 + payload.length), u16(0), payload]);
}

export function tcp(source: number, destination: number, flags: number): Buffer {
  return Buffer.concat([
    u16(source),
    u16(destination),
    hex("00000001 00000002 50"),
    Buffer.from([flags]),
    hex("ffff 0000 0000"),
  ]);
}

export function vxlan(vni: number, frame: Uint8Array): Buffer {
  const head = Buffer.alloc(8);
  head[0] = 8;
  head.writeUInt32BE(vni * 256, 4);
  return Buffer.concat([head, frame]);
}

/** UDP 10.0.0.1:5000 > 203.0.113.9:9 in VXLAN 100 from 192.0.2.1. */
export const tunnelled = ethernet(
  0x0800,
  ipv4(
    "192.0.2.1",
    "192.0.2.2",
    17,
    udp(49152, 4789, vxlan(100, ethernet(0x0800, ipv4("10.0.0.1", "203.0.113.9", 17, udp(5000, 9))))),
  ),
);

interface Sampled {
  drop?: number;
  form?: number;
  timeNs?: bigint;
  frame?: Uint8Array;
}

export function sampleOf({
  drop = vxDrop.notAllowed,
  form = vxSampleForm.received,
  timeNs = 0n,
  frame = tunnelled,
}: Sampled): Buffer {
  const record = Buffer.alloc(vxSample.bytes);
  const { offset } = vxSample;
  const captured = frame.subarray(0, vxSample.bytes - offset.bytes);
  record.writeBigUInt64LE(timeNs, offset.timeNs);
  record.writeUInt32LE(frame.length, offset.length);
  record[offset.captured] = captured.length;
  record[offset.drop] = drop;
  record[offset.form] = form;
  record.set(captured, offset.bytes);
  return record;
}
