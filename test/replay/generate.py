#!/usr/bin/python3
"""Writes the cases of `vxpipe replay` with source NAT: a folder each with config.yaml, in.pcap, return.pcap, out.pcap,
return-out.pcap, counters.json and description.txt.

What has to come out is built by scapy, checksums and all, independently of the gateway. Only what the gateway may choose
is taken from it: ports and identifications, which are the same in every run. Run by hand after a change of cases.py; the
results are committed. `--check`, run by test/unit/replay-nat-cases.test.ts, fails when they are not what this writes.
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path[:0] = [HERE, os.path.join(HERE, "..", "packets")]

from cases import CASES


def stale():
    wrong = []
    for case in CASES:
        for name, content in case.files().items():
            path = os.path.join(HERE, case.name, name)
            if not os.path.exists(path) or open(path, "rb").read() != content:
                wrong.append(os.path.relpath(path, HERE))
    names = {case.name for case in CASES}
    folders = [one for one in sorted(os.listdir(HERE)) if os.path.isdir(os.path.join(HERE, one))]
    return wrong + [f"{one} (no such case)" for one in folders if one not in names]


def write():
    for case in CASES:
        os.makedirs(os.path.join(HERE, case.name), exist_ok=True)
        for name, content in case.files().items():
            with open(os.path.join(HERE, case.name, name), "wb") as file:
                file.write(content)


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        wrong = stale()
        if wrong:
            sys.exit("not what test/replay/generate.py writes: " + ", ".join(wrong))
    else:
        write()
        print(f"{len(CASES)} cases")
