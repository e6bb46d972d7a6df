"""The world packet cases live in, and the means to write one. Imported by generate.py and the *_cases.py.

Nothing here knows the gateway's code: what has to come out is built by scapy from the same description as what goes in.
"""
import json
import struct

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

# The gateway's interfaces and neighbours; test/netns/world.ts makes them so.
INSIDE_MAC = "02:00:00:00:00:01"
OUTSIDE_MAC = "02:00:00:00:00:02"
HOP_MAC = "02:00:00:00:00:03"  # of the default gateway, 172.30.82.95 and 2001:db8:2::95
ONLINK = "172.30.82.77"
ONLINK_MAC = "02:00:00:00:00:77"
SILENT = "172.30.82.66"  # on the outside link, and answers nobody
UNREACHABLE = "198.18.0.1"  # an unreachable route covers it
OUTSIDE_MTU = 1500

PEER = "192.0.2.9"
VTEP = "192.0.2.1"
PEER6 = "2001:db8:1::9"
VTEP6 = "2001:db8:1::1"
SENDER_MAC = "02:00:00:00:00:99"

CLIENT = "10.0.0.5"
SERVER = "203.0.113.9"
CLIENT6 = "2001:db8:10::5"
SERVER6 = "2001:db8:113::9"
TARGET = "172.30.82.95"

BASE = """version: 1
inside:
  interface: in0
  vxlan: {}
outside:
  interface: out0
"""


def config(extra="", vxlan=None, inside=None, outside=None):
    """The configuration of most cases, with more at its end; `vxlan`, `inside`, `outside` replace their lines."""
    text = BASE
    if vxlan is not None:
        text = text.replace("  vxlan: {}\n", f"  vxlan: {vxlan}\n")
    if inside is not None:
        text = text.replace("  vxlan: {}\n", inside)
    if outside is not None:
        text = text.replace("  interface: out0\n", outside)
    return text + extra


RULES = config(
    """nat:
  destination:
    - { protocol: udp, port: 31765, to: "172.30.82.95:8081" }
    - { protocol: tcp, port: 8080, to: "172.30.82.95:8082" }
    - { protocol: any, port: 7000, to: "198.51.100.7:7001" }
"""
)


def payload(length, seed=0):
    return bytes((seed * 7 + i * 31 + i // 251) % 256 for i in range(length))


def udp(source=CLIENT, destination=SERVER, sport=5000, dport=9, data=b"vxpipe", ip=None, **fields):
    return IP(src=source, dst=destination, id=fields.pop("id", 7), **(ip or {})) / UDP(sport=sport, dport=dport, **fields) / Raw(data)


def tcp(source=CLIENT, destination=SERVER, sport=5000, dport=9, data=b"vxpipe", ip=None, **fields):
    return IP(src=source, dst=destination, id=fields.pop("id", 7), **(ip or {})) / TCP(sport=sport, dport=dport, **fields) / Raw(data)


def udp6(source=CLIENT6, destination=SERVER6, sport=5000, dport=9, data=b"vxpipe", **fields):
    return IPv6(src=source, dst=destination) / UDP(sport=sport, dport=dport, **fields) / Raw(data)


def inner(packet):
    """The frame of an inner packet."""
    return Ether(dst="02:00:00:00:00:aa", src="02:00:00:00:00:bb") / packet


def vxlan_header(vni=100, flags=0x08, reserved1=0, reserved2=0):
    return struct.pack("!BBHI", flags, reserved1 >> 16, reserved1 & 0xFFFF, vni << 8 | reserved2)


def tunnel_bytes(content, source=PEER, destination=VTEP, sport=49200, port=4789, link=None, ip=None, ip_options=None, **udp_fields):
    """A tunnel packet around any bytes, from the Ethernet header on. IPv6 where the source is."""
    link = link or Ether(dst=INSIDE_MAC, src=SENDER_MAC)
    if ":" in source:
        network = IPv6(src=source, dst=destination, **(ip or {}))
    else:
        network = IP(src=source, dst=destination, id=1, **(ip or {}))
    return link / network / UDP(sport=sport, dport=port, **{"chksum": 0, **udp_fields}) / Raw(content)


def tunnel(packet, vni=100, flags=0x08, reserved1=0, reserved2=0, **outer):
    """An inner packet (an IP packet, or a frame, or raw bytes of a frame) in VXLAN."""
    if isinstance(packet, (IP, IPv6)):
        packet = inner(packet)
    return tunnel_bytes(vxlan_header(vni, flags, reserved1, reserved2) + bytes(packet), **outer)


def leaves(packet, mac=HOP_MAC):
    """The frame in which a packet leaves."""
    return Ether(dst=mac, src=OUTSIDE_MAC) / packet


def fold(total):
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def words(data):
    data = bytes(data) + b"\0" * (len(data) % 2)
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def pseudo_sum(packet):
    """What a sender that leaves the checksum to hardware writes: the pseudo-header's sum, not complemented."""
    header = packet.copy()
    segment = bytes(header.payload)
    raw = bytes(header)
    if isinstance(header, IPv6):
        return fold(words(raw[8:40]) + raw[6] + len(segment))
    return fold(words(raw[12:20]) + raw[9] + len(segment))


def adjusted(check, before, after):
    """A checksum after its data changed from `before` to `after`: RFC 1624 equation 3."""
    total = (~check & 0xFFFF) + words(after)
    for i in range(0, len(before), 2):
        total += ~struct.unpack("!H", before[i : i + 2])[0] & 0xFFFF
    return ~fold(total) & 0xFFFF


class Case:
    def __init__(self, name, sentence, text):
        self.name, self.sentence, self.config = name, sentence, text
        self.frames, self.expected = [], []
        self.counters = {
            "received": 0,
            "forwarded": 0,
            "passed": 0,
            "pending": 0,
            "translated": 0,
            "checksumCompleted": 0,
            "fragmentsExtra": 0,
            "originated": 0,
            "dropped": {},
        }

    def arrives(self, frame):
        self.frames.append(bytes(frame))
        self.counters["received"] += 1

    def forward(self, frame, *out, translated=0, completed=0):
        """`out` is what leaves for this frame, in order; more than one are fragments."""
        self.arrives(frame)
        self.expected += [bytes(one) for one in out]
        self.counters["forwarded"] += 1
        self.counters["fragmentsExtra"] += len(out) - 1
        self.counters["translated"] += translated
        self.counters["checksumCompleted"] += completed

    def hold(self, frame, *out, translated=0):
        """A frame that waits; `out` is what leaves once the frames before and after it allow."""
        self.arrives(frame)
        self.expected += [bytes(one) for one in out]
        self.counters["forwarded"] += 1
        self.counters["translated"] += translated

    def passes(self, frame):
        self.arrives(frame)
        self.counters["passed"] += 1

    def drop(self, reason, frame):
        self.arrives(frame)
        self.counters["dropped"][reason] = self.counters["dropped"].get(reason, 0) + 1

    def files(self):
        return {
            "description.txt": (self.sentence + "\n").encode(),
            "config.yaml": self.config.encode(),
            "in.pcap": pcap(self.frames),
            "out.pcap": pcap(self.expected),
            "counters.json": (json.dumps(self.counters, indent=2) + "\n").encode(),
        }


def pcap(frames):
    """A capture with one frame a millisecond, whichever machine writes it."""
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for i, frame in enumerate(frames):
        data += struct.pack("<IIII", 1_700_000_000 + i // 1000, i % 1000 * 1000, len(frame), len(frame)) + frame
    return data
