// What real hosts do in a bed for source NAT: servers to visit, and subscribers that visit them, each a process of
// nat_server.py or nat_host.py (test/netns) or a program everybody knows, in its own namespace. Called by the namespace
// tests, on Node's main thread.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { type Background, ROOT } from "./command.js";
import { NAT, type NatBed, type NatPlace } from "./nat-bed.js";

/** Debian's own Python. */
const PYTHON = "/usr/bin/python3";
const HOST = join(ROOT, "test/netns/nat_host.py");
const SERVER = join(ROOT, "test/netns/nat_server.py");

/** Every server there is, until the bed is removed. */
export async function startServers(bed: NatBed): Promise<void> {
  for (const port of ["5201", "5202"]) bed.start("server", "iperf3", ["-s", "-p", port]);
  await startServer(bed, "server", NAT.server, NAT.server2);
}

/** nat_server.py, on two addresses of a place. */
export async function startServer(bed: NatBed, place: NatPlace, address: string, other: string): Promise<void> {
  await bed.start(place, PYTHON, [SERVER, address, other]).nextLine();
}

/** One of the things nat_host.py does, to its end; its result. */
export async function host<T>(bed: NatBed, place: NatPlace, ...args: (string | number)[]): Promise<T> {
  return JSON.parse(await bed.exec(place, PYTHON, [HOST, ...args.map(String)])) as T;
}

export interface Stun {
  mapping: string;
  filtering: string;
  mapped: [string, number];
}

export function stun(bed: NatBed, place: NatPlace): Promise<Stun> {
  return host<Stun>(bed, place, "stun", NAT.server, NAT.server2);
}

export interface IcmpError {
  type: number;
  code: number;
  from: string;
  /** Where the datagram was sent that it quotes. */
  about: string;
}

/** The sockets of one port of a host. */
export class Talker {
  private constructor(private readonly process: Background) {}

  static async start(bed: NatBed, place: NatPlace, port: number): Promise<Talker> {
    const talker = new Talker(bed.start(place, PYTHON, [HOST, "talk", String(port)]));
    await talker.process.nextLine();
    return talker;
  }

  /** The endpoint that the world sees, or null. */
  who(server: string = NAT.server): Promise<string | null> {
    return this.#ask(`who ${server}`);
  }

  async send(endpoint: string, text: string): Promise<void> {
    await this.#ask(`send ${endpoint.replace(":", " ")} ${text}`);
  }

  /** Errors that ICMP told, by the time the first one is there. The first call only begins to listen to them. */
  errors(patienceMs = 1000): Promise<IcmpError[]> {
    return this.#ask(`errors ${patienceMs}`);
  }

  /** Of a TCP connection of the same port, which stays: the endpoint that the server sees. */
  connected(): Promise<string> {
    return this.#ask(`connected ${NAT.server}`);
  }

  /** Connects from the same TCP port to a peer that does the same, says a word and hears the peer's. */
  meet(endpoint: string, text: string): Promise<string> {
    return this.#ask(`meet ${endpoint.replace(":", " ")} ${text}`);
  }

  /** What has come by the time nothing came for so long. */
  take(quietMs = 200): Promise<{ text: string; from: string }[]> {
    return this.#ask(`take ${quietMs}`);
  }

  async stop(): Promise<void> {
    this.process.closeInput();
    await this.process.exited;
  }

  async #ask<T>(line: string): Promise<T> {
    this.process.send(line);
    return JSON.parse(await this.process.nextLine()) as T;
  }
}

/** The SHA-256 of what nat_server.py sends for a number of bytes. */
export function digestOf(bytes: number): string {
  const block = createHash("shake256", { outputLength: 65521 }).update("vxpipe").digest();
  const digest = createHash("sha256");
  for (let left = bytes; left > 0; left -= block.length) digest.update(block.subarray(0, left));
  return digest.digest("hex");
}

