#!/usr/bin/python3
"""Writes rtnetlink messages as the kernel sends them, one file each, into the directory named: the netlink fuzzer's seeds.
Called by make-corpus. Little-endian, as the hosts we build on."""
import ipaddress
import pathlib
import struct
import sys

NEWLINK, DELLINK, NEWROUTE, DELROUTE, NEWNEIGH, DELNEIGH, NEWRULE, ERROR, DONE = 16, 17, 24, 25, 28, 29, 32, 2, 3
MAC = bytes.fromhex("020000000003")


def attribute(kind, value):
    return struct.pack("<HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind, body, *attributes, flags=0):
    payload = body + b"".join(attributes)
    return struct.pack("<IHHII", 16 + len(payload), kind, flags, 1, 0) + payload


def unpadded(whole, kind, value):
    """The message with one more attribute, ending where that does."""
    longer = whole[4:] + struct.pack("<HH", 4 + len(value), kind) + value
    return struct.pack("<I", 4 + len(longer)) + longer


def address(text):
    return ipaddress.ip_address(text).packed


def u32(value):
    return struct.pack("<I", value)


def route(family, length, *attributes, kind=NEWROUTE, table=254, route_type=1, route_flags=0, flags=0):
    body = struct.pack("<BBBBBBBBI", family, length, 0, 0, table, 3, 0, route_type, route_flags)
    return message(kind, body, *attributes, flags=flags)


def nexthop(ifindex, flags, *attributes):
    payload = b"".join(attributes)
    return struct.pack("<HBBi", 8 + len(payload), flags, 0, ifindex) + payload


def seeds():
    link = struct.pack("<BBHiII", 0, 0, 1, 7, 0x11043, 0)
    yield "link", message(NEWLINK, link, attribute(4, u32(1500)), attribute(1, MAC), attribute(33, b"\1"))
    yield "link-gone", message(DELLINK, link)
    neighbour = struct.pack("<BBHiHBB", 2, 0, 0, 7, 2, 0, 1)
    yield "neighbour", message(NEWNEIGH, neighbour, attribute(1, address("192.0.2.1")), attribute(2, MAC),
                               attribute(15, u32(1)))
    # An attribute that ends with the message and is too short for what it should hold.
    for name, kind, value in [("address", 1, b"\xc0\0\2"), ("mac", 2, MAC[:5]), ("flags", 15, b"\1")]:
        yield f"neighbour-short-{name}", unpadded(message(NEWNEIGH, neighbour), kind, value)
    neighbour6 = struct.pack("<BBHiHBB", 10, 0, 0, 7, 4, 0, 1)
    yield "neighbour6-gone", message(DELNEIGH, neighbour6, attribute(1, address("2001:db8::1")))
    oif, metric, table = attribute(4, u32(7)), attribute(6, u32(100)), attribute(15, u32(254))
    gateway = attribute(5, address("192.0.2.1"))
    yield "default-route", route(2, 0, table, metric, gateway, oif, flags=2)
    yield "connected-route", route(2, 24, table, attribute(1, address("192.0.2.0")), oif)
    yield "local-route", route(2, 32, attribute(1, address("192.0.2.9")), oif, table=255, route_type=2)
    yield "blackhole-route", route(2, 8, attribute(1, address("10.0.0.0")), route_type=6)
    yield "route6", route(10, 64, attribute(1, address("2001:db8::")), attribute(5, address("fe80::1")), oif)
    for name, kind, value in [("gateway", 5, b"\xc0\0\2"), ("oif", 4, b"\7"), ("via", 18, b"\2\0\xc0"),
                              ("family", 18, b"\2"), ("multipath", 9, bytes(7))]:
        yield f"route-short-{name}", unpadded(route(2, 0), kind, value)
    yield "route-gone", route(2, 24, attribute(1, address("192.0.2.0")), oif, kind=DELROUTE)
    yield "route-via-ipv6", route(2, 8, attribute(1, address("10.0.0.0")), oif,
                                  attribute(18, struct.pack("<H", 10) + address("fe80::1")), flags=0x100)
    hops = nexthop(3, 0, gateway) + nexthop(7, 1, gateway) + nexthop(7, 0, gateway)
    yield "multipath-route", route(2, 8, attribute(1, address("10.0.0.0")), attribute(9, hops), flags=0x800)
    yield "rule", message(NEWRULE, struct.pack("<BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 1, 0), attribute(6, u32(32766)),
                          attribute(15, u32(254)))
    yield "error", message(ERROR, struct.pack("<i", -17) + bytes(16))
    yield "error-without-negation", message(ERROR, struct.pack("<i", -(2**31)))
    yield "done", message(DONE, struct.pack("<i", 0))


directory = pathlib.Path(sys.argv[1])
written = list(seeds())
written.append(("several", b"".join(one for _, one in written)))
for name, one in written:
    (directory / name).write_bytes(one)
