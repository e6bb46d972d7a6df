// Captures as other programs write them, built byte by byte: for tests of `vxpipe replay`. Pure.

export interface Packet {
  frame: Buffer;
  /** Nanoseconds since 1970. */
  time: bigint;
}

type Endian = "little" | "big";

function words(endian: Endian, ...parts: readonly (readonly [16 | 32, number])[]): Buffer {
  return Buffer.concat(
    parts.map(([bits, value]) => {
      const bytes = Buffer.alloc(bits / 8);
      if (endian === "little") bytes.writeUIntLE(value, 0, bits / 8);
      else bytes.writeUIntBE(value, 0, bits / 8);
      return bytes;
    }),
  );
}

const u16 = (value: number): readonly [16, number] => [16, value];
const u32 = (value: number): readonly [32, number] => [32, value];

export function pcap(packets: readonly Packet[], endian: Endian = "little", unit: "us" | "ns" = "us"): Buffer {
  const magic = unit === "ns" ? 0xa1b23c4d : 0xa1b2c3d4;
  const header = words(endian, u32(magic), u16(2), u16(4), u32(0), u32(0), u32(262144), u32(1));
  const records = packets.map(({ frame, time }) => {
    const fraction = Number((time % 1_000_000_000n) / (unit === "ns" ? 1n : 1000n));
    const length = u32(frame.length);
    return Buffer.concat([words(endian, u32(Number(time / 1_000_000_000n)), u32(fraction), length, length), frame]);
  });
  return Buffer.concat([header, ...records]);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}

export function block(endian: Endian, type: number, ...body: readonly Buffer[]): Buffer {
  const content = padded(Buffer.concat(body));
  const length = words(endian, u32(content.length + 12));
  return Buffer.concat([words(endian, u32(type)), length, content, length]);
}

export function section(endian: Endian): Buffer {
  return block(endian, 0x0a0d0d0a, words(endian, u32(0x1a2b3c4d), u16(1), u16(0), u32(0xffffffff), u32(0xffffffff)));
}

/** `resolution` as if_tsresol has it: a power of ten, or of two with the top bit. */
export function interfaceBlock(endian: Endian, resolution?: number, link = 1, offsetSeconds?: number): Buffer {
  const options: Buffer[] = [];
  if (resolution !== undefined) options.push(words(endian, u16(9), u16(1)), padded(Buffer.from([resolution])));
  if (offsetSeconds !== undefined) {
    const [high, low] = [u32(0), u32(offsetSeconds)];
    options.push(words(endian, u16(14), u16(8), ...(endian === "big" ? [high, low] : [low, high])));
  }
  if (options.length > 0) options.push(words(endian, u16(0), u16(0)));
  return block(endian, 1, words(endian, u16(link), u16(0), u32(0)), ...options);
}

export function enhancedPacket(endian: Endian, frame: Buffer, ticks: bigint, index = 0): Buffer {
  const [high, low] = [u32(Number(ticks >> 32n)), u32(Number(ticks & 0xffffffffn))];
  return block(endian, 6, words(endian, u32(index), high, low, u32(frame.length), u32(frame.length)), frame);
}

export function oldPacket(endian: Endian, frame: Buffer, ticks: bigint): Buffer {
  const [high, low] = [u32(Number(ticks >> 32n)), u32(Number(ticks & 0xffffffffn))];
  return block(endian, 2, words(endian, u16(0), u16(0xffff), high, low, u32(frame.length), u32(frame.length)), frame);
}

export function simplePacket(endian: Endian, frame: Buffer): Buffer {
  return block(endian, 3, words(endian, u32(frame.length)), frame);
}

/** Packets of a pcap file as `vxpipe replay` writes it, with times. */
export function readPackets(bytes: Buffer): Packet[] {
  const unit = bytes.readUInt32LE(0) === 0xa1b23c4d ? 1n : 1000n;
  const packets: Packet[] = [];
  for (let at = 24; at < bytes.length;) {
    const length = bytes.readUInt32LE(at + 8);
    const time = BigInt(bytes.readUInt32LE(at)) * 1_000_000_000n + BigInt(bytes.readUInt32LE(at + 4)) * unit;
    packets.push({ frame: bytes.subarray(at + 16, at + 16 + length), time });
    at += 16 + length;
  }
  return packets;
}
