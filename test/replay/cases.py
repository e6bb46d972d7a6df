"""The cases. Ports and identifications named here are what a replay's constant key gives."""
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q
from scapy.packet import Raw

from nat_case import A, B, BASE, HOST_MAC, P, P2, R, R2, ROUTER, START, NatCase, changed, echo, error, parsed, pieces, tcp, udp
from world import HOP_MAC, INSIDE_MAC, OUTSIDE_MAC, PEER6, VTEP6

# A host's first three ports: by UDP from 5000, TCP from 5000, ICMP.
UDP_PORT, TCP_PORT, ICMP_ID = 16190, 16188, 16135
# Of later ones.
UDP_PORT_LATER, UDP_PORT_101, UDP_PORT_PLAIN, HAIRPIN_PORT = 42630, 42630, UDP_PORT, 16190
ONE_BLOCK_PORTS = 1054, 1082
FRAGMENT_IDS = 30579, 30835
CASES = []


def case(name, sentence, **more):
    one = NatCase(name, sentence, **more)
    CASES.append(one)
    return one


def flows():
    one = case("flows", "UDP, TCP and pings of a host leave by its public address and their answers come back to it.")
    there = udp(A, R, 5000, 53)
    for remote in (R, R2):  # one port for all remotes
        there = udp(A, remote, 5000, 53)
        one.from_inside(there)
        one.leaves(changed(there, src=P, sport=UDP_PORT))
    silent = udp(A, R, 5000, 53)
    silent[UDP].chksum = 0
    one.from_inside(silent)
    one.leaves(changed(silent, src=P, sport=UDP_PORT))
    syn = tcp(A, R, 5000, 80, "S")
    one.from_inside(syn)
    one.leaves(changed(syn, src=P, sport=TCP_PORT))
    ping = echo(A, R, 77)
    one.from_inside(ping)
    one.leaves(changed(ping, src=P, icmp_id=ICMP_ID))
    one.wait(0.5)
    for answer, change in (
        (udp(R, P, 53, UDP_PORT, data=b"odd", tos=1), {"dport": 5000}),
        (tcp(R, P, 80, TCP_PORT, "SA"), {"dport": 5000}),
        (echo(R, P, ICMP_ID, reply=True), {"icmp_id": 77}),
    ):
        one.from_outside(answer)
        one.returns(changed(answer, dst=A, **change))
    one.from_outside(udp("198.51.100.99", P, 53, UDP_PORT), fate="filtered")
    one.from_outside(udp(R, P, 53, 40000), fate="no_session")
    one.from_outside(udp(R, P2, 53, 40000), fate="passed")


def icmp_errors():
    one = case("icmp-errors", "ICMP errors find their flow by what they quote, from either side, and quote what was sent.")
    sent = udp(A, R, 5000, 53)
    out = changed(sent, src=P, sport=UDP_PORT)
    one.from_inside(sent)
    one.leaves(out)
    one.wait(1)
    for kind, code, mtu in ((3, 3, 0), (3, 4, 1400), (11, 0, 0)):
        for quoted in (bytes(out), bytes(out)[:28]):  # whole, and as little as RFC 792 asks for
            told = error("192.0.2.200", P, kind, code, quoted, mtu)
            one.from_outside(told)
            back = bytes(changed(out, src=A, sport=5000, hops=0))[: len(quoted)]
            one.returns(changed(error("192.0.2.200", A, kind, code, back, mtu), hops=1))
    bad = error(R, P, 3, 3, out)
    bad[ICMP].chksum = 1
    one.from_outside(bad, fate="bad_checksum")
    one.from_outside(error(R, P, 3, 3, changed(out, sport=4000, hops=0)), fate="no_session")
    answer = udp(R, P, 53, UDP_PORT)
    one.from_outside(answer)
    received = changed(answer, dst=A, dport=5000)
    one.returns(received)
    # The host's port is closed; and a router of its own, whose address nobody may see outside.
    for source in (A, "10.9.9.9"):
        one.from_inside(error(source, R, 3, 3, received))
        quoted = changed(received, dst=P, dport=UDP_PORT, hops=0)
        one.leaves(changed(error(P, R, 3, 3, quoted), hops=1))


