"""Cases about the inner packet: tags, versions, protocols, and everything that can be wrong with it."""
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)
from scapy.layers.l2 import ARP, GRE, Dot1AD, Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Raw

from world import *


def tagged(packet, *tags):
    frame = Ether(dst="02:00:00:00:00:aa", src="02:00:00:00:00:bb")
    for tag in tags:
        frame = frame / tag
    return frame / packet


def frames():
    case = Case("inner-tags", "VLAN and QinQ tags of the inner frame are stripped.", config())
    packet = udp()
    for tags in ([Dot1Q(vlan=5)], [Dot1AD(vlan=7), Dot1Q(vlan=5)], [Dot1Q(vlan=7), Dot1Q(vlan=5, prio=7)]):
        case.forward(tunnel(tagged(packet, *tags)), leaves(packet))
    case.drop("not_ip", tunnel(tagged(packet, Dot1Q(vlan=1), Dot1Q(vlan=2), Dot1Q(vlan=3))))
    yield case

    case = Case("inner-tags-rule", "A tagged inner packet is translated like any other.", RULES)
    case.forward(
        tunnel(tagged(udp(dport=31765), Dot1AD(vlan=7), Dot1Q(vlan=5))),
        leaves(udp(destination=TARGET, dport=8081)),
        translated=1,
    )
    yield case

    case = Case("inner-not-ip", "An inner frame that is not IP is dropped.", config())
    case.drop("not_ip", tunnel(inner(ARP(psrc=CLIENT, pdst=SERVER))))
    case.drop("not_ip", tunnel(tagged(ARP(psrc=CLIENT, pdst=SERVER), Dot1Q(vlan=5))))
    case.drop("not_ip", tunnel(inner(MPLS(label=3, s=1) / udp())))
    case.drop("not_ip", tunnel(Ether(dst="01:80:c2:00:00:00", src=SENDER_MAC, type=38) / Raw(b"\x42\x42\x03" + b"\0" * 35)))
    yield case

    case = Case("inner-protocols", "Every IP protocol goes out unchanged, even where there are rules for UDP and TCP.", RULES)
    network = {"src": CLIENT, "dst": SERVER, "id": 7}
    for packet in (
        IP(**network) / ICMP(id=1, seq=1) / Raw(payload(56)),
        IP(**network) / GRE() / udp(dport=31765),
        IP(**network) / SCTP(sport=31765, dport=31765) / SCTPChunkInit(init_tag=1),
        IP(**network, proto=50) / Raw(payload(64)),
        IP(**network, proto=4) / udp(dport=31765),
        IP(**network, proto=253) / Raw(b""),
        IP(**network, proto=17, frag=0) / UDP(sport=1, dport=2) / Raw(b""),
    ):
        case.forward(tunnel(packet), leaves(packet))
    yield case

    case = Case("inner-options", "IPv4 options stay, and the ports behind them are found.", RULES)
    for options in (b"\x01\x01\x01\x00", b"\x94\x04\x00\x00", b"\x07\x27\x04" + b"\0" * 37):
        ip = {"options": options}
        case.forward(tunnel(udp(ip=ip)), leaves(udp(ip=ip)))
        case.forward(tunnel(udp(dport=31765, ip=ip)), leaves(udp(destination=TARGET, dport=8081, ip=ip)), translated=1)
        case.forward(tunnel(tcp(dport=8080, ip=ip)), leaves(tcp(destination=TARGET, dport=8082, ip=ip)), translated=1)
    yield case


