"""Cases about ECN: what the outer header says of congestion is merged into the packet (RFC 6040 section 4.2)."""
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

from egress_cases import pieces
from filter_cases import Listed
from world import *

NOT_ECT, ECT1, ECT0, CE = range(4)  # RFC 3168 section 5
DROP = None
# RFC 6040 figure 4: by the inner field, then by the outer one.
FIGURE_4 = {
    NOT_ECT: {NOT_ECT: NOT_ECT, ECT0: NOT_ECT, ECT1: NOT_ECT, CE: DROP},
    ECT0: {NOT_ECT: ECT0, ECT0: ECT0, ECT1: ECT1, CE: CE},
    ECT1: {NOT_ECT: ECT1, ECT0: ECT1, ECT1: ECT1, CE: CE},
    CE: {NOT_ECT: CE, ECT0: CE, ECT1: CE, CE: CE},
}
CELLS = [(mine, outer, merged) for mine, row in FIGURE_4.items() for outer, merged in row.items()]
INNER_DSCP, OUTER_DSCP = 0x2E << 2, 0x0A << 2
UNDERLAY4 = {"field": "tos"}
UNDERLAY6 = {"field": "tc", "source": PEER6, "destination": VTEP6}


def marked(content, ecn, underlay=UNDERLAY4, ip=None, **outer):
    """A tunnel packet whose outer header has an ECN field, and a DSCP that is nobody's business."""
    where = {name: value for name, value in underlay.items() if name != "field"}
    return tunnel(content, ip={underlay["field"]: OUTER_DSCP | ecn, **(ip or {})}, **where, **outer)


def traffic(packet, ecn):
    """A packet with another ECN field; scapy makes its header checksum again."""
    packet = packet.__class__(bytes(packet))
    if isinstance(packet, IPv6):
        packet.tc = INNER_DSCP | ecn
    else:
        packet.tos = INNER_DSCP | ecn
        del packet.chksum
    return packet


def merge(case, packet, became=None, underlay=UNDERLAY4, mac=HOP_MAC, translated=0, **outer):
    """All of figure 4 for one packet; `became` is it when it leaves, its ECN field aside."""
    for mine, marks, merged in CELLS:
        frame = marked(traffic(packet, mine), marks, underlay, **outer)
        if merged is DROP:
            case.drop("ecn", frame)
        else:
            case.forward(frame, leaves(traffic(became or packet, merged), mac), translated=translated)


def figure():
    case = Case("ecn", "The outer ECN field is merged into the packet as RFC 6040 figure 4 has it, over IPv4 and IPv6.", config())
    for underlay in (UNDERLAY4, UNDERLAY6):
        for build in (udp, tcp):
            merge(case, build(), underlay=underlay)
    merge(case, udp(ip={"options": b"\x01" * 8}))
    yield case

    case = Case("ecn-ipv6", "ECN is merged into inner IPv6 too; the flow label stays.", config("packet:\n  ipv6: forward\n"))
    for underlay in (UNDERLAY4, UNDERLAY6):
        for label in (0, 0xFFFFF):
            packet = udp6()
            packet.fl = label
            merge(case, packet, underlay=underlay)
    yield case


def headers():
    case = Case("ecn-outer", "ECN is found behind VLAN tags of the tunnel, and where its header has options.", config())
    for tags in ([Dot1Q(vlan=5, prio=3)], [Dot1AD(vlan=7), Dot1Q(vlan=5)]):
        link = Ether(dst=INSIDE_MAC, src=SENDER_MAC)
        for tag in tags:
            link = link / tag
        for underlay in (UNDERLAY4, UNDERLAY6):
            merge(case, udp(), underlay=underlay, link=link)
    merge(case, udp(), ip={"options": b"\x94\x04\x00\x00"})
    yield case

    sentence = "Where ECN changes the header checksum follows, through zero too; one that is wrong stays wrong by as much."
    case = Case("ecn-header-checksum", sentence, config())
    for ecn in range(4):
        zero = IP(bytes(traffic(udp(id=0), ecn))).chksum
        for identity in (zero - 1, zero, zero + 1):  # with one of them the checksum is zero, before or after
            merge(case, udp(id=identity))
    for wrong in (0, 1, 0x1234, 0xFFFE, 0xFFFF):
        packet = udp(ip={"tos": ECT0, "chksum": wrong})
        first = bytes(packet)[:1]
        check = adjusted(wrong, first + bytes([ECT0]), first + bytes([CE]))
        case.forward(marked(packet, CE), leaves(udp(ip={"tos": CE, "chksum": check})))
        same = udp(ip={"tos": ECT1, "chksum": wrong})
        case.forward(marked(same, ECT1), leaves(same))
    yield case


