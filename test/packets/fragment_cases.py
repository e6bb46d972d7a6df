"""Cases about inner fragments: the first one's ports decide for the rest, whatever the order."""
from scapy.layers.inet import IP

from egress_cases import pieces
from world import *


def split(identity, dport=31765, size=1000, source=CLIENT, builder=udp, destination=SERVER, mtu=400):
    return pieces(builder(source=source, destination=destination, dport=dport, data=payload(size, identity), id=identity), mtu)


def in_order():
    case = Case("fragments-rule", "All fragments of a packet with a rule are translated.", RULES)
    for identity, size in ((1, 400), (2, 1000), (3, 3000)):
        for piece, out in zip(split(identity, size=size), split(identity, 8081, size, destination=TARGET)):
            case.forward(tunnel(piece), leaves(out), translated=1)
    for piece, out in zip(split(4, 8080, builder=tcp), split(4, 8082, builder=tcp, destination=TARGET)):
        case.forward(tunnel(piece), leaves(out), translated=1)
    yield case

    case = Case("fragments-no-rule", "Fragments of packets that no rule names leave unchanged.", RULES)
    for identity, dport in ((1, 9), (2, 31764)):
        for piece in split(identity, dport):
            case.forward(tunnel(piece), leaves(piece))
    yield case

    case = Case("fragments-other-protocol", "Fragments of protocols without rules leave as they come, in any order.",
                config("""nat:
  destination:
    - { protocol: udp, port: 31765, to: "172.30.82.95:8081" }
"""))
    for piece in reversed(split(1, 8080, builder=tcp)):
        case.forward(tunnel(piece), leaves(piece))
    network = {"src": CLIENT, "dst": SERVER, "id": 9, "proto": 47}
    for piece in reversed(pieces(IP(**network) / payload(900), 400)):
        case.forward(tunnel(piece), leaves(piece))
    yield case

    case = Case("fragments-no-rules", "Without rules fragments leave as they come, in any order, the first missing or not.", config())
    parts = split(1)
    for piece in (parts[2], parts[0], parts[1], split(2)[1]):
        case.forward(tunnel(piece), leaves(piece))
    yield case

    case = Case("fragments-interleaved", "Datagrams are told apart by address, id and protocol.", RULES)
    arriving = [split(1), split(2), split(1, source="10.0.0.6"), split(1, 8080, builder=tcp), split(1, destination="203.0.113.8")]
    leaving = [
        split(1, 8081, destination=TARGET),
        split(2, 8081, destination=TARGET),
        split(1, 8081, source="10.0.0.6", destination=TARGET),
        split(1, 8082, builder=tcp, destination=TARGET),
        split(1, 8081, destination=TARGET),
    ]
    for pairs in zip(*[list(zip(i, o)) for i, o in zip(arriving, leaving)]):
        for piece, out in pairs:
            case.forward(tunnel(piece), leaves(out), translated=1)
    yield case

    case = Case("fragments-id-again", "An id that is used again is a datagram of its own.", RULES)
    for dport, new_port, target in ((31765, 8081, TARGET), (9, 9, SERVER), (7000, 7001, "198.51.100.7"), (31765, 8081, TARGET)):
        for piece, out in zip(split(5, dport), split(5, new_port, destination=target)):
            case.forward(tunnel(piece), leaves(out), translated=int(dport != 9))
    yield case


def out_of_order():
    case = Case("fragments-first-last", "Later fragments wait for the first one and leave after it, translated.", RULES)
    for identity, order in ((1, (1, 0, 2)), (2, (2, 1, 0)), (3, (1, 2, 0))):
        source = f"10.0.1.{identity}"
        arriving = split(identity, source=source)
        leaving = split(identity, 8081, source=source, destination=TARGET)
        for index in order:
            case.hold(tunnel(arriving[index]), translated=1)
        first = order.index(0)
        case.expected += [bytes(leaves(leaving[i])) for i in (0, *order[:first], *order[first + 1 :])]
    yield case

    case = Case("fragments-first-last-no-rule", "Later fragments that waited leave unchanged when the first has no rule.", RULES)
    arriving = split(1, 9, source="10.0.2.1")
    for index in (1, 2, 0):
        case.hold(tunnel(arriving[index]))
    case.expected += [bytes(leaves(arriving[i])) for i in (0, 1, 2)]
    yield case

    sentence = "Fragments that waited are treated as the others: DF cleared, TTL decremented."
    case = Case("fragments-held-changes", sentence,
                config("packet:\n  clearDontFragment: true\n  decrementTtl: true\n") + RULES[len(config()):])
    arriving, leaving = split(1), split(1, 8081, destination=TARGET)
    for piece in arriving:
        piece.flags = int(piece.flags) | 2
        piece.ttl = 64
        del piece.chksum
    for piece in leaving:
        piece.ttl = 63
        del piece.chksum
    for index in (2, 0, 1):
        case.hold(tunnel(arriving[index]), translated=1)
    case.expected += [bytes(leaves(leaving[i])) for i in (0, 2, 1)]
    yield case

    case = Case("fragments-dropped", "A datagram whose first fragment has no way out is dropped whole.",
                config(f"""nat:
  destination:
    - {{ protocol: udp, port: 7, to: "{UNREACHABLE}:7" }}
"""))
    first, *rest = split(1, 7)
    case.drop("no_route", tunnel(first))
    for piece in rest:
        case.drop("fragment_limit", tunnel(piece))
    yield case

    case = Case("fragments-damaged", "A first fragment without its ports is dropped.", RULES)
    short = IP(src=CLIENT, dst=SERVER, id=1, flags=1, proto=17) / payload(7)
    case.drop("malformed_inner", tunnel(short))
    yield case


def cases():
    yield from in_order()
    yield from out_of_order()
