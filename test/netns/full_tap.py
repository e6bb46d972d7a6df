#!/usr/bin/python3
"""A far end that takes what its queue holds and reads only when it is told to: a tap interface.

  full_tap.py INTERFACE   makes it in this network namespace; prints {"ready": true}; each line on standard input reads all that
                     is there and prints {"sequences": [...]}, the numbers of the generated packets (native/bench/traffic.h)

Run by test/netns/full-tap.ts inside a bed's namespace; one thread. The interface goes with the process.
"""
import fcntl
import json
import os
import struct
import sys

TUNSETIFF = 0x400454CA
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
MAGIC_AT = 14 + 20 + 8
SEQUENCE_AT = MAGIC_AT + 8
MAGIC = 0x5658


def read_all(fd):
    while True:
        try:
            yield os.read(fd, 65536)
        except BlockingIOError:
            return


def is_generated(frame):
    return len(frame) >= SEQUENCE_AT + 8 and struct.unpack_from("<H", frame, MAGIC_AT)[0] == MAGIC


def main():
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", sys.argv[1].encode(), IFF_TAP | IFF_NO_PI))
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        frames = [frame for frame in read_all(fd) if is_generated(frame)]
        print(json.dumps({"sequences": [struct.unpack_from("<Q", f, SEQUENCE_AT)[0] for f in frames]}), flush=True)


main()
