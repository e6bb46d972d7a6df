// Sends what a NAT did to a collector, by UDP: nat.source.records.netflow and .ipfix. As collectors expect of it, what is lost
// on the way is lost, and its sequence numbers show it; the records' file is what nothing is missing in. Made by
// nat-control.ts; main thread.
import { createSocket, type Socket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { parseEndpoint } from "./config/formats.js";
import { systemReason } from "./errors.js";
import type { EventLog } from "./events.js";
import { FlowMessages, type FlowProtocol } from "./flow-messages.js";
import type { NatRecord } from "./nat-names.js";

const recoveredAfterMs = 10_000;

export class FlowExport {
  private readonly messages: FlowMessages;
  private socket: Socket | null = null;
  private opening: Promise<void> | null = null;
  private failing: string | null = null;
  private failedAt = 0;
  /** Records that left, and those that could not. */
  sent = 0;
  failed = 0;

  constructor(
    readonly protocol: FlowProtocol,
    readonly collector: string,
    private readonly events: EventLog,
    private readonly now: () => number = Date.now,
  ) {
    this.messages = new FlowMessages(protocol, now());
  }

  /** A collector that cannot be had is no reason not to start. */
  open(): Promise<void> {
    this.opening ??= this.connect()
      .catch((error: unknown) => this.fail(error))
      .finally(() => (this.opening = null));
    return this.opening;
  }

  send(records: readonly NatRecord[]): void {
    if (records.length === 0) return;
    const { socket } = this;
    if (socket === null) {
      this.failed += records.length;
      void this.open();
      return;
    }
    for (const { bytes, records: carried } of this.messages.encode(records, this.now())) {
      socket.send(bytes, (error) => {
        this.sent += error === null ? carried : 0;
        // Also when it says that one before was refused: then this one has not left.
        this.failed += error === null ? 0 : carried;
        if (error === null) this.recover();
        else this.fail(error);
      });
    }
  }

  /** When what was sent has left. */
  async close(): Promise<void> {
    await this.opening;
    const { socket } = this;
    this.socket = null;
    if (socket !== null) await new Promise<void>((resolve) => socket.close(resolve));
  }

  private async connect(): Promise<void> {
    if (this.socket !== null) return;
    const { host, port } = parseEndpoint(this.collector) ?? { host: "", port: 0 };
    const { address, family } = await lookup(host);
    const socket = createSocket(family === 6 ? "udp6" : "udp4");
    try {
      socket.connect(port, address);
      await once(socket, "connect"); // or "error"
    } catch (error) {
      socket.close();
      throw error;
    }
    // What ICMP says of datagrams before.
    socket.on("error", (error) => this.fail(error));
    socket.unref();
    this.socket = socket;
  }

  private fail(error: unknown): void {
    const reason = systemReason(error);
    this.failedAt = this.now();
    if (this.failing === reason) return;
    this.failing = reason;
    const text = `${this.protocol} to ${this.collector}: ${reason}; records on their way are lost to the collector`;
    this.events.emit("nat_export_failed", text, { collector: this.collector });
  }

  /** Who is not there refuses every other datagram. */
  private recover(): void {
    if (this.failing === null || this.now() - this.failedAt < recoveredAfterMs) return;
    this.failing = null;
    this.events.emit("nat_export_resumed", `${this.protocol} to ${this.collector} is sent again`);
  }
}
