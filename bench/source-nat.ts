// Source NAT side by side: ours by its two datapaths, and the kernel's vxlan device with nftables SNAT and conntrack, on the
// same two cores. Live sessions each way, new ones, and few of many. Called by run.ts, on Node's main thread.
//
// Packets go out first, 10,000 flows of them, and are captured as they arrive: turned round, they are the answers that are
// then sent at full speed (vxgen --answers). For new sessions every packet is of another flow.
import { Capture, readPcap } from "../test/bed/capture.js";
import { sleep, until } from "../test/bed/command.js";
import { ADDRESS, Bed, type Place } from "../test/bed/bed.js";
import { Daemon } from "../test/bed/daemon.js";
import { generate, type Load, Sink, startPass } from "../test/bed/tools.js";
import { during, SOURCES } from "./gateways.js";
import { secondsWaited, threadsOf } from "./threads.js";
import type { Visit } from "./visits.js";

export const NAT_PEER = "kernel-snat";
export const ALONE = "64B-10000flows-out";
const IN = "64B-10000flows-in";
const NEW = "64B-newsessions";
export const BESIDE_MANY = "64B-10000flows-out-of-1000000";
const FLOWS = 10_000;
const NEW_FLOWS = 1_000_000;
/** More than anybody here creates, less than what fills every queue at once. */
const NEW_PER_SECOND = 2_000_000;
const POOL = "198.18.0.1-198.18.0.40";
const PORT = 31765;

/** The last one: 10,000 of a million live sessions; ours only, compared with the same flows alone. */
export const NAT_LOADS = [ALONE, IN, NEW, BESIDE_MANY] as const;
export type NatLoad = (typeof NAT_LOADS)[number];

export interface NatSample {
  mpps: number;
  sent: number;
  delivered: number;
  disturbed: number;
}

export interface Translator {
  readonly name: string;
  readonly bed: Bed;
  /** Starts with no session. */
  begin(): Promise<void>;
  end(): Promise<void>;
  threads(): number[];
}

class Ours implements Translator {
  #daemon: Daemon | null = null;

  constructor(
    readonly name: string,
    readonly datapath: "afxdp" | "ringbuf",
    readonly bed: Bed,
  ) {}

  async begin(): Promise<void> {
    this.#daemon = await Daemon.start(this.bed, {
      datapath: this.datapath,
      inside: { interface: "in0", vxlan: { port: 4789, vnis: [1] } },
      nat: {
        source: {
          pools: [{ addresses: [POOL], allowPrivate: true }],
          blocks: { size: 1024, perSubscriber: 8 },
          limits: { sessionsPerSubscriber: 100_000, newSessionsPerSecond: 1_000_000 },
        },
      },
    });
  }

  threads(): number[] {
    return this.#daemon ? threadsOf(this.#daemon.process.pid, "vx-") : [];
  }

  async end(): Promise<void> {
    const exit = await this.#daemon?.stop();
    if (exit && exit.code !== 0) throw new Error(`the daemon ended with ${exit.code}: ${this.#daemon?.process.stderr}`);
    this.#daemon = null;
  }
}

/** RPS gives the kernel its second core, where packets have left the first one's driver. */
class Kernel implements Translator {
  readonly name = NAT_PEER;
  #passes: { stop(): Promise<unknown> }[] = [];

  private constructor(readonly bed: Bed) {}

  static async make(bed: Bed): Promise<Kernel> {
    await bed.ip(
      "gateway",
      `link add vx1 type vxlan id 1 local ${ADDRESS.inside} remote ${ADDRESS.source} dstport 4789 dev in0 nolearning`,
      "link set vx1 address 02:00:00:00:00:aa arp off up",
      "route add 10.0.0.0/16 dev vx1",
    );
    await bed.sysctl("gateway", { "net.ipv4.ip_forward": 1, "net.ipv4.conf.vx1.rp_filter": 0 });
    const rules = `table ip vx { chain translate { type nat hook postrouting priority srcnat; policy accept;
      oifname "out0" snat to ${POOL}; }
    }\n`;
    await bed.exec("gateway", "nft", ["-f", "-"], { input: rules });
    for (const name of ["in0", "out0"]) await bed.offloads("gateway", name, false);
    for (const name of ["vx1", "out0"])
      await bed.exec("gateway", "sh", ["-c", `echo 2 > /sys/class/net/${name}/queues/rx-0/rps_cpus`]);
    return new Kernel(bed);
  }

