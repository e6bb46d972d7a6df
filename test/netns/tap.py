#!/usr/bin/python3
"""A tap device's other end: prints the ARP requests and other frames that come out of it, and answers as it is told.

Usage: tap.py NAME ADDRESS MAC (answer|mute|kernel-only|no-afxdp). A request for ADDRESS is answered with MAC; with
kernel-only from the third on, as a driver would look that loses redirected frames and no others. With no-afxdp the device
refuses what is sent by AF_XDP TX: its filter wants to know a frame's protocol, which only the kernel's ordinary sending notes,
and which is not asked of redirected frames. Each frame is a line of JSON. Until standard input ends. Started by the
namespace tests, in the gateway's namespace; needs root.
"""

import ctypes
import fcntl
import json
import os
import select
import socket
import struct
import sys

TUNSETIFF, TUNATTACHFILTER = 0x400454CA, 0x401054D5
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000


def refuse_what_has_no_protocol(tap: int) -> None:
    """ld proto; jeq #0, refuse; ret #-1; refuse: ret #0"""
    code = ((0x20, 0, 0, 0xFFFFF000), (0x15, 1, 0, 0), (0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0))
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
    fcntl.ioctl(tap, TUNATTACHFILTER, struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program)))


def main() -> None:
    name, address, mac, how = sys.argv[1:]
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    if how == "no-afxdp":
        refuse_what_has_no_protocol(tap)
    print(json.dumps({"ready": True}), flush=True)
    own_mac, own = bytes.fromhex(mac.replace(":", "")), socket.inet_aton(address)
    requests = 0
    while True:
        readable, _, _ = select.select([tap, sys.stdin], [], [])
        if sys.stdin in readable:
            return
        frame = os.read(tap, 65536)
        kind = int.from_bytes(frame[12:14], "big")
        is_request = kind == 0x0806 and frame[20:22] == b"\0\1"
        print(json.dumps({"type": kind, "for": socket.inet_ntoa(frame[38:42]) if is_request else None}), flush=True)
        if not is_request or frame[38:42] != own:
            continue
        requests += 1
        if how in ("answer", "no-afxdp") or (how == "kernel-only" and requests > 2):
            reply = frame[6:12] + own_mac + b"\x08\x06" + frame[14:20] + b"\0\2" + own_mac + own + frame[22:32]
            os.write(tap, reply)


main()
