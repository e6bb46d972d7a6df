// The demo's judgement: it has to fail when anything at all is missing.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { type Evidence, holds, judge } from "./proof.js";

function evidence(): Evidence {
  const classes = { rule: 60, no_rule: 20, denied: 10, no_flag: 2, truncated: 2, ipv6: 2, other_vni: 4 };
  const dropped = { not_allowed: 10, vxlan_flags: 2, truncated: 2, ipv6: 2, too_big: 0 };
  const transfer = { count: 5, bytes: 500, digest: "d1" };
  return {
    offered: 108, // 100 generated, 7 of real senders, one ARP
    load: {
      sent: 100,
      generated: 100,
      refused: 0,
      seconds: 1,
      waitedSeconds: 0,
      pps: 100,
      innerBytes: 64,
      frameBytes: 128,
      flows: 1,
      classes,
    },
    stats: {
      datapath: { mode: "xdp", attach: "native", zeroCopy: false },
      inside: { received: 108, forwarded: 87, passed: 5, unreported: 0, injected: 0, pending: 0, dropped },
      outside: { received: 3, forwarded: 0, passed: 3, unreported: 0, injected: 0, pending: 0, dropped: {} },
      originated: 0,
      fragmentsExtra: 2,
      workers: [],
    },
    arrived: {
      seconds: 1,
      packets: 80,
      bytes: 8000,
      fragments: 4,
      otherIp: 5,
      neighbour: 1,
      other: 0,
      classes: { rule: 60, no_rule: 20, denied: 0, no_flag: 0, truncated: 0, ipv6: 0, other_vni: 0 },
      wrong: { class: 0, destination: 0, ipChecksum: 0, udpChecksum: 0, length: 0, order: 0, duplicate: 0 },
      udpChecksums: { checked: 80, zero: 0 },
      latency: null,
    },
    transfers: [{ what: "UDP", sent: transfer, received: { ...transfer } }],
    pings: { sent: 5, received: 5 },
  };
}

const failing = (found: Evidence): string[] =>
  judge(found)
    .filter((check) => !holds(check))
    .map((check) => check.what);

describe("the demo's proof", () => {
  test("holds when every packet is accounted for", () => {
    assert.deepEqual(failing(evidence()), []);
  });

  const losses: [string, (found: Evidence) => void][] = [
    ["a frame sent that the gateway never saw", (found) => (found.offered += 1)],
    [
      "a packet forwarded that never arrived",
      (found) => {
        found.arrived.classes.rule -= 1;
        found.arrived.packets -= 1;
      },
    ],
    [
      "a packet in no column of the ledger",
      (found) => {
        found.stats.inside.received += 1;
        found.offered += 1;
      },
    ],
    ["a packet that arrived twice", (found) => (found.arrived.packets += 1)],
    ["a wrong destination", (found) => (found.arrived.wrong.destination += 1)],
    ["a checksum nobody verified", (found) => (found.arrived.udpChecksums.checked -= 1)],
    [
      "a drop under another name",
      (found) => (found.stats.inside.dropped = { not_allowed: 10, vxlan_flags: 2, truncated: 2, ipv6: 1, too_big: 1 }),
    ],
    [
      "something still pending",
      (found) => {
        found.stats.inside.pending += 1;
        found.stats.inside.forwarded -= 1;
      },
    ],
    ["a changed byte in a transfer", (found) => found.transfers.forEach((one) => (one.received.digest = "d2"))],
    ["a lost echo request", (found) => (found.pings.received -= 1)],
  ];
  for (const [what, change] of losses) {
    test(`fails on ${what}`, () => {
      const found = evidence();
      change(found);
      assert.notDeepEqual(failing(found), []);
    });
  }
});
