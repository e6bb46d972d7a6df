#!/usr/bin/python3
"""Receives datagrams, however late it is to read them: udp_receive.py ADDRESS PORT COUNT

Prints {"ready": true}; when its standard input is closed, and COUNT are there or no more come, one line with count, bytes and
the digest that endpoint.ts's sender has too. Run by test/bed/endpoints.ts inside a bed's namespace. Not JavaScript: only
SO_RCVBUFFORCE goes beyond the host's limit, and a veth's frames fill that with 64 datagrams.
"""
import hashlib
import json
import os
import select
import socket
import sys

SO_RCVBUFFORCE = 33
LATE_S = 3


def main(address, port, expected):
    receiver = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    receiver.bind((address, port))
    print(json.dumps({"ready": True}), flush=True)
    digests, octets, ending = [], 0, False
    while not ending or len(digests) < expected:
        watched = [receiver] if ending else [receiver, sys.stdin]
        readable, _, _ = select.select(watched, [], [], LATE_S if ending else None)
        if not readable:
            break
        if receiver in readable:
            datagram = receiver.recv(1 << 16)
            digests.append(hashlib.sha256(datagram).hexdigest())
            octets += len(datagram)
        if sys.stdin in readable:
            ending = os.read(0, 1 << 10) == b""
    digest = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    print(json.dumps({"count": len(digests), "bytes": octets, "digest": digest}))


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