def version6():
    text = config("packet:\n  ipv6: forward\n")
    case = Case("inner-ipv6-drop", "Inner IPv6 is dropped unless it is configured to be forwarded.", config())
    case.drop("ipv6", tunnel(udp6()))
    case.drop("ipv6", tunnel(tagged(udp6(), Dot1Q(vlan=5))))
    case.drop("ipv6", tunnel(bytes(inner(udp6()))[:30]))
    yield case

    case = Case("inner-ipv6-forward", "Inner IPv6 that is to be forwarded leaves untranslated, whatever is in it.", text + RULES[len(config()):])
    network = {"src": CLIENT6, "dst": SERVER6, "hlim": 9, "tc": 0x20, "fl": 0x12345}
    extension = IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)])
    for packet in (
        IPv6(**network) / UDP(sport=1, dport=31765) / Raw(payload(100)),
        IPv6(**network) / TCP(sport=1, dport=8080) / Raw(payload(100)),
        IPv6(**network) / ICMPv6EchoRequest(id=1, data=payload(56)),
        IPv6(**network) / extension / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]) / UDP(sport=1, dport=2) / Raw(b"x"),
        IPv6(**network) / IPv6ExtHdrFragment(m=1, id=3, nh=17) / UDP(sport=1, dport=2, len=80, chksum=0x1234) / Raw(payload(32)),
        IPv6(**network) / IPv6ExtHdrFragment(offset=5, id=3, nh=17) / Raw(payload(32)),
        IPv6(**network, nh=59),
        IPv6(**network, nh=50) / Raw(payload(40)),
    ):
        case.forward(tunnel(packet), leaves(packet))
    case.forward(tunnel(bytes(inner(udp6())) + b"\xee" * 7), leaves(udp6()))
    yield case

    case = Case("inner-ipv6-damaged", "Inner IPv6 that is cut short or contradicts itself is dropped.", text)
    good = bytes(inner(udp6(data=payload(20))))
    for cut in (14, 15, 53):
        case.drop("malformed_inner", tunnel(good[:cut]))
    for cut in (54, 61, len(good) - 1):
        case.drop("truncated", tunnel(good[:cut]))
    case.drop("malformed_inner", tunnel(IPv6(src=CLIENT6, dst=SERVER6, version=4) / UDP()))
    case.drop("malformed_inner", tunnel(IPv6(src=CLIENT6, dst=SERVER6, nh=0) / Raw(b"\x11\x09" + b"\0" * 14)))
    case.drop("malformed_inner", tunnel(IPv6(src=CLIENT6, dst=SERVER6, nh=17) / Raw(b"\0" * 7)))
    case.drop("malformed_inner", tunnel(udp6(len=7)))
    case.drop("malformed_inner", tunnel(udp6(len=100)))
    case.drop("malformed_inner", tunnel(IPv6(src=CLIENT6, dst=SERVER6) / TCP(dataofs=4)))
    yield case


def damaged():
    case = Case("malformed-inner", "An inner packet that is cut short or contradicts itself is dropped.", config())
    good = bytes(inner(udp()))
    for cut in (0, 1, 13, 14, 33):
        case.drop("malformed_inner", tunnel(good[:cut]))
    for cut in (14, 17, 21):
        case.drop("malformed_inner", tunnel(bytes(tagged(udp(), Dot1Q(vlan=1), Dot1Q(vlan=2)))[:cut]))
    network = {"src": CLIENT, "dst": SERVER}
    case.drop("malformed_inner", tunnel(udp(ip={"version": 6})))
    case.drop("malformed_inner", tunnel(udp(ip={"version": 0})))
    case.drop("malformed_inner", tunnel(udp(ip={"ihl": 4})))
    case.drop("malformed_inner", tunnel(udp(ip={"len": 19})))
    case.drop("malformed_inner", tunnel(udp(ip={"len": 0})))
    case.drop("malformed_inner", tunnel(IP(**network, ihl=15, len=59) / Raw(b"\0" * 40)))
    case.drop("malformed_inner", tunnel(IP(**network, proto=17) / Raw(b"\0" * 7)))
    for length in (0, 7, 15):
        case.drop("malformed_inner", tunnel(udp(len=length)))
    case.drop("malformed_inner", tunnel(IP(**network, proto=6) / Raw(b"\0" * 19)))
    for offset in (0, 4, 6):
        case.drop("malformed_inner", tunnel(tcp(dataofs=offset, data=b"")))
    yield case

    case = Case("short-udp", "A UDP length below what IP carries is the sender's business: the packet leaves whole.", RULES)
    packet = udp(len=10, chksum=0)
    case.forward(tunnel(packet), leaves(packet))
    packet = udp(len=10, chksum=0, dport=31765)
    case.forward(tunnel(packet), leaves(udp(len=10, chksum=0, destination=TARGET, dport=8081)), translated=1)
    yield case

    case = Case("truncated", "An inner packet longer than what was captured of it is dropped, wherever it was cut.", config())
    good = bytes(inner(udp(data=payload(200))))
    for cut in (34, 35, 41, 42, 43, 100, len(good) - 1):
        case.drop("truncated", tunnel(good[:cut]))
    case.drop("truncated", bytes(tunnel(good[:100])) + b"\xee" * 200)
    case.drop("truncated", tunnel(bytes(inner(tcp(data=payload(1400))))[:128]))
    case.drop("truncated", tunnel(bytes(inner(IP(src=CLIENT, dst=SERVER) / ICMP() / Raw(payload(100))))[:60]))
    yield case


def cases():
    yield from frames()
    yield from version6()
    yield from damaged()
