// Real senders and receivers in a bed: sockets of the namespaces' own kernels. Called by the namespace tests and
// the demo, on Node's main thread; the sockets live in processes of endpoint.ts and udp_receive.py.
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { ADDRESS, type Bed, type Place } from "./bed.js";
import { type Background, ROOT } from "./command.js";

const ENDPOINT = fileURLToPath(new URL("endpoint.js", import.meta.url));
const RECEIVER = join(ROOT, "test/bed/udp_receive.py");

/** What went through a socket; equal on both sides when nothing was lost or changed. */
export interface Transfer {
  count: number;
  bytes: number;
  digest: string;
}

async function result(process: Background): Promise<Transfer> {
  const exit = await process.exited;
  if (exit.code !== 0) throw new Error(`endpoint: exit ${exit.code}: ${process.stderr.trim()}`);
  return JSON.parse(process.lines.at(-1) ?? "") as Transfer;
}

function startEndpoint(bed: Bed, place: Place, args: (string | number)[]): Background {
  return bed.start(place, process.execPath, [ENDPOINT, ...args.map(String)]);
}

export class UdpReceiver {
  private constructor(readonly process: Background) {}

  static async start(bed: Bed, place: Place, address: string, port: number, count: number): Promise<UdpReceiver> {
    const receiver = new UdpReceiver(
      bed.start(place, "/usr/bin/python3", [RECEIVER, address, String(port), String(count)]),
    );
    await receiver.process.nextLine();
    return receiver;
  }

  /** Everything received, when it is `count` datagrams or no more come; the receiver ends. */
  finish(): Promise<Transfer> {
    this.process.closeInput();
    return result(this.process);
  }
}

export interface Datagrams {
  from?: string;
  to?: string;
  port: number;
  count: number;
  bytes: number;
  gapMs?: number;
}

/** Sends datagrams from the source; with its vxlan device in the way of `to` they go through the gateway. */
export function sendUdp(bed: Bed, what: Datagrams): Promise<Transfer> {
  const { from = "10.0.0.1", to = ADDRESS.beyond, port, count, bytes, gapMs = 0 } = what;
  return result(startEndpoint(bed, "source", ["udp-send", from, to, port, count, bytes, gapMs]));
}

/** A whole TCP conversation inside one namespace (to be mirrored from there): what was sent and what was received. */
export async function converseTcp(
  bed: Bed,
  place: Place,
  what: { from: string; to: string; port: number; bytes: number },
): Promise<{ sent: Transfer; received: Transfer }> {
  const receiver = startEndpoint(bed, place, ["tcp-receive", what.to, what.port]);
  await receiver.nextLine();
  const sender = startEndpoint(bed, place, ["tcp-send", what.from, what.to, what.port, what.bytes]);
  const [sent, received] = await Promise.all([result(sender), result(receiver)]);
  return { sent, received };
}

/** Copies what the source's loopback device carries into its vxlan device, as a mirror port would. A mirror has no flow
 * control: at the rate of a loopback device the interfaces behind it would drop copies before the gateway sees them. */
export async function mirrorLoopback(bed: Bed, address: string, loopbackMtu = 1400): Promise<void> {
  await bed.ip("source", `addr add ${address}/32 dev lo`, `link set lo mtu ${loopbackMtu}`);
  const rules = `table netdev vx_mirror {
    chain mirror { type filter hook egress device "lo" priority 0; policy accept; meta l4proto tcp dup to "vxlan0"; }
  }\n`;
  const pace = "qdisc replace dev vxlan0 root tbf rate 100mbit burst 32k limit 16m";
  await bed.exec("source", "tc", pace.split(" "));
  await bed.exec("source", "nft", ["-f", "-"], { input: rules });
}