export interface Transfer {
  server?: string;
  /** At most so many bytes a second; "0": no limit. */
  rate?: string;
}

/** Fetches a file with curl; fails when it is not what the server sent. */
export async function download(
  bed: NatBed,
  place: NatPlace,
  bytes: number,
  { server = NAT.server, rate = "0" }: Transfer = {},
): Promise<void> {
  const file = join(bed.directory, `download-${place}`);
  await bed.exec(place, "curl", ["-sS", "-m", "30", "--limit-rate", rate, "-o", file, `http://${server}/${bytes}`]);
  const [digest] = (await bed.exec(place, "sha256sum", [file])).split(" ");
  assert.equal(digest, digestOf(bytes), `what ${place} downloaded is not what the server sent`);
}

/** Stores a file with curl; fails when it is not what the server got. */
export async function upload(
  bed: NatBed,
  place: NatPlace,
  bytes: number,
  { server = NAT.server, rate = "0" }: Transfer = {},
): Promise<void> {
  const file = join(bed.directory, `upload-${place}`);
  const content = Buffer.alloc(bytes, createHash("shake256", { outputLength: 65519 }).update(place).digest());
  writeFileSync(file, content);
  const curl = ["-sS", "-m", "30", "--limit-rate", rate, "-T", file, `http://${server}/x`];
  const digest = await bed.exec(place, "curl", curl);
  assert.equal(digest, createHash("sha256").update(content).digest("hex"), `what ${place} sent is not what arrived`);
}

/** A file each way by passive FTP, with Python's client. */
export async function ftp(bed: NatBed, place: NatPlace, bytes: number): Promise<void> {
  type Files = { down: string; up: string; stored: string };
  const { down, up, stored } = await host<Files>(bed, place, "ftp", NAT.server, bytes);
  assert.equal(down, digestOf(bytes));
  assert.equal(stored, up);
}

/** A second of iperf3 as fast as it goes, or at a rate such as "300M"; bits a second. */
export async function iperf(bed: NatBed, place: NatPlace, port: number, reverse: boolean, rate = "0"): Promise<number> {
  const args = ["-c", NAT.server, "-p", String(port), "-t", "1", "-b", rate, "-J", ...(reverse ? ["-R"] : [])];
  const report = JSON.parse(await bed.exec(place, "iperf3", args)) as {
    end: { sum_received: { bits_per_second: number } };
  };
  return report.end.sum_received.bits_per_second;
}

/** Echo requests at once: the answers to some more are too many for ping's socket. */
const PINGS = 10;

/** Asks that many times; fails when an answer is missing. For the last one ping waits no longer than its interval or two of
 * the longest round trips, whatever -W says. */
export async function ping(bed: NatBed, place: NatPlace, to: string, count: number, ...more: string[]): Promise<void> {
  for (let left = count; left > 0; left -= PINGS) {
    const some = Math.min(left, PINGS);
    const args = ["-q", "-c", String(some), "-l", String(some), "-i", "2", ...more, to];
    const text = await bed.exec(place, "ping", args);
    assert.match(text, new RegExp(`${some} packets transmitted, ${some} received`));
  }
}

/** Who answered at each hop. */
export async function traceroute(bed: NatBed, place: NatPlace, how: string, to: string): Promise<string[]> {
  const text = await bed.exec(place, "traceroute", ["-n", how, "-q", "1", "-w", "1", "-m", "6", to]);
  return text
    .trim()
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(/\s+/)[1] ?? "");
}

/** Address Resolution Protocol answers to a host: the MAC that has an address, or null. */
export async function arping(bed: NatBed, place: NatPlace, name: string, address: string): Promise<string | null> {
  const text = await bed.exec(place, "arping", ["-c", "1", "-w", "1", "-I", name, address]).catch(() => "");
  return /\[([0-9A-F:]+)\]/i.exec(text)?.[1]?.toLowerCase() ?? null;
}
