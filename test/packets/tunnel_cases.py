"""Cases about the tunnel: what is VXLAN for us, what is the kernel's, and what of ours is damaged."""
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, PadN
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

from world import *


def link(*tags, kind=None):
    frame = Ether(dst=INSIDE_MAC, src=SENDER_MAC)
    for tag in tags:
        frame = frame / tag
    return frame


def plain():
    case = Case("plain-udp", "A UDP packet in VXLAN leaves as it is, with an Ethernet header for the next hop.", config())
    for size in (0, 1, 18, 100, 513, 1400, 1472):
        packet = udp(sport=5000 + size, data=payload(size), ip={"ttl": 3, "tos": 0xB8})
        case.forward(tunnel(packet, sport=49200 + size), leaves(packet))
    yield case

    case = Case("outer-checksum", "Outer checksums are not verified: present, absent or wrong, the packet leaves.", config())
    packet = udp()
    case.forward(tunnel(packet, chksum=None), leaves(packet))
    case.forward(tunnel(packet, chksum=0x1234), leaves(packet))
    case.forward(tunnel(packet, ip={"chksum": 0x4321}), leaves(packet))
    yield case

    case = Case("outer-tags", "VLAN and QinQ tags around the tunnel are understood.", config())
    packet = udp()
    for tags in ([Dot1Q(vlan=5)], [Dot1AD(vlan=7), Dot1Q(vlan=5)], [Dot1Q(vlan=7, prio=3), Dot1Q(vlan=5)], [Dot1AD(vlan=9)]):
        case.forward(tunnel(packet, link=link(*tags)), leaves(packet))
    case.passes(tunnel(packet, link=link(Dot1Q(vlan=1), Dot1Q(vlan=2), Dot1Q(vlan=3))))
    yield case

    case = Case("outer-options", "IPv4 options of the tunnel are skipped.", config())
    packet = udp()
    for options in (b"\x01\x01\x01\x00", b"\x94\x04\x00\x00" * 10):
        case.forward(tunnel(packet, ip={"options": options}), leaves(packet))
    yield case

    case = Case("outer-ipv6", "A tunnel over IPv6 is one like over IPv4, with extension headers too.", config())
    packet = udp()
    case.forward(tunnel(packet, source=PEER6, destination=VTEP6), leaves(packet))
    case.forward(tunnel(packet, source=PEER6, destination=VTEP6, chksum=None), leaves(packet))
    case.forward(tunnel(packet, source=PEER6, destination=VTEP6, link=link(Dot1Q(vlan=5))), leaves(packet))
    content = vxlan_header() + bytes(inner(packet))
    options = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])
    case.forward(link() / IPv6(src=PEER6, dst=VTEP6) / options / UDP(sport=1, dport=4789, chksum=0) / Raw(content), leaves(packet))
    yield case


def ours_or_not():
    case = Case("port", "The configured port is VXLAN, and 4789 then is not.", config(vxlan="{ port: 8472 }"))
    packet = udp()
    case.forward(tunnel(packet, port=8472), leaves(packet))
    case.passes(tunnel(packet))
    yield case

    case = Case("vnis", "VNIs that are configured, alone or in a range, are ours; the others are the kernel's.",
                config(vxlan='{ vnis: [1, 7, "100-199", 16777215] }'))
    packet = udp()
    for vni in (1, 7, 100, 150, 199, 0xFFFFFF):
        case.forward(tunnel(packet, vni=vni), leaves(packet))
    for vni in (0, 2, 6, 8, 64, 99, 200, 0xFFFFFE, 100 << 8):
        case.passes(tunnel(packet, vni=vni))
    case.passes(tunnel(packet, vni=2, flags=0))
    case.passes(tunnel(b"\0" * 9, vni=2))
    yield case

    case = Case("local", "Tunnels to another address than ours are the kernel's, whatever is in them.",
                config(vxlan=f'{{ local: "{VTEP}" }}'))
    packet = udp()
    case.forward(tunnel(packet), leaves(packet))
    case.passes(tunnel(packet, destination="192.0.2.2"))
    case.passes(tunnel(packet, destination="192.0.2.2", flags=0))
    case.passes(tunnel_bytes(b"", destination="192.0.2.2"))
    case.passes(tunnel(packet, source=PEER6, destination=VTEP6))
    yield case

    case = Case("local-ipv6", "The address tunnels must be sent to may be an IPv6 one.", config(vxlan=f'{{ local: "{VTEP6}" }}'))
    packet = udp()
    case.forward(tunnel(packet, source=PEER6, destination=VTEP6), leaves(packet))
    case.passes(tunnel(packet, source=PEER6, destination="2001:db8:1::2"))
    case.passes(tunnel(packet))
    yield case

    case = Case("peers", "A tunnel from an address that is not allowed is refused, IPv4 or IPv6.",
                config(vxlan='{ peers: ["192.0.2.8/30", "198.51.100.1", "2001:db8:1::/64"] }'))
    packet = udp()
    for peer in ("192.0.2.8", "192.0.2.9", "192.0.2.11", "198.51.100.1"):
        case.forward(tunnel(packet, source=peer), leaves(packet))
    case.forward(tunnel(packet, source=PEER6, destination=VTEP6), leaves(packet))
    for peer in ("192.0.2.7", "192.0.2.12", "198.51.100.2", "10.0.0.1"):
        case.drop("peer_not_allowed", tunnel(packet, source=peer))
    case.drop("peer_not_allowed", tunnel(packet, source="2001:db8:2::9", destination=VTEP6))
    yield case

    case = Case("flags", "Without the I flag a VXLAN packet is refused; reserved bits are ignored.", config())
    packet = udp()
    for flags in (0x00, 0x04, 0xF7):
        case.drop("vxlan_flags", tunnel(packet, flags=flags))
    for flags, reserved1, reserved2 in ((0xFF, 0, 0), (0x08, 0xFFFFFF, 0), (0x08, 0, 0xFF), (0x48, 0x800000, 1)):
        case.forward(tunnel(packet, flags=flags, reserved1=reserved1, reserved2=reserved2), leaves(packet))
    yield case