def fragments():
    def exchange(order, arrive, leave):
        waiting = []  # until the first one has come; that leaves before them
        for at in order:
            arrive(at)
            waiting.append(at)
            if 0 in order[: order.index(at) + 1]:
                for one_of_them in sorted(waiting, key=lambda number: number != 0):
                    leave(one_of_them)
                waiting = []

    one = case("fragments", "Fragments are translated as their first one is, in whatever order they come, both ways.")
    for order, id_there, id_back in (((0, 1, 2), FRAGMENT_IDS[0], 91), ((2, 1, 0), FRAGMENT_IDS[1], 92)):
        whole = udp(A, R, 5000, 53, data=bytes(range(250)) * 12, flags=0)
        whole.id = 80 + id_back
        sent = pieces(parsed(whole), 1220)
        left = pieces(changed(whole, src=P, sport=UDP_PORT, id=id_there), 1220)
        exchange(order, lambda at: one.from_inside(sent[at]), lambda at: one.leaves(left[at]))
        one.wait(1)
        answer = udp(R, P, 53, UDP_PORT, data=bytes(range(200)) * 12, flags=0)
        answer.id = id_back
        there = pieces(parsed(answer), 1000)
        back = pieces(changed(answer, dst=A, dport=5000), 1000)
        exchange(order, lambda at: one.from_outside(there[at]), lambda at: one.returns(back[at]))
        one.wait(1)
    # The first one never comes.
    lost = udp(A, R, 5000, 53, data=bytes(2000), flags=0)
    lost.id = 500
    one.from_inside(pieces(parsed(lost), 1220)[1], fate="fragment_limit")
    one.wait(40)
    one.from_inside(udp(A, R2, 5000, 53))
    one.leaves(changed(udp(A, R2, 5000, 53), src=P, sport=UDP_PORT))


def too_big():
    one = case(
        "too-big",
        "What does not fit its way is fragmented, or refused with the MTU of that way.",
        more="    icmpErrors: { inside: true, outside: true }\n    gateways: [{ vni: 100, address: 10.0.0.1 }]\n",
    )
    sent = udp(A, R, 5000, 53)
    one.from_inside(sent)
    one.leaves(changed(sent, src=P, sport=UDP_PORT))
    answer = udp(R, P, 53, UDP_PORT, data=bytes(range(240)) * 6, flags=0)  # 1,468
    answer.id = 400
    one.from_outside(answer)
    back = changed(answer, dst=A, dport=5000)
    for piece in pieces(back, 1450):
        one.returns(piece, flow=back)
    one.counters["fragmentsExtra"] += 1
    whole = parsed(udp(R, P, 53, UDP_PORT, data=bytes(1460)))
    one.from_outside(whole, fate="too_big")
    one.originates(2)
    one.leaves(parsed(error(P, R, 3, 4, bytes(whole)[:548], mtu=1450, flags=0, id=1, tos=0xC0)))
    long = parsed(udp(A, R, 5000, 53, data=bytes(1600)))
    one.from_inside(long, fate="too_big")
    one.returns(parsed(error(ROUTER, A, 3, 4, bytes(long)[:548], mtu=1500, flags=0, id=2, tos=0xC0)))


def traceroute():
    one = case(
        "ttl-expired",
        "A packet that ends here is answered by the gateway of its VNI, and one with a hop left goes on.",
        more="    gateways: [{ vni: 100, address: 10.0.0.1 }]\n",
    )
    for at, probe in enumerate((udp(A, R, 5000, 33434, ttl=1), tcp(A, R, 5000, 80, "S", ttl=1), echo(A, R, 5, ttl=1))):
        probe = parsed(probe)
        one.from_inside(probe, fate="ttl_expired")
        one.returns(parsed(error(ROUTER, A, 11, 0, probe, flags=0, id=at + 1, tos=0xC0)))
        one.originates()
    onward = udp(A, R, 5000, 33434, ttl=2)
    one.from_inside(onward)
    one.leaves(changed(onward, src=P, sport=UDP_PORT))


# Six seconds after the SYN, and on to the next tick: ten a second from the first packet on.
SYN_ANSWERED = START + 1000 + 137_200_000


def expiry():
    one = case(
        "expiry",
        "Mappings end by packet time, and a SYN nobody asked for is answered six seconds later, where configured.",
        more="    icmpErrors: { inside: true, outside: true }\n    timeouts: { udp: 30, portHold: 10 }\n",
    )
    sent = udp(A, R, 5000, 53)
    one.from_inside(sent)
    one.leaves(changed(sent, src=P, sport=UDP_PORT))
    answer = udp(R, P, 53, UDP_PORT)
    one.wait(29)
    one.from_outside(answer)  # which keeps nothing alive
    one.returns(changed(answer, dst=A, dport=5000))
    one.wait(2)
    one.from_outside(answer, fate="no_session")
    one.from_inside(sent)  # its port rests for others only
    one.leaves(changed(sent, src=P, sport=UDP_PORT))
    one.wait(100)
    one.from_inside(sent)
    one.leaves(changed(sent, src=P, sport=UDP_PORT_LATER))
    syn = parsed(tcp(R2, P, 99, 2000, "S"))
    one.from_outside(syn, fate="no_session")
    one.leaves(parsed(error(P, R2, 3, 3, bytes(syn)[:28], flags=0, id=1, tos=0xC0)), time=SYN_ANSWERED)
    one.originates()
    one.wait(3600)
    one.from_outside(answer, fate="no_session")


