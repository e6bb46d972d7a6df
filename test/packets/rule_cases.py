"""Cases about static rules and checksums."""
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from world import *


def moved(builder, port=8081, destination=TARGET, **fields):
    """What a packet to a rule's port becomes."""
    return builder(destination=destination, dport=port, **fields)


def rules():
    case = Case("rule-udp", "A UDP packet to a rule's port gets the rule's destination and right checksums.", RULES)
    for size in (0, 1, 2, 17, 500, 1472):
        fields = {"sport": 5000 + size, "data": payload(size, 3)}
        case.forward(tunnel(udp(dport=31765, **fields)), leaves(moved(udp, **fields)), translated=1)
    fields = {"source": "198.51.100.77", "ip": {"ttl": 1, "tos": 0xFF, "flags": "DF", "id": 0xFFFF}}
    ip = fields["ip"]
    identity = ip.pop("id")
    case.forward(
        tunnel(udp(dport=31765, id=identity, **fields)), leaves(moved(udp, id=identity, **fields)), translated=1
    )
    yield case

    case = Case("rule-tcp", "A TCP packet to a rule's port gets the rule's destination and right checksums.", RULES)
    for flags, options, size in (
        ("S", [("MSS", 1460), ("SAckOK", b""), ("WScale", 7)], 0),
        ("PA", [], 1),
        ("A", [("Timestamp", (12345, 67890))], 1400),
        ("FA", [], 0),
        ("R", [], 0),
    ):
        fields = {"flags": flags, "options": options, "data": payload(size, 5), "seq": 0xFFFFFFF0, "ack": 77}
        case.forward(tunnel(tcp(dport=8080, **fields)), leaves(moved(tcp, 8082, **fields)), translated=1)
    yield case

    case = Case("rule-any", "A rule for any protocol is one for TCP and one for UDP.", RULES)
    case.forward(tunnel(udp(dport=7000)), leaves(moved(udp, 7001, "198.51.100.7")), translated=1)
    case.forward(tunnel(tcp(dport=7000)), leaves(moved(tcp, 7001, "198.51.100.7")), translated=1)
    yield case

    case = Case("rule-others", "Packets that no rule names keep their destination: other protocol, other port, source port.", RULES)
    for packet in (udp(dport=8080), tcp(dport=31765), udp(dport=31764), udp(dport=31766), udp(sport=31765, dport=9), udp(dport=8081)):
        case.forward(tunnel(packet), leaves(packet))
    yield case

    case = Case("rule-same-port", "A rule may keep the port, and the address.",
                config("""nat:
  destination:
    - { protocol: udp, port: 53, to: "172.30.82.95:53" }
"""))
    case.forward(tunnel(udp(dport=53)), leaves(moved(udp, 53)), translated=1)
    case.forward(tunnel(udp(dport=53, destination=TARGET)), leaves(udp(dport=53, destination=TARGET)), translated=1)
    yield case


def udp_checksums():
    case = Case("checksum-zero", "A UDP packet without a checksum is translated and stays without.", RULES)
    for data in (b"", b"x", payload(300)):
        case.forward(tunnel(udp(dport=31765, chksum=0, data=data)), leaves(moved(udp, chksum=0, data=data)), translated=1)
    case.forward(tunnel(udp(chksum=0)), leaves(udp(chksum=0)))
    yield case

    case = Case("checksum-ffff", "A UDP checksum that comes out as zero is sent as all ones.", RULES)
    # The last word of the data is chosen so that the sum over the translated packet is zero.
    data = payload(38)
    base = moved(udp, data=data + b"\0\0")
    filler = struct.pack("!H", IP(bytes(base))[UDP].chksum)
    done = IP(bytes(moved(udp, data=data + filler)))
    assert done[UDP].chksum == 0xFFFF
    case.forward(tunnel(udp(dport=31765, data=data + filler)), leaves(done), translated=1)
    # And the other way round: all ones arrives.
    base = udp(dport=31765, data=data + b"\0\0")
    filler = struct.pack("!H", IP(bytes(base))[UDP].chksum)
    arrives = IP(bytes(udp(dport=31765, data=data + filler)))
    assert arrives[UDP].chksum == 0xFFFF
    case.forward(tunnel(arrives), leaves(moved(udp, data=data + filler)), translated=1)
    yield case


def wrong():
    case = Case("checksum-wrong", "A checksum that is wrong stays wrong, by as much.", RULES)
    before = bytes(udp(dport=31765))
    after = bytes(moved(udp))
    for error in (1, 0x100, 0x8000, 0x1234):
        check = IP(before)[UDP].chksum ^ error
        found = adjusted(check, before[16:20] + before[22:24], after[16:20] + after[22:24])
        assert found != IP(after)[UDP].chksum
        case.forward(tunnel(udp(dport=31765, chksum=check)), leaves(moved(udp, chksum=found)), translated=1)
    before = bytes(tcp(dport=8080))
    after = bytes(moved(tcp, 8082))
    check = IP(before)[TCP].chksum ^ 0x40
    found = adjusted(check, before[16:20] + before[22:24], after[16:20] + after[22:24])
    case.forward(tunnel(tcp(dport=8080, chksum=check)), leaves(moved(tcp, 8082, chksum=found)), translated=1)
    untouched = udp(chksum=IP(bytes(udp()))[UDP].chksum ^ 2)
    case.forward(tunnel(untouched), leaves(untouched))
    # The IP header's too.
    good = IP(bytes(udp(dport=31765))).chksum
    ip = {"chksum": good ^ 0x0400}
    header = bytes(udp(dport=31765, ip=ip))
    found = adjusted(good ^ 0x0400, header[16:20], bytes(moved(udp))[16:20])
    case.forward(tunnel(udp(dport=31765, ip=ip)), leaves(moved(udp, ip={"chksum": found})), translated=1)
    yield case


def partial():
    sentence = "A checksum the sender left to hardware is completed, with a rule and without, and counted."
    case = Case("checksum-partial", sentence, RULES)
    for size in (0, 1, 63, 64, 65, 1471):
        data = payload(size, 9)
        for builder, port, new_port in ((udp, 31765, 8081), (tcp, 8080, 8082)):
            short = data[:1440]
            for dport, out in ((port, moved(builder, new_port, data=short)), (9, builder(data=short))):
                packet = builder(dport=dport, data=short)
                packet[builder is udp and UDP or TCP].chksum = pseudo_sum(builder(dport=dport, data=short, chksum=0))
                case.forward(tunnel(packet), leaves(out), translated=int(dport == port), completed=1)
    yield case

    case = Case("checksum-partial-ipv6", "A checksum left to hardware is completed in IPv6 too.", config("packet:\n  ipv6: forward\n"))
    for size in (0, 1, 500):
        data = payload(size, 2)
        packet = udp6(data=data)
        packet[UDP].chksum = pseudo_sum(udp6(data=data, chksum=0))
        case.forward(tunnel(packet), leaves(udp6(data=data)), completed=1)
        network = IPv6(src=CLIENT6, dst=SERVER6)
        packet = network / TCP(sport=1, dport=2) / Raw(data)
        packet[TCP].chksum = pseudo_sum(network / TCP(sport=1, dport=2, chksum=0) / Raw(data))
        case.forward(tunnel(packet), leaves(network / TCP(sport=1, dport=2) / Raw(data)), completed=1)
    yield case


def cases():
    yield from rules()
    yield from udp_checksums()
    yield from wrong()
    yield from partial()
