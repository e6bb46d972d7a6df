// The schema of `nat`, with its defaults. A part of schema.ts, which says how such a schema is written.
import { vxConstant } from "../abi.gen.js";

const port = { type: "integer", minimum: 1, maximum: 65535, expected: "a port from 1 to 65535" } as const;
const flag = { type: "boolean", expected: "true or false" } as const;

/** A whole number within limits. */
function whole<Least extends number, Most extends number, Default extends number>(
  minimum: Least,
  maximum: Most,
  value: Default,
) {
  const expected = `a whole number from ${minimum} to ${maximum}`;
  return { type: "integer", minimum, maximum, default: value, expected } as const;
}

const vni = {
  type: "integer",
  minimum: 0,
  maximum: 16777215,
  expected: "a VNI from 0 to 16777215",
} as const;

const endpoint = {
  type: "string",
  format: "rule-target",
  expected: 'ADDRESS:PORT in quotes, such as "192.0.2.1:8081"',
} as const;

export const vnis = {
  default: "any",
  if: { type: "array" },
  then: {
    minItems: 1,
    maxItems: 1024,
    items: {
      if: { type: "string" },
      then: { format: "vni-range" },
      else: { ...vni, expected: 'a VNI from 0 to 16777215 or a range such as "100-199"' },
    },
  },
  else: { const: "any", expected: 'any or a list such as [1, 7, "100-199"]' },
} as const;

const blockSizes = [64, 128, 256, 512, 1024, 2048, 4096, 8192] as const;
/** Ports of the smallest block there can be; where a block has as many as the ABI has room for blocks of an address. */
const smallest = 65536 / vxConstant.blocksPerAddress;

const pool = {
  type: "object",
  additionalProperties: false,
  required: ["addresses"],
  expected: 'a pool such as { addresses: ["203.0.113.1-203.0.113.10"] }',
  properties: {
    addresses: {
      type: "array",
      description: "Public addresses: single ones, prefixes and ranges.",
      minItems: 1,
      maxItems: 1024,
      expected: 'a list such as ["203.0.113.1-203.0.113.10", "198.51.100.0/28"]',
      items: {
        type: "string",
        format: "pool-addresses",
        expected: 'an address, a prefix or a range such as "203.0.113.1-203.0.113.10"',
      },
    },
    ports: {
      default: "1024-65535",
      description: "What of each address is given out; what is no whole block of it is lost.",
      type: "string",
      format: "port-range",
      expected: 'a range of ports in quotes, such as "1024-65535"',
    },
    vnis: { ...vnis, description: "Whose subscribers it serves." },
    allowPrivate: { ...flag, default: false, description: "Its addresses may be private ones." },
  },
} as const;

const forward = {
  type: "object",
  additionalProperties: false,
  required: ["outside", "protocol", "inside"],
  expected: 'a forward such as { outside: "203.0.113.1:8080", protocol: tcp, inside: "10.0.0.5:80", vni: 100 }',
  properties: {
    outside: { ...endpoint, description: "A pool address and a port that is given to nobody else." },
    protocol: { enum: ["udp", "tcp", "any"] },
    inside: endpoint,
    vni: { ...vni, description: "Of the inside host; not with plain Ethernet." },
  },
} as const;

const gateway = {
  type: "object",
  additionalProperties: false,
  required: ["address"],
  expected: "a gateway such as { vni: 100, address: 10.0.0.1 }",
  properties: {
    vni: { ...vni, description: "Where it is the gateway; not with plain Ethernet." },
    address: { type: "string", format: "ipv4-host", expected: "an IPv4 address" },
  },
} as const;

/** A week: nobody waits longer, and the counter of ticks does not go round. */
const secondsMax = 604800;

const timeouts = {
  type: "object",
  additionalProperties: false,
  default: {},
  description: "Seconds without a packet after which a session ends; portHold: how long its port rests then.",
  properties: {
    tcpEstablished: whole(1, secondsMax, 7440),
    tcpTransitory: whole(1, secondsMax, 240),
    udp: whole(1, secondsMax, 300),
    icmp: whole(1, secondsMax, 60),
    portHold: whole(1, secondsMax, 120),
  },
} as const;

const collector = (protocol: string) =>
  ({
    default: null,
    description: `Where records go by UDP, as ${protocol} with the elements of RFC 8158.`,
    if: { type: "null" },
    else: { type: "string", format: "collector", expected: "the HOST:PORT of a collector, or null" },
  }) as const;

