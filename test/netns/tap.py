#!/usr/bin/python3
"""A tap device's other end: prints the ARP requests and other frames that come out of it, and answers as it is told.

Usage: tap.py NAME ADDRESS MAC (answer|mute|kernel-only). A request for ADDRESS is answered with MAC; with kernel-only from
the third on, as a driver would look that loses redirected frames and no others. Each frame is a line of JSON. Until
standard input ends. Started by the namespace tests, in the gateway's namespace; needs root.
"""

import fcntl
import json
import os
import select
import socket
import struct
import sys

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000


def main() -> None:
    name, address, mac, how = sys.argv[1:]
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
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
        if how == "answer" or (how == "kernel-only" and requests > 2):
            reply = frame[6:12] + own_mac + b"\x08\x06" + frame[14:20] + b"\0\2" + own_mac + own + frame[22:32]
            os.write(tap, reply)


main()
