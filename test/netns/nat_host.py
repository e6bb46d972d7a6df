#!/usr/bin/python3
"""What hosts of the source NAT tests do, each with one line of JSON as its result.

  nat_host.py stun SERVER OTHER        names the NAT as RFC 5780 does (sections 4.3 and 4.4), by a STUN client's eyes
  nat_host.py dns SERVER COUNT SOCKETS COUNT queries at once; what is lost is asked again, as resolvers do
  nat_host.py ftp SERVER BYTES         a file down and up by passive FTP, with their hashes
  nat_host.py flows SERVER COUNT       as many sockets, each asks the STUN server who it is; the ICMP errors it got
  nat_host.py flood KIND COUNT DESTINATION...  raw packets (syn, udp, gre, echo) from random sources to random ports
  nat_host.py spoof PREFIX COUNT DESTINATION   SYNs from this host as from random sources within PREFIX (/24)
  nat_host.py tagged ROUTER TAGS HOST         an echo request behind VLAN tags (7,8); whether a reply came
  nat_host.py pieces PORT SERVER BYTES PIECE  a query in fragments, the last one first; whether all of it came back
  nat_host.py marked SERVER            a DNS query of each ECN; those that were answered
  nat_host.py talk PORT                sockets of one port, by lines: `who SERVER`, `send ADDRESS PORT TEXT`, `take MS`,
                                       `errors MS` (ICMP, since the last time) of UDP;
                                       `connected SERVER`, `meet ADDRESS PORT TEXT` of TCP

Run by test/bed/nat-hosts.ts inside a namespace; one thread.
"""
import ftplib
import hashlib
import io
import json
import os
import random
import select
import socket
import struct
import sys
import time

COOKIE = 0x2112A442
IP_RECVERR = 11
SO_RCVBUFFORCE = 33
PATIENCE = 0.25  # seconds; what is not there by then was refused: everything here is one host
TRIES = 3


def say(value):
    print(json.dumps(value), flush=True)


def udp(port=0):
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    bound.bind(("", port))
    return bound


def request(change=0):
    attributes = struct.pack("!HHI", 3, 4, change) if change else b""
    return struct.pack("!HHI", 1, len(attributes), COOKIE) + os.urandom(12) + attributes


def mapped_in(answer):
    port, address = struct.unpack("!HI", answer[26:32])
    return socket.inet_ntoa(struct.pack("!I", address ^ COOKIE)), port ^ COOKIE >> 16


def binding(bound, server, port, change=0):
    """Who this socket is, or None."""
    wanted = request(change)
    for _ in range(TRIES):
        bound.sendto(wanted, (server, port))
        deadline = time.monotonic() + PATIENCE
        while (left := deadline - time.monotonic()) > 0 and select.select([bound], [], [], left)[0]:
            try:
                answer = bound.recv(2048)
            except OSError:
                continue
            if answer[4:20] == wanted[4:20]:
                return mapped_in(answer)
    return None


def stun(server, other):
    bound = udp()
    first = binding(bound, server, 3478)
    second = binding(bound, other, 3478)
    third = binding(bound, other, 3479)
    if None in (first, second, third):
        raise SystemExit(f"no answer: {first} {second} {third}")
    mapping = "endpoint-independent"
    if first != second:
        mapping = "address-dependent" if second == third else "address-and-port-dependent"
    fresh = udp()
    own = binding(fresh, server, 3478)
    filtering = "address-and-port-dependent"
    if binding(fresh, server, 3478, 6):
        filtering = "endpoint-independent"
    elif binding(fresh, server, 3478, 2):
        filtering = "address-dependent"
    say({"mapping": mapping, "filtering": filtering, "mapped": list(own)})