const records = {
  type: "object",
  additionalProperties: false,
  default: {},
  description: "Who had which ports of which address from when to when.",
  properties: {
    file: {
      default: null,
      description: "JSON lines, appended; relative to the configuration file. null: only the daemon's memory knows.",
      if: { type: "null" },
      else: { type: "string", format: "path", expected: "the path of a file, or null" },
    },
    sessions: {
      ...flag,
      default: false,
      description: "Sessions too, with whom: by default only blocks of ports are recorded.",
    },
    netflow: collector("NetFlow version 9"),
    ipfix: collector("IPFIX"),
  },
} as const;

const source = {
  type: "object",
  description: "Absent: no source NAT, packets go one way.",
  additionalProperties: false,
  required: ["pools"],
  properties: {
    pools: {
      type: "array",
      minItems: 1,
      maxItems: 256,
      expected: 'a list of pools such as { addresses: ["203.0.113.1-203.0.113.10"] }',
      items: pool,
    },
    mapping: { default: "endpoint-independent", enum: ["endpoint-independent", "address-and-port-dependent"] },
    filtering: {
      default: "address-and-port-dependent",
      enum: ["endpoint-independent", "address-dependent", "address-and-port-dependent"],
    },
    pooling: {
      default: "paired",
      description: "paired: one address a subscriber, refused when it is full; paired-else-any: then another one.",
      enum: ["paired", "paired-else-any"],
    },
    blocks: {
      type: "object",
      additionalProperties: false,
      default: {},
      properties: {
        size: {
          default: 128,
          description: "Ports of a block, for all protocols together.",
          enum: blockSizes.filter((size) => size >= smallest),
          expected: "a power of two from 64 to 8192",
        },
        perSubscriber: { ...whole(1, 1024, 8), description: "Blocks a subscriber may have." },
      },
    },
    limits: {
      type: "object",
      additionalProperties: false,
      default: {},
      description: "Of one subscriber, all protocols together; a session is a mapping and a remote.",
      properties: {
        sessionsPerSubscriber: whole(1, 50_000_000, 2000),
        newSessionsPerSecond: whole(1, 10_000_000, 200),
      },
    },
    maxSessions: { ...whole(1, 50_000_000, 1_000_000), description: "Of all subscribers together." },
    hairpin: { ...flag, default: true, description: "Subscribers reach each other by their public addresses." },
    exclude: {
      type: "array",
      default: [],
      maxItems: 1024,
      description: "Destinations that packets leave to untranslated.",
      expected: "a list of prefixes",
      items: { type: "string", format: "ipv4-prefix", expected: "an IPv4 address or prefix" },
    },
    forwards: {
      type: "array",
      default: [],
      maxItems: 16384,
      description: "Static: what arrives outside for an address and port goes to a host inside.",
      expected: "a list of forwards",
      items: forward,
    },
    gateways: {
      type: "array",
      default: [],
      maxItems: 16384,
      description: "Addresses inside that ARP is answered for, and that our own ICMP comes from there.",
      expected: "a list of gateways",
      items: gateway,
    },
    mssClamp: {
      default: "off",
      description: "Most bytes of a TCP segment; auto: what fits the inside MTU.",
      if: { type: "string" },
      then: { enum: ["off", "auto"], expected: "off, auto or a number of bytes from 88 to 65495" },
      else: {
        type: "integer",
        minimum: 88,
        maximum: 65495,
        expected: "off, auto or a number of bytes from 88 to 65495",
      },
    },
    icmpErrors: {
      type: "object",
      additionalProperties: false,
      default: {},
      description: "Whether our own ICMP errors, of which there are only so many a second, are sent to that side.",
      properties: { inside: { ...flag, default: true }, outside: { ...flag, default: false } },
    },
    tcpMidstream: {
      default: "create",
      description: "A TCP segment from inside that belongs to no session: makes one, or is dropped.",
      enum: ["create", "drop"],
    },
    timeouts,
    records,
  },
} as const;

export const nat = {
  type: "object",
  additionalProperties: false,
  default: {},
  properties: {
    destination: {
      type: "array",
      description: "Static translation by inner destination port; without a rule addresses stay.",
      default: [],
      maxItems: 131072,
      expected: 'a list of rules such as { protocol: udp, port: 53, to: "192.0.2.1:5353" }',
      items: {
        type: "object",
        additionalProperties: false,
        required: ["protocol", "port", "to"],
        expected: 'a rule such as { protocol: udp, port: 53, to: "192.0.2.1:5353" }',
        properties: { protocol: { enum: ["udp", "tcp", "any"] }, port, to: endpoint },
      },
    },
    source,
  },
} as const;
