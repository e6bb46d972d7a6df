"""Cases about the allowlist. `allowlist.txt` beside the configuration is the list."""
from world import *


class Listed(Case):
    """A case with an allowlist of its own."""

    def __init__(self, name, sentence, entries, match="either", extra=""):
        text = config(f"allowlist:\n  file: allowlist.txt\n  match: {match}\n{extra}")
        super().__init__(name, sentence, text)
        self.entries = entries

    def files(self):
        text = "# what the case allows\n" + "".join(f"{entry}\n" for entry in self.entries)
        return {**super().files(), "allowlist.txt": text.encode()}

    def allow(self, source, destination):
        packet = (udp6 if ":" in source else udp)(source=source, destination=destination)
        self.forward(tunnel(packet), leaves(packet))

    def refuse(self, source, destination):
        packet = (udp6 if ":" in source else udp)(source=source, destination=destination)
        self.drop("not_allowed", tunnel(packet))


A, B = "10.0.0.5", "203.0.113.9"
ENTRIES = [A, "203.0.113.200"]


def matches():
    case = Listed("allow-source", "Only packets from a listed source leave.", ENTRIES, "source")
    case.allow(A, B)
    case.allow("203.0.113.200", A)
    case.refuse(B, A)
    case.refuse("10.0.0.6", "203.0.113.200")
    yield case

    case = Listed("allow-destination", "Only packets to a listed destination leave.", ENTRIES, "destination")
    case.allow(B, A)
    case.allow("10.0.0.6", "203.0.113.200")
    case.refuse(A, B)
    case.refuse("203.0.113.200", B)
    yield case

    case = Listed("allow-either", "A packet leaves when its source or its destination is listed.", ENTRIES)
    case.allow(A, B)
    case.allow(B, A)
    case.allow(A, "203.0.113.200")
    case.refuse(B, "203.0.113.8")
    case.refuse("10.0.0.4", "10.0.0.6")
    yield case

    case = Listed("allow-none", "With an empty allowlist nothing leaves.", [])
    case.refuse(A, B)
    case.refuse(B, A)
    yield case


def prefixes():
    entries = ["10.1.0.0/16", "10.2.3.4/31", "198.51.100.128/25", "172.16.0.1/32"]
    case = Listed("allow-prefixes", "A prefix allows what it covers to the last address and nothing beside it.", entries, "source")
    for source in ("10.1.0.0", "10.1.255.255", "10.2.3.4", "10.2.3.5", "198.51.100.128", "198.51.100.255", "172.16.0.1"):
        case.allow(source, B)
    for source in ("10.0.255.255", "10.2.0.0", "10.2.3.3", "10.2.3.6", "198.51.100.127", "198.51.101.128", "172.16.0.2"):
        case.refuse(source, B)
    yield case

    entries = [A, "10.1.0.0/16", "2001:db8:10::5", "2001:db8:20::/48"]
    case = Listed("allow-ipv6", "IPv6 addresses and prefixes are listed like IPv4 ones.", entries, "source", "packet:\n  ipv6: forward\n")
    for source in ("2001:db8:10::5", "2001:db8:20::1", "2001:db8:20:ffff:ffff:ffff:ffff:ffff"):
        case.allow(source, SERVER6)
    for source in ("2001:db8:10::6", "2001:db8:21::1", "2001:db8:1f:ffff::", "::ffff:10.0.0.5"):
        case.refuse(source, SERVER6)
    case.allow(A, B)
    case.allow("10.1.2.3", B)
    case.refuse("10.0.0.6", B)
    yield case


def translated():
    extra = """nat:
  destination:
    - { protocol: udp, port: 31765, to: "172.30.82.95:8081" }
"""
    case = Listed("allow-before-rule", "The allowlist looks at the packet before translation.", [B], "destination", extra)
    case.forward(tunnel(udp(dport=31765)), leaves(udp(destination=TARGET, dport=8081)), translated=1)
    case.drop("not_allowed", tunnel(udp(destination="203.0.113.8", dport=31765)))
    case.refuse(A, TARGET)
    yield case


def cases():
    yield from matches()
    yield from prefixes()
    yield from translated()
