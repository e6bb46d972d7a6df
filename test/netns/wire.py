#!/usr/bin/python3
"""Frames in and out of an interface, untouched: raw AF_PACKET sockets driven by lines on standard input.

  wire.py send INTERFACE      a line names a capture; all of it is sent; prints {"sent": N}
  wire.py collect INTERFACE   prints {"ready": true}; each line prints {"frames": [hex, ...]} that came in since the last

Run by test/netns/wire.ts inside a bed's namespace; one thread.
"""
import json
import socket
import struct
import sys

ETH_P_ALL = 3
PACKET_OUTGOING = 4
SO_RCVBUFFORCE = 33


def open_socket(interface, protocol):
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    raw.bind((interface, protocol))
    return raw


def say(value):
    print(json.dumps(value), flush=True)


def frames_of(path):
    with open(path, "rb") as file:
        data = file.read()
    at = 24
    while at < len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        yield data[at + 16 : at + 16 + length]
        at += 16 + length


def send(interface):
    raw = open_socket(interface, 0)
    for line in sys.stdin:
        sent = 0
        for frame in frames_of(line.strip()):
            raw.send(frame)
            sent += 1
        say({"sent": sent})


def collect(interface):
    raw = open_socket(interface, ETH_P_ALL)
    raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    raw.setblocking(False)
    say({"ready": True})
    for _ in sys.stdin:
        frames = []
        while True:
            try:
                frame, address = raw.recvfrom(65536)
            except BlockingIOError:
                break
            if address[2] != PACKET_OUTGOING:
                frames.append(frame.hex())
        say({"frames": frames})


{"send": send, "collect": collect}[sys.argv[1]](sys.argv[2])
