// Source NAT of the configuration as the packet path takes it. Called by plan.ts and, for what depends on the host, by
// apply.ts; main thread. Pure.
import type { SourceNatPlan } from "xdp-socket";
import { forwardProtocols } from "./config/check-source-nat.js";
import type { SourceNat } from "./config/config.js";
import { parseAddressRange, parseEndpoint, parseIpv4, parsePortRange, vniRanges } from "./config/formats.js";
import { VxpipeError } from "./errors.js";

/** But for what only the host can tell. */
export type SourceNatWanted = Omit<SourceNatPlan, "sessionsPerWorker"> & {
  /** Of all workers together. */
  maxSessions: number;
};

const protocolNumbers = { tcp: 6, udp: 17 } as const;

export function sourceNatOf(source: SourceNat): SourceNatWanted {
  const { blocks, limits, icmpErrors, mapping, filtering, hairpin, maxSessions, timeouts, mssClamp } = source;
  return {
    pools: source.pools.map(({ addresses, ports, vnis }) => {
      const range = parsePortRange(ports) ?? fail(ports);
      return {
        addresses: addressesOf(addresses),
        firstPort: range.first,
        lastPort: range.last,
        vnis: vnis === "any" ? null : vniRanges(vnis),
      };
    }),
    forwards: source.forwards.flatMap(({ outside, protocol, inside, vni }) => {
      const [from, to] = [endpointOf(outside), endpointOf(inside)];
      return forwardProtocols(protocol).map((one) => ({
        address: from.address,
        port: from.port,
        protocol: protocolNumbers[one],
        vni: vni ?? null,
        inside: to.address,
        insidePort: to.port,
      }));
    }),
    gateways: source.gateways.map(({ vni, address }) => ({ vni: vni ?? null, address: bytesOf([address]) })),
    exclude: source.exclude.map((text) => {
      const { first, last } = parseAddressRange(text) ?? fail(text);
      return { address: numbersToBytes([first]), length: 32 - Math.log2(last - first + 1) };
    }),
    blockSize: blocks.size,
    blocksPerSubscriber: blocks.perSubscriber,
    mapping,
    filtering,
    paired: source.pooling === "paired",
    sessionsPerSubscriber: limits.sessionsPerSubscriber,
    newSessionsPerSecond: limits.newSessionsPerSecond,
    maxSessions,
    hairpin,
    icmpInside: icmpErrors.inside,
    icmpOutside: icmpErrors.outside,
    midstream: source.tcpMidstream,
    mssClamp: mssClamp === "off" ? 0 : mssClamp,
    timeouts: { ...timeouts },
    recordSessions: source.records.sessions,
  };
}

function fail(text: string): never {
  throw new Error(`the schema let ${text} through`);
}

function endpointOf(text: string): { address: Uint8Array; port: number } {
  const { host, port } = parseEndpoint(text) ?? fail(text);
  return { address: bytesOf([host]), port };
}

function bytesOf(addresses: readonly string[]): Uint8Array {
  return numbersToBytes(addresses.map((text) => parseIpv4(text) ?? fail(text)));
}

function addressesOf(texts: readonly string[]): Uint8Array {
  return numbersToBytes(
    texts.flatMap((text) => {
      const { first, last } = parseAddressRange(text) ?? fail(text);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    }),
  );
}

/** In network order. */
function numbersToBytes(addresses: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(addresses.length * 4);
  const view = new DataView(bytes.buffer);
  addresses.forEach((address, index) => view.setUint32(index * 4, address));
  return bytes;
}

/** A worker's part of maxSessions. Subscribers are spread by a hash, so some workers have more of them than others: a
 * quarter more than the even share, and one subscriber's worth, lets nobody be refused early where the whole has room. */
export function sessionsPerWorker(maxSessions: number, workers: number, sessionsPerSubscriber: number): number {
  const share = Math.ceil((maxSessions / workers) * 1.25) + sessionsPerSubscriber;
  return workers === 1 ? maxSessions : Math.min(maxSessions, share);
}

/** `workers`: what only the host can tell. */
export function sourceNatAt({ maxSessions, ...wanted }: SourceNatWanted, workers: number): SourceNatPlan {
  return { ...wanted, sessionsPerWorker: sessionsPerWorker(maxSessions, workers, wanted.sessionsPerSubscriber) };
}

/** The address tunnels are sent to and from where none is configured: the first of the interface, IPv4 before IPv6. */
export function tunnelAddress(name: string, addresses: readonly string[]): string {
  const usable = addresses.filter((address) => !/^fe[89ab]/i.test(address));
  const first = usable.find((address) => !address.includes(":")) ?? usable[0];
  if (first !== undefined) return first;
  throw new VxpipeError(
    "ADDRESS_MISSING",
    `the inside interface ${name} has no address: tunnels back need one to come from`,
  );
}

/** An address of the inside interface cannot be one of a pool. */
export function refuseInsideAddresses(nat: SourceNatWanted, name: string, addresses: readonly string[]): void {
  const [text] = poolAddresses(nat, addresses);
  if (text === undefined) return;
  throw new VxpipeError("POOL_ADDRESS_INSIDE", `${text} is in a pool of nat.source and an address of ${name} inside`);
}

/** An address of the outside interface may be one of a pool, but then it is not this host's any more. Null: none is. */
export function warnOfOutsideAddresses(
  nat: SourceNatWanted,
  name: string,
  addresses: readonly string[],
): string | null {
  const [text] = poolAddresses(nat, addresses);
  return text === undefined
    ? null
    : `${text} is in a pool of nat.source and an address of ${name}: this host itself hears nothing there any more`;
}

function poolAddresses(nat: SourceNatWanted, addresses: readonly string[]): string[] {
  return addresses.filter((text) => {
    const address = parseIpv4(text);
    return address !== null && nat.pools.some((pool) => has(pool.addresses, address));
  });
}

function has(bytes: Uint8Array, address: number): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length; at += 4) if (view.getUint32(at) === address) return true;
  return false;
}
