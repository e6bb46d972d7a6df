"""A case of source NAT, and the frames around its packets. Imported by cases.py.

Addresses and MACs are those a replay has (test/packets/world.py). Nothing here knows the gateway's code, but for how it
chooses outer source ports, which RFC 7348 leaves to it.
"""
import json
import struct

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from world import HOP_MAC, INSIDE_MAC, OUTSIDE_MAC, PEER, SENDER_MAC, VTEP, tunnel_bytes, vxlan_header

HOST_MAC, ROUTER_MAC = "02:00:00:00:00:bb", "02:00:00:00:00:aa"  # in the tunnel
A, B, ROUTER = "10.0.0.5", "10.0.0.6", "10.0.0.1"
R, R2 = "198.51.100.7", "198.51.100.8"
P, P2 = "203.0.113.1", "203.0.113.2"
START = 1_700_000_000_000_000  # times are in microseconds; packets arrive a millisecond apart

BASE = """version: 1
inside: { interface: in0, vxlan: {} }
outside: { interface: out0 }
nat:
  source:
    pools: [{ addresses: ["203.0.113.1"], ports: "1024-65535" }]
"""


def spread(x):
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ x >> shift) * factor & 0xFFFFFFFF
    return x ^ x >> 16


def source_port(packet):
    """The outer one, by the inner flow."""
    raw = bytes(packet)
    source, destination = struct.unpack("<II", raw[12:20])
    ports = 0
    if packet.proto in (6, 17) and not packet.frag and not packet.flags.MF:
        (ports,) = struct.unpack("<I", raw[20:24])
    return 49152 + (spread(source ^ spread(destination ^ spread(ports ^ packet.proto))) >> 18)


def parsed(packet):
    """With every length and checksum computed anew, from the header at hand."""
    packet = packet.copy()
    for layer in (IP, UDP, TCP, ICMP):
        if layer in packet and layer is not IP:
            del packet[layer].chksum
    del packet[IP].chksum
    return IP(bytes(packet))


def changed(packet, src=None, dst=None, sport=None, dport=None, icmp_id=None, id=None, hops=1):
    """The packet translated, one hop further, with checksums computed from nothing."""
    packet = packet.copy()
    no_checksum = UDP in packet and IP(bytes(packet))[UDP].chksum == 0
    packet.src, packet.dst = src or packet.src, dst or packet.dst
    packet.ttl -= hops
    if id is not None:
        packet.id = id
    layer = packet.payload
    if sport is not None:
        layer.sport = sport
    if dport is not None:
        layer.dport = dport
    if icmp_id is not None:
        layer.id = icmp_id
    packet = parsed(packet)
    if no_checksum:
        packet[UDP].chksum = 0
    return packet


def udp(src, dst, sport, dport, data=b"vxpipe", flags="DF", **fields):
    return IP(src=src, dst=dst, flags=flags, id=7, **fields) / UDP(sport=sport, dport=dport) / Raw(data)


def tcp(src, dst, sport, dport, bits, data=b"", **fields):
    return IP(src=src, dst=dst, flags="DF", id=7, **fields) / TCP(sport=sport, dport=dport, flags=bits) / Raw(data)


def echo(src, dst, id, reply=False, **fields):
    return IP(src=src, dst=dst, flags="DF", id=7, **fields) / ICMP(type=0 if reply else 8, id=id, seq=1) / Raw(b"ping")


def error(src, dst, kind, code, quoted, mtu=0, flags="DF", id=7, **fields):
    return IP(src=src, dst=dst, flags=flags, id=id, **fields) / ICMP(type=kind, code=code, nexthopmtu=mtu) / Raw(bytes(quoted))


def pieces(packet, mtu):
    """An IPv4 packet without options in fragments as large as fit."""
    room, data = (mtu - 20) // 8 * 8, bytes(packet)[20:]
    out = []
    for at in range(0, len(data), room):
        piece = IP(bytes(packet)[:20])
        piece.remove_payload()
        del piece.chksum, piece.len
        piece.frag = packet.frag + at // 8
        piece.flags = "MF" if at + room < len(data) or packet.flags.MF else 0
        out.append(IP(bytes(piece / Raw(data[at : at + room]))))
    return out