def dns(server, count, sockets):
    count, bounds = int(count), [udp() for _ in range(int(sockets))]
    missing = [set() for _ in bounds]
    for index in range(count):
        missing[index % len(bounds)].add(index)
    deadline, sent = time.monotonic() + 15, 0
    while any(missing) and time.monotonic() < deadline:
        for bound, left in zip(bounds, missing):
            for index in sorted(left):
                bound.sendto(struct.pack("!HHI", index & 0xFFFF, 0x0100, index) + bytes(24), (server, 5300))
                sent += 1
        quiet = time.monotonic() + PATIENCE
        while any(missing) and time.monotonic() < quiet:
            for bound in select.select(bounds, [], [], PATIENCE)[0]:
                quiet = time.monotonic() + PATIENCE
                left = missing[bounds.index(bound)]
                try:
                    while True:
                        left.discard(struct.unpack("!I", bound.recv(2048, socket.MSG_DONTWAIT)[4:8])[0])
                except BlockingIOError:
                    pass
    say({"asked": count, "answered": count - sum(map(len, missing)), "sent": sent})


def ftp(server, count):
    down = hashlib.sha256()
    with ftplib.FTP(server, timeout=10) as client:
        client.login()
        client.retrbinary(f"RETR {count}", down.update)
        up = os.urandom(int(count))
        answer = client.storbinary("STOR x", io.BytesIO(up))
    say({"down": down.hexdigest(), "up": hashlib.sha256(up).hexdigest(), "stored": answer.split()[-1]})


def errors_of(bound):
    found = []
    try:
        while True:
            _, told, _, about = bound.recvmsg(512, 512, socket.MSG_ERRQUEUE)
            for level, kind, data in told:
                if (level, kind) == (socket.IPPROTO_IP, IP_RECVERR) and data[4] == 2:  # SO_EE_ORIGIN_ICMP
                    offender = socket.inet_ntoa(data[20:24])
                    found.append({"type": data[5], "code": data[6], "from": offender, "about": "%s:%d" % about})
    except BlockingIOError:
        return found


def flows(server, count):
    """Each socket in turn, so that what is refused is the last ones."""
    bounds, mapped, errors = [], [], []
    for _ in range(int(count)):
        bound = udp()
        bound.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        bound.setblocking(False)
        bounds.append(bound)
        bound.sendto(request(), (server, 3478))
        select.select([bound], [], [], PATIENCE)
        try:
            mapped.append("%s:%d" % mapped_in(bound.recv(2048)))
        except OSError:
            pass
        errors += errors_of(bound)
    say({"mapped": mapped, "errors": errors})


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def packet(kind, source, destination):
    port, remote = random.randrange(1, 65536), random.randrange(1024, 65536)
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    if kind == "syn":
        segment = struct.pack("!HHIIBBHHH", remote, port, random.getrandbits(32), 0, 5 << 4, 2, 65535, 0, 0)
        sum_of = checksum(addresses + struct.pack("!HH", 6, len(segment)) + segment)
        return 6, segment[:16] + struct.pack("!H", sum_of) + segment[18:]
    if kind == "udp":
        return 17, struct.pack("!HHHH", remote, port, 12, 0) + b"scan"
    if kind == "echo":
        message = struct.pack("!BBHHH", 8, 0, 0, port, 1) + b"scan"
        return 1, message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    return 47, struct.pack("!HH", 0, 0x0800) + bytes(40)


def send_raw(kind, count, sources, destinations):
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sent = 0
    for index in range(int(count)):
        source, destination = sources(), destinations[index % len(destinations)]
        protocol, body = packet(kind, source, destination)
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
        header += socket.inet_aton(source) + socket.inet_aton(destination)
        sent += raw.sendto(header + body, (destination, 0)) > 0
    say({"sent": sent})


def flood(kind, count, *destinations):
    send_raw(kind, count, lambda: f"100.{random.randrange(64, 128)}.{random.randrange(256)}.9", destinations)


def spoof(prefix, count, destination):
    send_raw("syn", count, lambda: f"{prefix}{random.randrange(10, 250)}", [destination])


