// The JSON schema of the configuration, and the only place where its defaults stand. Read by the validator (check.ts),
// printed by `vxpipe config schema`. `expected` completes "must be ..."; `refused` is said where a value asks for what
// this version does not do; `format` names a check of formats.ts.
import { vxConstant } from "../abi.gen.js";
import { nat, vnis } from "./schema-nat.js";

const interfaceName = { type: "string", format: "interface", expected: "an interface name" } as const;
const port = { type: "integer", minimum: 1, maximum: 65535, expected: "a port from 1 to 65535" } as const;
const flag = { type: "boolean", expected: "true or false" } as const;

const inside = {
  type: "object",
  description: "Where VXLAN packets, or with vxlan omitted plain Ethernet frames, arrive.",
  additionalProperties: false,
  required: ["interface"],
  properties: {
    interface: interfaceName,
    vxlan: {
      type: "object",
      additionalProperties: false,
      properties: {
        port: { ...port, default: 4789, description: "UDP port tunnels are sent to." },
        vnis: { ...vnis, description: "VNIs that are ours; the others are left to the kernel." },
        local: {
          default: "any",
          description: "The address tunnels must be sent to. With source NAT any is the first of the interface.",
          type: "string",
          expected: "any or an address",
          if: { const: "any" },
          else: { format: "address" },
        },
        peers: {
          default: "any",
          description: "Where tunnels may come from.",
          if: { type: "array" },
          then: {
            minItems: 1,
            maxItems: 1024,
            items: { type: "string", format: "prefix", expected: "an address or prefix" },
          },
          else: { const: "any", expected: "any or a list of prefixes" },
        },
      },
    },
  },
} as const;

const outside = {
  type: "object",
  description: "Where packets leave.",
  additionalProperties: false,
  required: ["interface"],
  properties: {
    interface: interfaceName,
    nextHop: {
      default: "auto",
      description: "auto: route and neighbour of each packet's destination, as the kernel has them; or one MAC.",
      type: "string",
      expected: "auto or a MAC address in quotes",
      if: { const: "auto" },
      else: { format: "mac" },
    },
  },
} as const;

const workers = {
  type: "object",
  description: "The workers, which send what XDP does not. Under the datapath xdp there is one, for exceptions.",
  additionalProperties: false,
  default: {},
  properties: {
    count: {
      default: "auto",
      if: { type: "integer" },
      then: {
        minimum: 1,
        maximum: vxConstant.workersMax,
        expected: `auto or a number from 1 to ${vxConstant.workersMax}`,
      },
      else: { const: "auto", expected: `auto or a number from 1 to ${vxConstant.workersMax}` },
    },
    cpus: {
      default: "auto",
      description: "The CPUs they are pinned to, in turn; auto: those that do not serve the interfaces' interrupts.",
      if: { type: "array" },
      then: {
        minItems: 1,
        maxItems: vxConstant.workersMax,
        expected: "auto or a list of CPU numbers",
        items: {
          type: "integer",
          minimum: 0,
          maximum: vxConstant.cpusMax - 1,
          expected: `a CPU number from 0 to ${vxConstant.cpusMax - 1}`,
        },
      },
      else: { const: "auto", expected: "auto or a list of CPU numbers" },
    },
    batch: {
      default: 64,
      description: "Most packets received at once; nobody waits to fill one.",
      type: "integer",
      minimum: 1,
      maximum: 1024,
      expected: "a whole number from 1 to 1024",
    },
    polling: { default: "adaptive", enum: ["adaptive", "busy"] },
    priority: {
      default: "off",
      description:
        "Real-time priority (SCHED_FIFO), 99 the highest: nothing of a lower one runs on a worker's CPU while it works.",
      if: { type: "string" },
      then: { const: "off", expected: "off or a number from 1 to 99" },
      else: { type: "integer", minimum: 1, maximum: 99, expected: "off or a number from 1 to 99" },
    },
  },
} as const;

const allowlist = {
  type: "object",
  description: "Section absent: every address is allowed; present and empty: none.",
  additionalProperties: false,
  properties: {
    file: {
      type: "string",
      format: "path",
      expected: "the path of an allowlist file",
      description: "JSON or text; relative to the configuration file.",
    },
    match: {
      default: "either",
      description: "Which address of the inner packet must be listed.",
      enum: ["source", "destination", "either"],
    },
  },
} as const;

const packet = {
  type: "object",
  additionalProperties: false,
  default: {},
  properties: {
    clearDontFragment: { ...flag, default: false, description: "Clear DF, so that packets may be fragmented." },
    truncated: { default: "drop", enum: ["drop"] },
    ipv6: { default: "drop", enum: ["drop", "forward"], description: "Inner IPv6; forward: filtered, untranslated." },
    decrementTtl: { ...flag, default: false, description: "Always on with source NAT." },
  },
} as const;

const control = {
  type: "object",
  additionalProperties: false,
  default: {},
  properties: {
    listen: {
      default: "127.0.0.1:9470",
      description: "HTTP, read-only: metrics, health, statistics.",
      type: "string",
      format: "listen",
      expected: "ADDRESS:PORT",
    },
    socket: {
      default: "/run/vxpipe/vxpipe.sock",
      description: "Unix socket of the command line.",
      type: "string",
      format: "absolute-path",
      maxLength: 107,
      expected: "an absolute path of at most 107 characters",
    },
  },
} as const;

const log = {
  type: "object",
  additionalProperties: false,
  default: {},
  properties: { level: { default: "info", enum: ["trace", "debug", "info", "warn", "error", "fatal", "silent"] } },
} as const;

const stateDirectory = { type: "string", format: "absolute-path", expected: "an absolute path" } as const;

const state = {
  type: "object",
  additionalProperties: false,
  default: {},
  properties: {
    directory: {
      ...stateDirectory,
      default: "/var/lib/vxpipe",
      description: "What the last run left: whether it ended cleanly, and its final statistics.",
    },
    bpffs: { ...stateDirectory, default: "/sys/fs/bpf/vxpipe", description: "Where BPF maps and links are pinned." },
  },
} as const;

export const schema = {
  $schema: "http://json-schema.org/draft-07/schema#",
  title: "vxpipe configuration",
  type: "object",
  additionalProperties: false,
  required: ["inside", "outside"],
  properties: {
    version: { default: 1, const: 1, expected: "1" },
    inside,
    outside,
    datapath: {
      default: "auto",
      description:
        "What sends: xdp = XDP itself, a worker only what XDP cannot; afxdp, ringbuf = the worker sends everything, " +
        "fed by AF_XDP sockets or BPF ring buffers. auto: the best that a trial shows to work, in this order; " +
        "with source NAT workers send, so not xdp.",
      enum: ["auto", "xdp", "afxdp", "ringbuf"],
    },
    workers,
    allowlist,
    nat,
    packet,
    control,
    log,
    state,
  },
} as const;

/** For those who look for the daemon without its configuration. */
export const defaultSocket = schema.properties.control.properties.socket.default;