def kernels():
    case = Case("not-vxlan", "What is no UDP to the VXLAN port is left to the kernel.", config())
    case.passes(link() / ARP(op=1, hwsrc=SENDER_MAC, psrc=PEER, pdst="192.0.2.200"))
    case.passes(tunnel(udp(), port=4790))
    case.passes(link() / IP(src=PEER, dst=VTEP) / TCP(sport=1000, dport=4789))
    case.passes(link() / IP(src=PEER, dst=VTEP) / ICMP())
    case.passes(link() / IP(src=PEER, dst=VTEP, proto=47) / Raw(b"\0" * 40))
    case.passes(link() / IPv6(src=PEER6, dst=VTEP6) / ICMPv6ND_NS(tgt=VTEP6))
    case.passes(Ether(dst="01:80:c2:00:00:0e", src=SENDER_MAC, type=0x88CC) / Raw(b"\x02\x07\x04" + b"\0" * 40))
    case.passes(Ether(dst="01:80:c2:00:00:00", src=SENDER_MAC, type=38) / Raw(b"\x42\x42\x03" + b"\0" * 40))
    case.passes(Ether(dst=INSIDE_MAC, src=SENDER_MAC, type=0x0800))
    case.passes(bytes(tunnel(udp()))[:30])
    case.passes(bytes(tunnel(udp()))[:40])
    case.passes(tunnel(udp(), ip={"version": 5}))
    case.passes(bytes(tunnel(udp(), source=PEER6, destination=VTEP6))[:60])
    case.passes(link(Dot1Q(vlan=5, type=0x88CC)) / Raw(b"\0" * 40))
    yield case

    case = Case("outer-fragments", "Fragments of a tunnel packet are left to the kernel, first and later ones.", config())
    whole = tunnel(udp(data=payload(900)))
    for piece in fragment(whole, 400):
        case.passes(piece)
    content = vxlan_header() + bytes(inner(udp()))
    first = IPv6(src=PEER6, dst=VTEP6) / IPv6ExtHdrFragment(m=1, id=9, nh=17) / UDP(sport=1, dport=4789, chksum=0) / Raw(content)
    case.passes(link() / first)
    case.passes(link() / IPv6(src=PEER6, dst=VTEP6) / IPv6ExtHdrFragment(offset=2, id=9, nh=17) / Raw(content))
    yield case


def damaged():
    case = Case("malformed-outer", "A tunnel packet whose lengths contradict each other or the frame is dropped.", config())
    good = tunnel(udp())
    for length in (0, 7, 8, 15):
        case.drop("malformed_outer", tunnel(udp(), len=length))
    case.drop("malformed_outer", tunnel(udp(), len=len(bytes(good)) - 34 + 1))
    case.drop("malformed_outer", tunnel(udp(), ip={"len": len(bytes(good)) - 14 + 1}))
    case.drop("malformed_outer", tunnel(udp(), ip={"len": 19}))
    for cut in (42, 45, 49, 50, 60, len(bytes(good)) - 1):
        case.drop("malformed_outer", bytes(good)[:cut])
    case.drop("malformed_outer", tunnel_bytes(b""))
    case.drop("malformed_outer", tunnel_bytes(vxlan_header()[:7]))
    good6 = tunnel(udp(), source=PEER6, destination=VTEP6)
    case.drop("malformed_outer", bytes(good6)[:-1])
    case.drop("malformed_outer", tunnel(udp(), source=PEER6, destination=VTEP6, len=15))
    case.drop("malformed_outer", tunnel(udp(), source=PEER6, destination=VTEP6, ip={"plen": 10}))
    yield case

    case = Case("trailing-bytes", "Padding behind the outer or the inner packet is not sent on.", config())
    for size in (0, 1, 6, 18):
        packet = udp(sport=5000 + size, data=payload(size))
        case.forward(bytes(tunnel(packet)) + b"\xee" * 23, leaves(packet))
        case.forward(tunnel(bytes(inner(packet)).ljust(60, b"\xee")), leaves(packet))
        case.forward(bytes(tunnel(bytes(inner(packet)) + b"\xdd" * 9)) + b"\xee" * 4, leaves(packet))
    packet = tcp(data=b"")
    case.forward(tunnel(bytes(inner(packet)).ljust(60, b"\0")), leaves(packet))
    yield case


def cases():
    yield from plain()
    yield from ours_or_not()
    yield from kernels()
    yield from damaged()
