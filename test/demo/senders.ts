// The demo's real senders: the kernel's own sockets behind a kernel vxlan device, each transfer followed to the
// target. Called by main.ts, on Node's main thread.
import { ADDRESS, type Bed } from "../bed/bed.js";
import { Capture, reassemble } from "../bed/capture.js";
import { converseTcp, mirrorLoopback, sendUdp, UdpReceiver } from "../bed/endpoints.js";
import type { Evidence } from "./proof.js";

export const SENDER = "10.0.0.1";
export const UDP_RULE = { port: 31765, to: `${ADDRESS.target}:8081` };
export const TCP_RULE = { port: 8080, to: `${ADDRESS.target}:8082` };
const TCP_SERVER = "203.0.113.10"; // lives at the source: its conversation is mirrored
const PINGS = 5;

async function udp(bed: Bed): Promise<Evidence["transfers"]> {
  const transfers: Evidence["transfers"] = [];
  for (const [what, count, bytes] of [
    ["UDP through the kernel's vxlan device", 2000, 400],
    ["UDP too big for the outside, fragmented", 20, 2000],
  ] as const) {
    const receiver = await UdpReceiver.start(bed, "target", ADDRESS.target, 8081, count);
    const sent = await sendUdp(bed, { from: SENDER, port: UDP_RULE.port, count, bytes, gapMs: bytes > 1500 ? 5 : 0 });
    transfers.push({ what, sent, received: await receiver.finish() });
  }
  return transfers;
}

async function tcp(bed: Bed): Promise<Evidence["transfers"][number]> {
  await mirrorLoopback(bed, TCP_SERVER);
  const capture = await Capture.start(bed, "target", "dst0", "tcp");
  const { sent } = await converseTcp(bed, "source", {
    from: SENDER,
    to: TCP_SERVER,
    port: TCP_RULE.port,
    bytes: 2_000_000,
  });
  await capture.conversationEnd(TCP_RULE.to);
  return { what: "TCP mirrored one way, reassembled", sent, received: reassemble(await capture.stop(), TCP_RULE.to) };
}

async function ping(bed: Bed): Promise<Evidence["pings"]> {
  const capture = await Capture.start(bed, "target", "dst0", "icmp[icmptype] = icmp-echo");
  // One way only: nobody answers, and ping says so with exit code 1.
  await bed
    .exec("source", "ping", ["-q", "-c", String(PINGS), "-i", "0.05", "-W", "1", "-I", SENDER, ADDRESS.beyond])
    .catch(() => "");
  return { sent: PINGS, received: (await capture.stop()).length };
}

export async function realTraffic(bed: Bed): Promise<Pick<Evidence, "transfers" | "pings">> {
  // First what is slow: the next hop is found meanwhile, and 512 packets at most wait for that.
  const pings = await ping(bed);
  return { pings, transfers: [...(await udp(bed)), await tcp(bed)] };
}
