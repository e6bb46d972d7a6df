// What each thing the product does costs, in nanoseconds a packet: the same load through gateways that differ
// in one thing. Called by run.ts, on Node's main thread.
import { ADDRESS, type Bed } from "../test/bed/bed.js";
import { generate } from "../test/bed/tools.js";
import { BareGateway, type Gateway, ProductGateway, RULE_PORT, SOURCES } from "./gateways.js";
import { type LoadShape, measureLoad, median } from "./measure.js";

const SHAPE: LoadShape = { innerBytes: 64, flows: 10_000 };
/** Far more flows than the flow cache of a CPU holds: every packet is decided by lookups. */
const MANY_FLOWS = 500_000;

export interface Rung {
  name: string;
  /** Which rung it is compared with; null: stands alone. */
  against: string | null;
  nsPerPacket: { median: number; min: number; max: number };
}

interface Step {
  name: string;
  against: string | null;
  run(seconds: number): Promise<number>;
  samples: number[];
}

const nsOf = (packets: number, seconds: number): number => (seconds * 1e9) / packets;

async function through(gateway: Gateway, shape: LoadShape, seconds: number): Promise<number> {
  const sample = await measureLoad(gateway, shape, seconds);
  return 1000 / sample.mpps;
}

/** Sends what the gateway drops: its own time without the way out. */
async function dropped(gateway: Gateway, seconds: number): Promise<number> {
  const sent = await generate(gateway.bed, {
    cpu: 0,
    flows: SHAPE.flows,
    size: SHAPE.innerBytes,
    duration: seconds,
    vni: 1,
    sources: SOURCES,
    mix: { denied: 1 },
    destination: ADDRESS.beyond,
    ports: String(RULE_PORT),
  });
  return nsOf(sent.sent, sent.seconds);
}

async function during<T>(gateway: Gateway, work: () => Promise<T>): Promise<T> {
  await gateway.begin("load");
  try {
    return await work();
  } finally {
    await gateway.end();
  }
}

export class Ladder {
  readonly #steps: Step[];

  private constructor(
    readonly beds: Bed[],
    steps: Omit<Step, "samples">[],
  ) {
    this.#steps = steps.map((step) => ({ ...step, samples: [] }));
  }

  static async make(redirect: BareGateway, full: ProductGateway): Promise<Ladder> {
    const drop = await BareGateway.make("drop");
    const plain = await ProductGateway.make("plain", { allowlist: false, rule: false });
    const filtering = await ProductGateway.make("filtering", { allowlist: true, rule: false });
    return new Ladder(
      [drop.bed, plain.bed, filtering.bed],
      [
        {
          name: "generator, dropped unread by a bare program",
          against: null,
          run: (s) => during(drop, () => dropped(drop, s)),
        },
        {
          name: "generator, bare redirect, far end",
          against: "generator, dropped unread by a bare program",
          run: (s) => during(redirect, () => through(redirect, SHAPE, s)),
        },
        {
          name: "the same while a gateway runs elsewhere on the host (its tracepoints)",
          against: "generator, bare redirect, far end",
          run: (s) => during(full, () => during(redirect, () => through(redirect, SHAPE, s))),
        },
        {
          name: "gateway: not_allowed drop (parse, decide from the flow cache, count)",
          against: "generator, dropped unread by a bare program",
          run: (s) => during(full, () => dropped(full, s)),
        },
        {
          name: "gateway: decapsulate, route, count, redirect; no allowlist, no rule",
          against: "generator, bare redirect, far end",
          run: (s) => during(plain, () => through(plain, SHAPE, s)),
        },
        {
          name: "gateway: with the allowlist",
          against: "gateway: decapsulate, route, count, redirect; no allowlist, no rule",
          run: (s) => during(filtering, () => through(filtering, SHAPE, s)),
        },
        {
          name: "gateway: with allowlist and rule, everything on",
          against: "gateway: with the allowlist",
          run: (s) => during(full, () => through(full, SHAPE, s)),
        },
        {
          name: `gateway: everything on, ${MANY_FLOWS.toLocaleString("en")} flows (every packet misses the flow cache)`,
          against: "gateway: with allowlist and rule, everything on",
          run: (s) => during(full, () => through(full, { ...SHAPE, flows: MANY_FLOWS }, s)),
        },
      ],
    );
  }

  async round(seconds: number): Promise<void> {
    for (const step of this.#steps) step.samples.push(await step.run(seconds));
  }

  result(): Rung[] {
    return this.#steps.map(({ name, against, samples }) => ({
      name,
      against,
      nsPerPacket: { median: median(samples), min: Math.min(...samples), max: Math.max(...samples) },
    }));
  }
}