def rewritten():
    case = Case("ecn-rule", "ECN is merged whether a rule translates the packet or not, with TTL and DF changed likewise.",
                config("packet:\n  clearDontFragment: true\n  decrementTtl: true\n") + RULES[len(config()):])
    for dport, new_port, target in ((31765, 8081, TARGET), (9, 9, SERVER)):
        packet = udp(dport=dport, ip={"flags": "DF", "ttl": 9})
        became = udp(destination=target, dport=new_port, ip={"ttl": 8})
        for underlay in (UNDERLAY4, UNDERLAY6):
            merge(case, packet, became, underlay, translated=int(dport != 9))
    yield case

    case = Case("ecn-too-big", "A packet that the worker cuts to the outside MTU has its ECN merged in every piece.", config())
    for mine, marks, merged in CELLS:
        packet = traffic(udp(data=payload(1800)), mine)
        if merged is DROP:
            case.drop("ecn", marked(packet, marks))
        else:
            out = [leaves(piece) for piece in pieces(traffic(packet, merged))]
            case.forward(marked(packet, marks), *out)
    yield case


def fragments():
    case = Case("ecn-fragments", "Each fragment has its own tunnel's ECN merged, translated or not, held or not.", RULES)
    for identity, (dport, new_port, target) in enumerate(((31765, 8081, TARGET), (9, 9, SERVER)), 1):
        source = f"10.0.3.{identity}"
        for order in ((0, 1, 2), (1, 2, 0)):
            identity += 16
            arriving = pieces(traffic(udp(source=source, dport=dport, data=payload(1000), id=identity), ECT0), 400)
            leaving = pieces(udp(source=source, destination=target, dport=new_port, data=payload(1000), id=identity), 400)
            outer = (NOT_ECT, CE, ECT1)
            out = [leaves(traffic(piece, FIGURE_4[ECT0][marks])) for piece, marks in zip(leaving, outer)]
            for index in order:
                case.hold(marked(arriving[index], outer[index]), translated=int(dport != 9))
            case.expected += [bytes(frame) for frame in out]
    yield case

    sentence = "A fragment that is refused for its ECN is lost as if on its way: the others leave."
    case = Case("ecn-fragments-lost", sentence, RULES)
    arriving = pieces(udp(dport=31765, data=payload(1000), id=3), 400)
    leaving = pieces(udp(destination=TARGET, dport=8081, data=payload(1000), id=3), 400)
    case.forward(marked(arriving[0], NOT_ECT), leaves(leaving[0]), translated=1)
    case.drop("ecn", marked(arriving[1], CE))
    case.forward(marked(arriving[2], ECT1), leaves(leaving[2]), translated=1)
    yield case


def refused():
    case = Listed("ecn-not-allowed", "What the allowlist refuses is not_allowed whatever its ECN.", [CLIENT], "source",
                  "packet:\n  ipv6: forward\n")
    for marks in range(4):
        case.drop("not_allowed", marked(udp(source="10.0.0.6"), marks))
        case.drop("not_allowed", marked(udp6(), marks))
    merge(case, udp())
    yield case

    case = Case("ecn-order", "Damaged, or no packet of ours, goes before ECN, and ECN before the route.", config())
    case.passes(marked(udp(), CE, port=4790))
    case.drop("vxlan_flags", marked(udp(), CE, flags=0))
    case.drop("truncated", marked(bytes(inner(udp()))[:-8], CE))
    case.drop("ipv6", marked(udp6(), CE))
    case.drop("ecn", marked(udp(destination="127.0.0.1"), CE))
    case.drop("no_route", marked(udp(destination="127.0.0.1", ip={"tos": ECT0}), CE))
    yield case


def cases():
    yield from figure()
    yield from headers()
    yield from rewritten()
    yield from fragments()
    yield from refused()