  async begin(): Promise<void> {
    await this.bed.exec("gateway", "conntrack", ["-F"]).catch(() => "");
    // A veth takes XDP frames only with GRO or a program; the program costs the kernel less.
    this.#passes = [await startPass(this.bed, "gateway", "in0"), await startPass(this.bed, "gateway", "out0")];
  }

  threads(): number[] {
    return [];
  }

  async end(): Promise<void> {
    for (const pass of this.#passes) await pass.stop();
    this.#passes = [];
  }
}

export async function makeTranslators(withOurs: boolean): Promise<Translator[]> {
  const kernel = await Kernel.make(await Bed.make({ staticNeighbours: true }));
  const ours = withOurs ? await Bed.make({ staticNeighbours: true }) : null;
  const both = ours ? (["afxdp", "ringbuf"] as const).map((path) => new Ours(`${path}-snat`, path, ours)) : [];
  return [kernel, ...both];
}

export class SourceNatBench {
  readonly samples = new Map<string, Map<NatLoad, NatSample[]>>();

  private constructor(private readonly all: readonly Translator[]) {
    for (const { name } of all) this.samples.set(name, new Map(NAT_LOADS.map((load) => [load, []])));
  }

  static async make(withOurs: boolean): Promise<SourceNatBench> {
    return new SourceNatBench(await makeTranslators(withOurs));
  }

  visits(seconds: number): Visit[] {
    return this.all.map((one) => ({ cores: 2, run: () => this.#visit(one, seconds) }));
  }

  async #visit(one: Translator, seconds: number): Promise<void> {
    await during(one, async () => {
      const capture = await firstPackets(one.bed);
      this.#add(one, ALONE, await measure(one, "source", { flows: FLOWS, duration: seconds }));
      this.#add(one, IN, await measure(one, "target", { answers: capture, duration: seconds }));
    });
    await during(one, async () => {
      const duration = Math.min(seconds, NEW_FLOWS / NEW_PER_SECOND);
      this.#add(one, NEW, await measure(one, "source", { flows: NEW_FLOWS, rate: NEW_PER_SECOND, duration }));
      if (one.name === NAT_PEER) return;
      this.#add(one, BESIDE_MANY, await measure(one, "source", { flows: FLOWS, duration: seconds }));
    });
  }

  async remove(): Promise<void> {
    for (const bed of new Set(this.all.map((one) => one.bed))) await bed.remove();
  }

  #add(one: Translator, load: NatLoad, sample: NatSample): void {
    this.samples.get(one.name)?.get(load)?.push(sample);
  }
}

export function natLoad(more: Load): Load {
  return { cpu: 0, vni: 1, size: 64, sources: SOURCES, destination: ADDRESS.beyond, ports: String(PORT), ...more };
}

/** Opens every session once and slowly; the file with its packets as they left. */
export async function firstPackets(bed: Bed, flows = FLOWS): Promise<string> {
  const pass = await startPass(bed, "target", "dst0");
  const capture = await Capture.start(bed, "target", "dst0", `udp dst port ${PORT}`);
  await generate(bed, natLoad({ flows, count: flows, rate: 20_000 }));
  const all = async (): Promise<true | null> => (readPcap(capture.file).length >= flows ? true : null);
  await until(`all of ${flows} first packets to arrive`, all);
  await capture.stop();
  await pass.stop();
  return capture.file;
}

/** From one end to the other: what the far one's driver got over the time it took to send. */
async function measure(one: Translator, from: Place, load: Load): Promise<NatSample> {
  const [sender, far, farName] =
    from === "source" ? (["src0", "target", "dst0"] as const) : (["dst0", "source", "src0"] as const);
  const sink = await Sink.start(one.bed, { interface: farName, raw: true }, far);
  const threads = one.threads();
  const waited = secondsWaited(threads);
  const sent = await generate(one.bed, natLoad({ interface: sender, ...load }), from);
  await sleep(100);
  const more = secondsWaited(threads) - waited;
  const { packets } = await sink.stop();
  if (packets === 0) throw new Error(`${one.name}: nothing of ${sent.sent} packets from ${from} arrived`);
  const disturbed = Math.max(sent.waitedSeconds, threads.length > 0 ? more / threads.length : 0) / sent.seconds;
  return { mpps: packets / sent.seconds / 1e6, sent: sent.sent, delivered: packets, disturbed };
}
