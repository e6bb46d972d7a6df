#!/usr/bin/env python3
"""Binds an AF_XDP socket to an interface's queue 0, as another program may, until standard input ends.

Usage: occupy_queue.py INTERFACE. Says "bound" when it is. Started by the namespace tests; needs root.
"""

import ctypes
import mmap
import os
import socket
import struct
import sys

AF_XDP, SOL_XDP = 44, 283
RX_RING, UMEM_REG, FILL_RING, COMPLETION_RING = 2, 4, 5, 6
COPY = 1 << 1
FRAME_BYTES, FRAMES = 4096, 16

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    taker = socket.socket(AF_XDP, socket.SOCK_RAW)
    memory = mmap.mmap(-1, FRAME_BYTES * FRAMES)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    taker.setsockopt(SOL_XDP, UMEM_REG, struct.pack("=QQIIII", address, len(memory), FRAME_BYTES, 0, 0, 0))
    for ring in FILL_RING, COMPLETION_RING, RX_RING:
        taker.setsockopt(SOL_XDP, ring, struct.pack("=I", FRAMES))
    name = struct.pack("=HHIII", AF_XDP, COPY, socket.if_nametoindex(sys.argv[1]), 0, 0)
    if libc.bind(taker.fileno(), name, len(name)) < 0:
        raise OSError(ctypes.get_errno(), f"bind({sys.argv[1]})")
    print("bound", flush=True)
    sys.stdin.read()
    os._exit(0)  # the memory is still pointed at


main()
