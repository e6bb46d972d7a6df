#!/usr/bin/python3
"""Writes seeds for replay_fuzz into a folder: captures of test/packets, each behind a byte that chooses a configuration like the
case's, as pcap and as pcap-ng in both byte orders. Called by make-corpus."""
import glob
import os
import struct
import sys

PACKETS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../test/packets/*/in.pcap")
BYTES_MAX = 4096  # as scripts/test-native has it


def configuration(name):
    choice = 0x40  # static rules; the rest as replay_fuzz.cpp's plan_of has it
    for word, bit in (("ethernet", 1), ("df-", 2), ("ipv6", 4), ("ttl", 8), ("vnis", 16), ("allow", 32), ("fixed", 128)):
        if word in name:
            choice |= bit
    return bytes([choice])


def frames(data):
    at = 24
    while at < len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        yield data[at + 16 : at + 16 + length]
        at += 16 + length


def pcapng(packets, order):
    def block(kind, body):
        body += b"\0" * (-len(body) % 4)
        length = struct.pack(order + "I", len(body) + 12)
        return struct.pack(order + "I", kind) + length + body + length

    data = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    data += block(1, struct.pack(order + "HHIHHB3xHHqHH", 1, 0, 0, 9, 1, 9, 14, 8, 1000, 0, 0))
    data += block(1, struct.pack(order + "HHI", 1, 0, 0))
    for i, frame in enumerate(packets):
        if i % 3 == 2:
            data += block(3, struct.pack(order + "I", len(frame)) + frame)
        else:
            data += block(6, struct.pack(order + "IIIII", i % 3, i, i, len(frame), len(frame)) + frame)
    return data


for path in sorted(glob.glob(PACKETS)):
    case = os.path.basename(os.path.dirname(path))
    data = open(path, "rb").read()
    packets = list(frames(data))
    for suffix, content in (("pcap", data), ("little", pcapng(packets, "<")), ("big", pcapng(packets, ">"))):
        with open(os.path.join(sys.argv[1], f"{case}.{suffix}"), "wb") as seed:
            seed.write((configuration(case) + content)[:BYTES_MAX])