def tagged(router, tags, host):
    """By the one interface there is, to the router that ARP knows."""
    (name,) = [name for _, name in socket.if_nameindex() if name != "lo"]
    mac = next(line.split()[3] for line in open("/proc/net/arp") if line.split()[0] == router)
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    frames.bind((name, 0))
    own = frames.getsockname()[4]
    replies = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.connect((host, 9))
        source = bound.getsockname()[0]
    message = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, 1) + os.urandom(32)
    message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 1, 0, 64, 1, 0)
    header += socket.inet_aton(source) + socket.inet_aton(host)
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    vlans = b"".join(struct.pack("!HH", 0x8100, int(tag)) for tag in tags.split(","))
    frames.send(bytes.fromhex(mac.replace(":", "")) + own + vlans + b"\x08\0" + header + message)
    while select.select([replies], [], [], PATIENCE)[0]:
        answer = replies.recv(2048)[20:]
        if answer[0] == 0 and answer[4:] == message[4:]:
            return say({"answered": True})
    say({"answered": False})


def pieces(port, server, count, piece):
    bound, count, piece = udp(int(port)), int(count), int(piece) & ~7
    query = struct.pack("!HHI", 1, 0x0100, 1) + os.urandom(count - 8)
    datagram = struct.pack("!HHHH", int(port), 5300, 8 + count, 0) + query
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for start in reversed(range(0, len(datagram), piece)):
        part = datagram[start : start + piece]
        more = 0x2000 if start + piece < len(datagram) else 0
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(part), 4711, more | start // 8, 64, 17, 0)
        raw.sendto(header + bytes(4) + socket.inet_aton(server) + part, (server, 0))
    came = bool(select.select([bound], [], [], PATIENCE)[0])
    say({"answered": came and bound.recv(1 << 16)[4:] == query[4:]})


def marked(server):
    bound = udp()
    for ecn in range(4):
        bound.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, ecn)
        bound.sendto(struct.pack("!HHI", ecn, 0x0100, ecn) + bytes(24), (server, 5300))
    answered = []
    while select.select([bound], [], [], PATIENCE)[0]:
        answered.append(struct.unpack("!I", bound.recv(2048)[4:8])[0])
    say(sorted(answered))


def reusing(port):
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        bound.setsockopt(socket.SOL_SOCKET, option, 1)
    bound.settimeout(5)
    bound.bind(("", port))
    return bound


def connected(port, server):
    """The TCP port's public endpoint, and the connection that keeps it."""
    stream = reusing(port)
    stream.connect((server, 80))
    stream.sendall(b"GET /who HTTP/1.1\r\n\r\n")
    head, body = b"", b""
    while not body:
        head += stream.recv(4096)
        _, _, body = head.partition(b"\r\n\r\n")
    return body.decode(), stream


def meet(port, address, remote, text):
    with reusing(port) as stream:
        stream.connect((address, int(remote)))
        stream.sendall(text.encode())
        return stream.recv(4096).decode()


def errors_within(bound, milliseconds):
    watched = select.poll()
    watched.register(bound, 0)
    watched.poll(int(milliseconds))
    return errors_of(bound)


def talk(port):
    bound = udp(int(port))
    streams = []
    say({"ready": True})
    for line in sys.stdin:
        command, *words = line.split()
        if command == "who":
            mapped = binding(bound, words[0], 3478)
            say(mapped and "%s:%d" % mapped)
        elif command == "send":
            bound.sendto(words[2].encode(), (words[0], int(words[1])))
            say({"sent": True})
        elif command == "take":
            taken = []
            while select.select([bound], [], [], int(words[0]) / 1000)[0]:
                text, (address, remote) = bound.recvfrom(2048)
                taken.append({"text": text.decode(), "from": f"{address}:{remote}"})
            say(taken)
        elif command == "errors":
            bound.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            say(errors_within(bound, words[0]))
        elif command == "connected":
            endpoint, stream = connected(int(port), words[0])
            streams.append(stream)
            say(endpoint)
        elif command == "meet":
            say(meet(int(port), *words))


COMMANDS = (stun, dns, ftp, flows, flood, spoof, tagged, pieces, marked, talk)
{command.__name__: command for command in COMMANDS}[sys.argv[1]](*sys.argv[2:])