class NatCase:
    def __init__(self, name, sentence, more="", config=BASE, plain=False, tags=(), peer=PEER, vtep=VTEP):
        self.name, self.sentence = name, sentence
        self.config = config + more
        self.plain, self.tags, self.peer, self.vtep = plain, tags, peer, vtep
        self.captures = {"in": [], "return": [], "out": [], "return-out": []}
        self.time = START
        self.outer_id = 0
        self.allowed = None
        self.counters = {
            side: {"received": 0, "forwarded": 0, "passed": 0, "pending": 0, "dropped": {}} for side in ("inside", "outside")
        }
        self.counters.update(fragmentsExtra=0, originated=0)

    def put(self, capture, frame, time=None):
        self.captures[capture].append((self.time if time is None else time, bytes(frame)))

    def wait(self, seconds):
        self.time += round(seconds * 1_000_000)

    def arrives(self, side, frame):
        self.time += 1000
        self.put("in" if side == "inside" else "return", frame)
        self.counters[side]["received"] += 1

    def fate(self, side, name):
        counts = self.counters[side]
        if name in ("forwarded", "passed"):
            counts[name] += 1
        else:
            counts["dropped"][name] = counts["dropped"].get(name, 0) + 1

    def link(self, dst, src):
        frame = Ether(dst=dst, src=src)
        for tag in self.tags:
            frame = frame / tag.copy()
        return frame

    def inner(self, packet, vni=100, macs=(ROUTER_MAC, HOST_MAC), ip=None):
        link = self.link(INSIDE_MAC, SENDER_MAC)
        if self.plain:
            return link / packet
        frame = Ether(dst=macs[0], src=macs[1]) / packet
        return tunnel_bytes(vxlan_header(vni) + bytes(frame), source=self.peer, destination=self.vtep, link=link, ip=ip)

    # A packet comes from inside or outside; what leaves for it is told by leaves() and returns().
    def from_inside(self, packet, fate="forwarded", **where):
        self.arrives("inside", self.inner(packet, **where))
        self.fate("inside", fate)

    def from_outside(self, packet, fate="forwarded"):
        self.arrives("outside", Ether(dst=OUTSIDE_MAC, src=HOP_MAC) / packet)
        self.fate("outside", fate)

    def leaves(self, packet, time=None):
        self.put("out", Ether(dst=HOP_MAC, src=OUTSIDE_MAC) / packet, time)

    def returns(self, packet, vni=100, macs=(HOST_MAC, ROUTER_MAC), flow=None):
        link = self.link(SENDER_MAC, INSIDE_MAC)
        if self.plain:
            return self.put("return-out", link / packet)
        frame = Ether(dst=macs[0], src=macs[1]) / packet
        port = source_port(flow or packet) if IP in packet else 49152
        tos = packet.tos & 3 if IP in packet else 0
        payload = Raw(vxlan_header(vni) + bytes(frame))
        if ":" in self.vtep:  # RFC 6935 aside: with a checksum
            outer = link / IPv6(src=self.vtep, dst=self.peer, hlim=64, tc=tos) / UDP(sport=port, dport=4789)
        else:
            outer = link / IP(src=self.vtep, dst=self.peer, id=self.outer_id, ttl=64, tos=tos)
            outer = outer / UDP(sport=port, dport=4789, chksum=0)
        self.outer_id += 1
        self.put("return-out", outer / payload)

    def originates(self, count=1):
        self.counters["originated"] += count

    def files(self):
        files = {f"{name}.pcap": pcap(frames) for name, frames in self.captures.items()}
        if self.allowed:
            files["allowed.txt"] = self.allowed.encode()
        return files | {
            "description.txt": (self.sentence + "\n").encode(),
            "config.yaml": self.config.encode(),
            "counters.json": (json.dumps(self.counters, indent=2) + "\n").encode(),
        }


def pcap(frames):
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for time, frame in frames:
        data += struct.pack("<IIII", *divmod(time, 1_000_000), len(frame), len(frame)) + frame
    return data
