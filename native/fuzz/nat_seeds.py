#!/usr/bin/python3
"""Writes sequences of packets for nat_fuzz: a flow of each kind and its replies, errors, fragments. Called by make-corpus."""
import sys
from pathlib import Path

from scapy.all import ICMP, IP, TCP, UDP, Raw, fragment, raw

INSIDE, REMOTE, PUBLIC = "10.0.0.1", "198.51.100.7", "203.0.113.1"
OUT, IN, MEND, TO_POOL, PORT = 0, 1, 8, 32, 64


def step(what, packet):
    data = raw(packet)
    return bytes([what, len(data)]) + data


def wait(seconds):
    return bytes([seconds, 0])


def flow(layer, reply):
    return [
        step(OUT | MEND, IP(src=INSIDE, dst=REMOTE) / layer),
        step(IN | MEND | TO_POOL | PORT, IP(src=REMOTE, dst=PUBLIC) / reply),
    ]


udp = UDP(sport=5000, dport=53) / Raw(b"x" * 40)
cases = {
    "udp": flow(udp, UDP(sport=53, dport=5000) / Raw(b"y" * 9)),
    "tcp": flow(TCP(sport=5000, dport=80, flags="S", options=[("MSS", 1460)]), TCP(sport=80, flags="SA"))
    + [step(OUT, IP(src=INSIDE, dst=REMOTE) / TCP(sport=5000, dport=80, flags="FA")), wait(250)],
    "echo": flow(ICMP(type=8, id=7), ICMP(type=0, id=7)),
    "hairpin": flow(udp, udp) + [step(OUT | MEND, IP(src="10.0.0.2", dst=PUBLIC) / UDP(sport=81, dport=81))],
    "forward": [step(IN | MEND, IP(src=REMOTE, dst=PUBLIC) / TCP(sport=9, dport=80, flags="S")), wait(10)],
    "ttl": [step(OUT, IP(src=INSIDE, dst=REMOTE, ttl=1) / udp)],
    "fragments": [
        step(what, piece)
        for what, source, target in ((OUT, INSIDE, REMOTE), (IN, REMOTE, PUBLIC), (OUT, INSIDE, PUBLIC))
        for piece in reversed(fragment(IP(src=source, dst=target, id=7) / udp, fragsize=24))
    ],
    "errors": flow(udp, udp)
    + [
        step(IN | MEND | TO_POOL, IP(src="192.0.2.1", dst=PUBLIC) / ICMP(type=3, code=4) / IP(src=PUBLIC, dst=REMOTE) / udp),
        step(OUT | MEND, IP(src=INSIDE, dst=REMOTE) / ICMP(type=3, code=3) / IP(src=REMOTE, dst=INSIDE) / UDP(sport=53, dport=5000)),
        wait(200),
        wait(255),
    ],
}
for shape in (0, 1, 2, 4, 120):
    for name, steps in cases.items():
        Path(sys.argv[1], f"{name}-{shape}").write_bytes(bytes([shape]) + b"".join(steps))
