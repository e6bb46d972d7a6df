// A real sender or receiver, run as a process of its own inside a bed's namespace by endpoints.ts:
//
//   node dist/test/bed/endpoint.js udp-send FROM TO PORT COUNT BYTES GAP_MS
//   node dist/test/bed/endpoint.js tcp-receive ADDRESS PORT
//   node dist/test/bed/endpoint.js tcp-send FROM TO PORT BYTES
//
// Prints {"ready":true} where it listens, and at its end one line with count, bytes and a digest that receiver (of datagrams:
// udp_receive.py) and sender compute alike.
import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer, isIPv6 } from "node:net";

function say(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** Content of datagram or block `index`: a pattern nobody else sends. */
function content(index: number, bytes: number): Buffer {
  const seed = createHash("sha256").update(`vxpipe ${index}`).digest();
  const filled = Buffer.alloc(bytes, seed);
  filled.writeUInt32BE(index, 0);
  return filled;
}

/** Of a set of datagrams, whatever order they came in. */
class SetDigest {
  readonly #each: string[] = [];
  bytes = 0;

  add(datagram: Buffer): void {
    this.#each.push(createHash("sha256").update(datagram).digest("hex"));
    this.bytes += datagram.length;
  }

  result(): object {
    const all = createHash("sha256").update(this.#each.sort().join(""));
    return { count: this.#each.length, bytes: this.bytes, digest: all.digest("hex") };
  }
}

async function udpSend(
  from: string,
  to: string,
  port: number,
  count: number,
  bytes: number,
  gapMs: number,
): Promise<void> {
  const socket = createSocket({ type: isIPv6(to) ? "udp6" : "udp4", sendBufferSize: 1 << 20 });
  const digest = new SetDigest();
  socket.bind(0, from);
  await once(socket, "listening");
  for (let index = 0; index < count; index++) {
    const datagram = content(index, bytes);
    digest.add(datagram);
    await new Promise<void>((resolve, reject) => {
      socket.send(datagram, port, to, (error) => (error ? reject(error) : resolve()));
    });
    if (gapMs > 0) await new Promise((resolve) => setTimeout(resolve, gapMs));
  }
  socket.close();
  say(digest.result());
}

async function tcpReceive(address: string, port: number): Promise<void> {
  const server = createServer({ allowHalfOpen: true });
  server.listen(port, address);
  await once(server, "listening");
  say({ ready: true });
  const [socket] = (await once(server, "connection")) as [import("node:net").Socket];
  const digest = createHash("sha256");
  let bytes = 0;
  for await (const chunk of socket) {
    digest.update(chunk as Buffer);
    bytes += (chunk as Buffer).length;
  }
  socket.end();
  server.close();
  say({ count: 1, bytes, digest: digest.digest("hex") });
}

async function tcpSend(from: string, to: string, port: number, bytes: number): Promise<void> {
  const socket = connect({ host: to, port, localAddress: from });
  await once(socket, "connect");
  const digest = createHash("sha256");
  const block = 64 << 10;
  for (let sent = 0, index = 0; sent < bytes; sent += block, index++) {
    const piece = content(index, Math.min(block, Math.max(bytes - sent, 4))).subarray(0, bytes - sent);
    digest.update(piece);
    if (!socket.write(piece)) await once(socket, "drain");
  }
  socket.end();
  socket.resume();
  await once(socket, "close");
  say({ count: 1, bytes, digest: digest.digest("hex") });
}

const [mode, ...args] = process.argv.slice(2);
const text = (index: number): string => args[index] ?? "";
const number = (index: number): number => Number(args[index]);
switch (mode) {
  case "udp-send":
    await udpSend(text(0), text(1), number(2), number(3), number(4), number(5));
    break;
  case "tcp-receive":
    await tcpReceive(text(0), number(1));
    break;
  case "tcp-send":
    await tcpSend(text(0), text(1), number(2), number(3));
    break;
  default:
    process.stderr.write(`unknown endpoint: ${mode}\n`);
    process.exitCode = 2;
}