def forwards():
    one = case(
        "forward-hairpin",
        "A forward leads to its host once that has spoken, from outside and from other hosts inside, in other VNIs too.",
        more='    forwards: [{ outside: "203.0.113.1:8080", protocol: tcp, inside: "10.0.0.6:80", vni: 101 }]\n'
        "    filtering: endpoint-independent\n",
    )
    syn = tcp(R, P, 3000, 8080, "S")
    one.from_outside(syn, fate="no_subscriber")
    spoken = tcp(B, R2, 80, 4000, "S")  # by the forwarded port
    macs = ("02:00:00:00:01:aa", "02:00:00:00:01:bb")
    one.from_inside(spoken, vni=101, macs=macs)
    one.leaves(changed(spoken, src=P, sport=8080))
    one.from_outside(syn)
    one.returns(changed(syn, dst=B, dport=80), vni=101, macs=macs[::-1])
    inside = tcp(A, P, 5000, 8080, "S")
    one.from_inside(inside)
    one.returns(changed(inside, src=P, sport=HAIRPIN_PORT, dst=B, dport=80), vni=101, macs=macs[::-1])
    answer = tcp(B, P, 80, HAIRPIN_PORT, "SA")
    one.from_inside(answer, vni=101, macs=macs)
    one.returns(changed(answer, src=P, sport=8080, dst=A, dport=5000))


def overlap():
    one = case("overlapping", "Hosts with one address in two VNIs are two hosts, and plain pool addresses are found by both.")
    for vni, port in ((100, UDP_PORT), (101, UDP_PORT_101)):
        sent = udp(A, R, 5000, 53)
        one.from_inside(sent, vni=vni)
        one.leaves(changed(sent, src=P, sport=port))
    for vni, port in ((101, UDP_PORT_101), (100, UDP_PORT)):
        answer = udp(R, P, 53, port)
        one.from_outside(answer)
        one.returns(changed(answer, dst=A, dport=5000), vni=vni)


def arp():
    one = case(
        "arp",
        "ARP for a gateway's address inside and a pool's outside is answered; other requests are not ours.",
        more="    gateways: [{ vni: 100, address: 10.0.0.1 }]\n",
    )
    everyone = "ff:ff:ff:ff:ff:ff"

    def asks(target):
        return ARP(op=1, hwsrc=HOST_MAC, psrc=A, hwdst="00:00:00:00:00:00", pdst=target)

    one.from_inside(asks(ROUTER), fate="answered", macs=(everyone, HOST_MAC))
    one.returns(ARP(op=2, hwsrc=INSIDE_MAC, psrc=ROUTER, hwdst=HOST_MAC, pdst=A), macs=(HOST_MAC, INSIDE_MAC))
    one.from_inside(asks(B), fate="not_ip", macs=(everyone, HOST_MAC))
    for target, ours in ((P, True), ("203.0.113.77", False)):
        one.from_outside(ARP(op=1, hwsrc=HOP_MAC, psrc="203.0.113.250", hwdst="00:00:00:00:00:00", pdst=target), fate="passed")
        if ours:
            one.leaves(ARP(op=2, hwsrc=OUTSIDE_MAC, psrc=P, hwdst=HOP_MAC, pdst="203.0.113.250"))
    one.originates(2)


def refused():
    one = case(
        "refused",
        "What is not to be translated is a named drop or leaves as it is, and who is over a limit is told so.",
        more="    limits: { sessionsPerSubscriber: 1 }\n    exclude: [192.0.2.128/25]\n"
        "allowlist: { file: allowed.txt, match: destination }\n",
    )
    one.allowed = "198.51.100.0/24\n192.0.2.0/24\n203.0.113.0/24\n"
    one.from_inside(udp(A, "8.8.8.8", 5000, 53), fate="not_allowed")
    one.from_inside(IP(src=A, dst=R, proto=47, flags="DF") / Raw(bytes(20)), fate="protocol")
    excluded = udp(A, "192.0.2.200", 5000, 53)
    one.from_inside(excluded)
    one.leaves(changed(excluded))
    sent = udp(A, R, 5000, 53)
    one.from_inside(sent)
    one.leaves(changed(sent, src=P, sport=UDP_PORT))
    more = parsed(udp(A, R2, 5000, 53))
    one.from_inside(more, fate="subscriber_limit")
    one.returns(parsed(error(P, A, 3, 13, more, flags=0, id=1, tos=0xC0)))
    one.originates()


