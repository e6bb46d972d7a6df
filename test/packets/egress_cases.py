"""Cases about the way out: next hops, DF, TTL, packets that don't fit."""
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from world import *


def pieces(packet, mtu=OUTSIDE_MTU):
    """RFC 791 fragmentation: every piece as large as fits; options go where their copied bit says."""
    raw = bytes(packet)
    header = (raw[0] & 15) * 4
    options, kept, at = raw[20:header], b"", 0
    while at < len(options) and options[at]:
        length = 1 if options[at] == 1 else options[at + 1]
        if options[at] & 0x80:
            kept += options[at : at + length]
        at += length
    kept += b"\0" * (-len(kept) % 4)
    data, out, done = raw[header:], [], 0
    while done < len(data):
        own = options if done == 0 else kept
        room = mtu - 20 - len(own)
        size = len(data) - done if len(data) - done <= room else room & ~7
        more = done + size < len(data)
        head = bytearray(raw[:20] + own)
        head[0] = 0x40 | len(head) // 4
        head[2:4] = struct.pack("!H", len(head) + size)
        head[6:8] = struct.pack("!H", more << 13 | done // 8)
        head[10:12] = b"\0\0"
        head[10:12] = struct.pack("!H", ~fold(words(head)) & 0xFFFF)
        out.append(IP(bytes(head) + data[done : done + size]))
        done += size
    return out


def fragmented(case, packet, became=None, **counted):
    case.forward(tunnel(packet), *[leaves(piece) for piece in pieces(became or packet)], **counted)


def next_hops():
    case = Case("next-hops", "Each packet goes to the neighbour of its own route: gateway, on-link, multicast.", config())
    for destination, mac in (
        (SERVER, HOP_MAC),
        (TARGET, HOP_MAC),
        (ONLINK, ONLINK_MAC),
        ("239.1.2.3", "01:00:5e:01:02:03"),
        ("224.128.0.5", "01:00:5e:00:00:05"),
    ):
        packet = udp(destination=destination)
        case.forward(tunnel(packet), leaves(packet, mac))
    yield case

    case = Case("no-route", "A destination without a route through the outside interface is a named drop, translated or not.",
                config(f"""nat:
  destination:
    - {{ protocol: udp, port: 7, to: "{UNREACHABLE}:7" }}
"""))
    for destination in (UNREACHABLE, "192.0.2.50", "192.0.2.2", "127.0.0.1", "0.1.2.3", "255.255.255.255", "172.30.82.255"):
        case.drop("no_route", tunnel(udp(destination=destination)))
    case.drop("no_route", tunnel(udp(dport=7)))
    case.drop("no_route", tunnel(udp(destination="172.30.82.1")))
    yield case

    case = Case("no-neighbour", "Packets to a neighbour that does not answer are a named drop, those that waited included.", config())
    for sport in range(5):
        case.drop("no_neighbour", tunnel(udp(destination=SILENT, sport=1000 + sport)))
    case.forward(tunnel(udp()), leaves(udp()))
    yield case

    mac = "02:00:00:00:0a:0b"
    case = Case("next-hop-fixed", "With one next hop configured everything goes to it, whatever the routes say.",
                config(outside=f'  interface: out0\n  nextHop: "{mac}"\n') + RULES[len(config()):])
    for destination in (SERVER, ONLINK, UNREACHABLE, "192.0.2.50", "239.1.2.3"):
        packet = udp(destination=destination)
        case.forward(tunnel(packet), leaves(packet, mac))
    case.forward(tunnel(udp(dport=31765)), leaves(udp(destination=TARGET, dport=8081), mac), translated=1)
    large = udp(data=payload(2000))
    case.forward(tunnel(large), *[leaves(piece, mac) for piece in pieces(large)])
    yield case

    case = Case("next-hops-ipv6", "IPv6 destinations have routes, neighbours and groups of their own.", config("packet:\n  ipv6: forward\n"))
    for destination, mac in (
        (SERVER6, HOP_MAC),
        ("2001:db8:2::77", ONLINK_MAC),
        ("ff05::1:3", "33:33:00:01:00:03"),
    ):
        packet = udp6(destination=destination)
        case.forward(tunnel(packet), leaves(packet, mac))
    case.drop("no_route", tunnel(udp6(destination="2001:db8:dead::1")))
    yield case


def header_changes():
    case = Case("df-cleared", "DF is cleared when configured, and only DF.", config("packet:\n  clearDontFragment: true\n") + RULES[len(config()):])
    for flags in ("DF", 0, "evil", "DF+evil"):
        ip = {"flags": flags}
        out = {"flags": str(flags).replace("DF+", "").replace("DF", "") if flags else 0}
        out["flags"] = out["flags"] or 0
        case.forward(tunnel(udp(ip=ip)), leaves(udp(ip=out)))
        case.forward(tunnel(tcp(dport=8080, ip=ip)), leaves(tcp(destination=TARGET, dport=8082, ip=out)), translated=1)
    fragmented(case, udp(data=payload(2000), ip={"flags": "DF"}), udp(data=payload(2000)))
    yield case

    case = Case("df-kept", "DF stays as it is unless configured otherwise.", config())
    for flags in ("DF", 0):
        case.forward(tunnel(udp(ip={"flags": flags})), leaves(udp(ip={"flags": flags})))
    yield case

    case = Case("ttl-kept", "TTL stays as it is unless configured otherwise, even at 0.", config())
    for ttl in (0, 1, 64, 255):
        case.forward(tunnel(udp(ip={"ttl": ttl})), leaves(udp(ip={"ttl": ttl})))
    yield case

    case = Case("ttl-decremented", "TTL and hop limit go down by one when configured, and what runs out is a named drop.",
                config("packet:\n  decrementTtl: true\n  ipv6: forward\n") + RULES[len(config()):])
    for ttl in (2, 64, 128, 255):
        case.forward(tunnel(udp(ip={"ttl": ttl})), leaves(udp(ip={"ttl": ttl - 1})))
        rule = udp(destination=TARGET, dport=8081, ip={"ttl": ttl - 1})
        case.forward(tunnel(udp(dport=31765, ip={"ttl": ttl})), leaves(rule), translated=1)
        six = udp6()
        six.hlim = ttl
        out = udp6()
        out.hlim = ttl - 1
        case.forward(tunnel(six), leaves(out))
    for ttl in (0, 1):
        case.drop("ttl_expired", tunnel(udp(ip={"ttl": ttl})))
        six = udp6()
        six.hlim = ttl
        case.drop("ttl_expired", tunnel(six))
    fragmented(case, udp(data=payload(2000), ip={"ttl": 9}), udp(data=payload(2000), ip={"ttl": 8}))
    yield case


def sizes():
    case = Case("too-big", "What does not fit outside and is not to be fragmented is a named drop; what just fits leaves.",
                config("packet:\n  ipv6: forward\n") + RULES[len(config()):])
    fits = udp(data=payload(1472), ip={"flags": "DF"})
    assert len(fits) == OUTSIDE_MTU
    case.forward(tunnel(fits), leaves(fits))
    case.drop("too_big", tunnel(udp(data=payload(1473), ip={"flags": "DF"})))
    case.drop("too_big", tunnel(udp(data=payload(3000), ip={"flags": "DF"}, dport=31765)))
    case.drop("too_big", tunnel(tcp(data=payload(1461), ip={"flags": "DF"})))
    fits6 = udp6(data=payload(1452))
    case.forward(tunnel(fits6), leaves(fits6))
    case.drop("too_big", tunnel(udp6(data=payload(1453))))
    yield case

    case = Case("fragmented", "What does not fit outside is fragmented where DF is clear, as large as fits.", RULES)
    for size in (1473, 1480, 1481, 2952, 2953, 3200):
        fragmented(case, udp(data=payload(size), id=size))
    fragmented(case, tcp(data=payload(2500)))
    fragmented(case, udp(dport=31765, data=payload(2000)), udp(destination=TARGET, dport=8081, data=payload(2000)), translated=1)
    large = tcp(dport=8080, data=payload(2000))
    large[TCP].chksum = pseudo_sum(tcp(dport=8080, data=payload(2000), chksum=0))
    fragmented(case, large, tcp(destination=TARGET, dport=8082, data=payload(2000)), translated=1, completed=1)
    yield case

    case = Case("fragmented-options", "Of the options only those with the copied bit are in later fragments.", config())
    for options in (b"\x94\x04\x00\x00", b"\x07\x07\x04\0\0\0\0\x00", b"\x01\x94\x04\x00\x00\x07\x07\x04\0\0\0\0"):
        fragmented(case, udp(data=payload(2000), ip={"options": options}))
    yield case

    case = Case("fragments-again", "A fragment too big for the outside is fragmented further, with its place in the datagram.", config())
    whole = udp(data=payload(8000))
    for piece in pieces(whole, 3000):
        if len(piece) <= OUTSIDE_MTU:
            case.forward(tunnel(piece), leaves(piece))
            continue
        smaller = pieces(IP(bytes(piece)))
        base = piece.frag
        for one in smaller:
            one.frag += base
            if piece.flags & 1:
                one.flags = 1
            del one.chksum
        case.forward(tunnel(piece), *[leaves(one) for one in smaller])
    yield case


def plain_ethernet():
    case = Case("ethernet", "With no VXLAN inside, the frames addressed to the interface are the packets.",
                config(inside="") + RULES[len(config()):])

    def frame(packet, destination=INSIDE_MAC):
        return Ether(dst=destination, src=SENDER_MAC) / packet

    case.forward(frame(udp()), leaves(udp()))
    case.forward(frame(udp(dport=31765)), leaves(udp(destination=TARGET, dport=8081)), translated=1)
    case.forward(frame(tcp(dport=8080)), leaves(tcp(destination=TARGET, dport=8082)), translated=1)
    vxlan = IP(bytes(tunnel(udp(), destination=SERVER).payload))
    case.forward(frame(vxlan), leaves(vxlan))
    case.forward(bytes(frame(udp())).ljust(80, b"\xee"), leaves(udp()))
    large = udp(data=payload(2000))
    case.forward(frame(large), *[leaves(piece) for piece in pieces(large)])
    case.passes(frame(udp(), "02:00:00:00:00:0f"))
    case.passes(frame(udp(), "ff:ff:ff:ff:ff:ff"))
    case.passes(frame(udp(), "01:00:5e:01:02:03"))
    case.passes(frame(udp(destination="192.0.2.2")))
    case.passes(frame(udp(destination="172.30.82.1")))
    case.passes(Ether(dst=INSIDE_MAC, src=SENDER_MAC, type=0x0806) / Raw(b"\0" * 28))
    case.drop("no_route", frame(udp(destination=UNREACHABLE)))
    case.drop("ipv6", frame(udp6()))
    case.drop("truncated", bytes(frame(udp(data=payload(100))))[:60])
    yield case


def cases():
    yield from next_hops()
    yield from header_changes()
    yield from sizes()
    yield from plain_ethernet()
