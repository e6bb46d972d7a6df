#!/usr/bin/python3
"""Writes the packet cases: a folder each with config.yaml, in.pcap, out.pcap, counters.json and description.txt.

What has to come out is computed with scapy (and, where scapy has no word for it, by the RFC), independently of the
gateway. Run by hand after a change of a *_cases.py; the results are committed. `--check`, run by
test/netns/packets.test.ts, fails when they are not what this script writes.
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)

import ecn_cases
import egress_cases
import filter_cases
import fragment_cases
import inner_cases
import rule_cases
import tunnel_cases

CASES = [
    case
    for module in (tunnel_cases, inner_cases, filter_cases, rule_cases, egress_cases, fragment_cases, ecn_cases)
    for case in module.cases()
]


def stale():
    """Files that are missing, different or of no case."""
    wrong = []
    names = {case.name for case in CASES}
    for case in CASES:
        for name, content in case.files().items():
            path = os.path.join(HERE, case.name, name)
            if not os.path.exists(path) or open(path, "rb").read() != content:
                wrong.append(os.path.relpath(path, HERE))
    for entry in sorted(os.listdir(HERE)):
        if os.path.isdir(os.path.join(HERE, entry)) and entry not in names:
            wrong.append(f"{entry} (no such case)")
    return wrong


def write():
    for case in CASES:
        folder = os.path.join(HERE, case.name)
        os.makedirs(folder, exist_ok=True)
        for name, content in case.files().items():
            with open(os.path.join(folder, name), "wb") as file:
                file.write(content)


if __name__ == "__main__":
    assert len({case.name for case in CASES}) == len(CASES), "two cases have one name"
    if sys.argv[1:] == ["--check"]:
        wrong = stale()
        if wrong:
            sys.exit("not what test/packets/generate.py writes: " + ", ".join(wrong))
    elif sys.argv[1:]:
        sys.exit("usage: generate.py [--check]")
    else:
        write()
        print(f"{len(CASES)} cases")