def ethernet():
    one = case(
        "ethernet",
        "With plain Ethernet inside, answers go to the MAC the host's last packet came from.",
        config=BASE.replace(", vxlan: {}", ""),
        plain=True,
    )
    sent = udp(A, R, 5000, 53)
    one.from_inside(sent)
    one.leaves(changed(sent, src=P, sport=UDP_PORT_PLAIN))
    answer = udp(R, P, 53, UDP_PORT_PLAIN)
    one.from_outside(answer)
    one.returns(changed(answer, dst=A, dport=5000))
    one.from_inside(udp(A, R, 5000, 53, ttl=1), fate="ttl_expired")
    one.returns(parsed(error(P, A, 11, 0, parsed(udp(A, R, 5000, 53, ttl=1)), flags=0, id=1, tos=0xC0)))
    one.originates()


def underlays():
    for name, sentence, more in (
        ("underlay-vlan", "Answers go back behind the VLAN tags a host's packets came with.", {"tags": (Dot1Q(vlan=5), Dot1Q(vlan=7, prio=3))}),
        (
            "underlay-ipv6",
            "Over IPv6 answers come from the configured address, with a UDP checksum.",
            {
                "config": BASE.replace("vxlan: {}", f"vxlan: {{ local: \"{VTEP6}\" }}"),
                "peer": PEER6,
                "vtep": VTEP6,
                "tags": (Dot1Q(vlan=5),),
            },
        ),
    ):
        one = case(name, sentence, **more)
        sent = udp(A, R, 5000, 53)
        one.from_inside(sent)
        one.leaves(changed(sent, src=P, sport=UDP_PORT))
        answer = udp(R, P, 53, UDP_PORT, data=bytes(range(101)), tos=2)
        one.from_outside(answer)
        one.returns(changed(answer, dst=A, dport=5000))


def ecn():
    one = case(
        "ecn",
        "What a tunnel says of congestion leaves with its packet, with fragments and IPv6 too, or the packet is dropped.",
        more="packet: { ipv6: forward }\n",
    )
    not_ect, ect1, ect0, ce = range(4)

    def through(builder, became, own, outer, merged):
        one.from_inside(builder(own), ip={"tos": outer})
        one.leaves(became(builder(merged)))

    def to_r(tos):
        return udp(A, R, 5000, 53, tos=tos)

    def translated(packet):
        return changed(packet, src=P, sport=UDP_PORT)

    kept = ((ce, ect1, ce), (ect1, not_ect, ect1), (not_ect, ect1, not_ect))
    for own, outer, merged in ((ect0, ce, ce), (ect1, ce, ce), (ect0, ect1, ect1), *kept):
        through(to_r, translated, own, outer, merged)
    one.from_inside(to_r(not_ect), ip={"tos": ce}, fate="ecn")

    def six(traffic):
        network = IPv6(src="2001:db8:10::5", dst="2001:db8:113::9", tc=traffic, fl=0xFFFFF, hlim=9)
        return network / UDP(sport=5, dport=9) / Raw(b"six")

    def a_hop_on(packet):
        packet.hlim -= 1
        return packet

    through(six, a_hop_on, ect0, ce, ce)
    one.from_inside(six(not_ect), ip={"tos": ce}, fate="ecn")

    whole = udp(A, R, 5000, 53, data=bytes(range(250)) * 8, flags=0, tos=ect0)
    sent, left = pieces(parsed(whole), 1220), pieces(changed(whole, src=P, sport=UDP_PORT, id=FRAGMENT_IDS[0]), 1220)
    for piece, out, outer in zip(sent, left, (not_ect, ce)):
        one.from_inside(piece, ip={"tos": outer})
        out.tos |= outer
        del out.chksum
        one.leaves(out)


def exhausted():
    one = case(
        "exhausted",
        "Who finds no block is told so, until the last port of one has rested.",
        config=BASE.replace("1024-65535", "1024-1087"),
        more="    blocks: { size: 64, perSubscriber: 1 }\n    timeouts: { udp: 30, portHold: 10 }\n",
    )
    first, second = udp(A, R, 5000, 53), parsed(udp(B, R, 5000, 53))
    one.from_inside(first)
    one.leaves(changed(first, src=P, sport=ONE_BLOCK_PORTS[0]))
    one.from_inside(second, fate="no_block")
    one.returns(parsed(error(P, B, 3, 13, second, flags=0, id=1, tos=0xC0)))
    one.originates()
    one.wait(39)
    one.from_inside(second, fate="no_block")
    one.returns(parsed(error(P, B, 3, 13, second, flags=0, id=2, tos=0xC0)))
    one.originates()
    one.wait(2)
    one.from_inside(second)
    one.leaves(changed(second, src=P, sport=ONE_BLOCK_PORTS[1]))


flows()
underlays()
ecn()
exhausted()
icmp_errors()
fragments()
too_big()
traceroute()
expiry()
forwards()
overlap()
arp()
refused()
ethernet()
