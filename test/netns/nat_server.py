#!/usr/bin/python3
"""What subscribers visit: one process with every server of the source NAT tests, on two addresses.

  nat_server.py ADDRESS OTHER     prints {"ready": true}; until standard input ends

  HTTP   ADDRESS:80      GET /N: N bytes of a pattern; GET /who: the client's endpoint; PUT: the SHA-256 of what came
  FTP    ADDRESS:21      passive only: RETR N as above, STOR answers with the SHA-256
  STUN   both, 3478 and 3479: RFC 5389 binding with RFC 5780's CHANGE-REQUEST and OTHER-ADDRESS
  DNS    ADDRESS:5300    every datagram comes back with the answer bit set

Run by test/bed/nat-hosts.ts inside the server's namespace; threads, one a service or connection.
"""
import hashlib
import http.server
import json
import socket
import socketserver
import struct
import sys
import threading

SO_RCVBUFFORCE = 33
STUN_PORTS = (3478, 3479)
COOKIE = 0x2112A442


def content(count):
    """The same bytes for the same count, without a period that a lost packet could hide in."""
    block = hashlib.shake_256(b"vxpipe").digest(65521)
    return (block * (count // len(block) + 1))[:count]


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/who":
            return self.answer("{}:{}".format(*self.client_address).encode())
        self.answer(content(int(self.path[1:])))

    def do_PUT(self):
        digest = hashlib.sha256()
        left = int(self.headers["Content-Length"])
        if self.headers.get("Expect"):
            self.send_response_only(100)
            self.end_headers()
        while left > 0:
            piece = self.rfile.read(min(left, 1 << 16))
            digest.update(piece)
            left -= len(piece)
        self.answer(digest.hexdigest().encode())

    def log_message(self, *_):
        pass


class Ftp(socketserver.StreamRequestHandler):
    """Just enough for ftplib: the client opens both connections (RFC 959, RFC 1579)."""

    listener = None

    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def passive(self):
        self.listener = socket.create_server((self.server.server_address[0], 0))
        return self.listener.getsockname()

    def handle(self):
        self.say("220 ready")
        while line := self.rfile.readline().decode().strip():
            command, _, argument = line.partition(" ")
            if command == "QUIT":
                self.say("221 bye")
                return
            self.command(command, argument)

    def command(self, command, argument):
        if command == "PASV":
            address, port = self.passive()
            self.say(f"227 entered ({address.replace('.', ',')},{port >> 8},{port & 255})")
        elif command in ("RETR", "STOR"):
            self.say("150 here it comes")
            data, _ = self.listener.accept()
            self.listener.close()
            with data:
                if command == "RETR":
                    data.sendall(content(int(argument)))
                    digest = ""
                else:
                    digest = hashlib.sha256()
                    while piece := data.recv(1 << 16):
                        digest.update(piece)
                    digest = digest.hexdigest()
            self.say(f"226 {digest}")
        elif command in ("USER", "TYPE"):
            self.say("230 yes")
        else:
            self.say("502 no")


class Threads(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def endpoint(kind, address, port):
    return struct.pack("!HHBBH4s", kind, 8, 0, 1, port, socket.inet_aton(address))


def stun(sockets):
    """Answers from where the request asks: bit 2 of CHANGE-REQUEST is the other address, bit 1 the other port."""
    addresses = sorted({address for address, _ in sockets})

    def serve(at):
        while True:
            request, remote = sockets[at].recvfrom(2048)
            if len(request) < 20 or request[:2] != b"\0\1":
                continue
            change = 0
            if len(request) >= 28 and request[20:24] == b"\0\3\0\4":
                change = struct.unpack("!I", request[24:28])[0]
            other = addresses[1 - addresses.index(at[0])]
            other_port = STUN_PORTS[1 - STUN_PORTS.index(at[1])]
            start = (other if change & 4 else at[0], other_port if change & 2 else at[1])
            mapped = struct.unpack("!I", socket.inet_aton(remote[0]))[0] ^ COOKIE
            body = struct.pack("!HHBBHI", 0x0020, 8, 0, 1, remote[1] ^ COOKIE >> 16, mapped)
            body += endpoint(0x802C, other, other_port)
            sockets[start].sendto(b"\1\1" + struct.pack("!H", len(body)) + request[4:20] + body, remote)

    for at in sockets:
        threading.Thread(target=serve, args=(at,), daemon=True).start()


def dns(listening):
    while True:
        query, remote = listening.recvfrom(1 << 16)
        listening.sendto(query[:2] + b"\x81\x80" + query[4:], remote)


def udp(address, port):
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    bound.bind((address, port))
    return bound


def main():
    address, other = sys.argv[1:]
    stun({(host, port): udp(host, port) for host in (address, other) for port in STUN_PORTS})
    threading.Thread(target=dns, args=(udp(address, 5300),), daemon=True).start()
    for server in (Threads((address, 80), Web), Threads((address, 21), Ftp)):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.read()


main()
