// What each thing the product does costs, in nanoseconds a packet: the same load, in one bed with one far end that
// looks at nothing, through gateways of which each does one thing more than the one before. First the inside program's
// own steps (native/bench/ladder.bpf.c), then the gateway by configuration. Called by run.ts, on Node's main thread.
import type { Bed } from "../test/bed/bed.js";
import { generate } from "../test/bed/tools.js";
import { BareGateway, during, type Gateway, makeBed, ProductGateway, StageGateway } from "./gateways.js";
import { type Difference, difference, type LoadShape, measureOnce, median, nsPerPacket, toLoad } from "./measure.js";

const SHAPE: LoadShape = { innerBytes: 64, flows: 10_000 };
/** Far more flows than the flow cache of a CPU holds: every packet is decided by lookups. */
const MANY_FLOWS = 500_000;

export interface Rung {
  name: string;
  /** Which rung it is compared with; null: stands alone. */
  against: string | null;
  nsPerPacket: { median: number; min: number; max: number };
  more: Difference | null;
}

interface Step {
  name: string;
  against: string | null;
  run(seconds: number): Promise<number>;
  samples: number[];
}

async function through(gateway: Gateway, shape: LoadShape, seconds: number): Promise<number> {
  const { mpps, disturbed } = await measureOnce(gateway, shape, seconds);
  return nsPerPacket(mpps * 1e6, 1, disturbed);
}

/** Sends what the gateway drops: its own time without the way out. */
async function dropped(gateway: Gateway, seconds: number): Promise<number> {
  const sent = await generate(gateway.bed, { ...toLoad(SHAPE), duration: seconds, mix: { denied: 1 } });
  return nsPerPacket(sent.sent, sent.seconds, sent.waitedSeconds);
}

/** There and back again: what drifts evenly within a round cancels out. */
const PASSES = 2;

interface Rig {
  redirect: Gateway;
  drop: Gateway;
  elsewhere: Gateway;
  plain: Gateway;
  filtering: Gateway;
  full: Gateway;
  stage(name: StageGateway["stage"], ledger: boolean): Gateway;
}

type Plan = Omit<Step, "samples">;

/** The ladder proper: each rung stands on the one before it. */
function climb(rig: Rig): Plan[] {
  const rungs: [string, Gateway][] = [
    ["bare redirect", rig.redirect],
    ["+ parsing: outer headers, VXLAN, inner headers", rig.stage("parse", false)],
    ["+ decapsulation: moved start, Ethernet header", rig.stage("decapsulate", false)],
    ["+ counters", rig.stage("count", false)],
    ["+ ledger: tracepoints on what became of it", rig.stage("count", true)],
    ["+ check for a checksum left to hardware", rig.stage("check", true)],
    ["gateway, nothing configured: + VNI, caches, route, neighbour", rig.plain],
    ["gateway: + allowlist", rig.filtering],
    ["gateway: + rule, everything on", rig.full],
  ];
  return rungs.map(([name, gateway], index) => ({
    name,
    against: rungs[index - 1]?.[0] ?? null,
    run: (seconds) => during(gateway, () => through(gateway, SHAPE, seconds)),
  }));
}

/** What stands beside it. */
function aside(rig: Rig, bare: string, everything: string): Plan[] {
  const { drop, elsewhere, full, redirect } = rig;
  const unread = "dropped unread by a bare program";
  return [
    {
      name: `everything on, ${MANY_FLOWS.toLocaleString("en")} flows`,
      against: everything,
      run: (s) => during(full, () => through(full, { ...SHAPE, flows: MANY_FLOWS }, s)),
    },
    {
      name: "bare redirect, gateway elsewhere on the host",
      against: bare,
      run: (s) => during(elsewhere, () => during(redirect, () => through(redirect, SHAPE, s))),
    },
    { name: unread, against: null, run: (s) => during(drop, () => dropped(drop, s)) },
    { name: "gateway: not_allowed drop", against: unread, run: (s) => during(full, () => dropped(full, s)) },
  ];
}

export class Ladder {
  readonly #steps: Step[];

  private constructor(
    readonly beds: Bed[],
    plans: Plan[],
  ) {
    this.#steps = plans.map((plan) => ({ ...plan, samples: [] }));
  }

  /** `elsewhere`: a gateway with a bed of its own. */
  static async make(elsewhere: ProductGateway): Promise<Ladder> {
    const place = await makeBed("raw");
    const rig: Rig = {
      redirect: await BareGateway.make("redirect", place),
      drop: await BareGateway.make("drop", place),
      elsewhere,
      plain: await ProductGateway.make("plain", { allowlist: false, rule: false }, place),
      filtering: await ProductGateway.make("filtering", { allowlist: true, rule: false }, place),
      full: await ProductGateway.make("full", { allowlist: true, rule: true }, place),
      stage: (name, ledger) => new StageGateway(place, name, ledger),
    };
    const rungs = climb(rig);
    return new Ladder([place.bed], [...rungs, ...aside(rig, rungs[0]?.name ?? "", rungs.at(-1)?.name ?? "")]);
  }

  async round(seconds: number): Promise<void> {
    for (let pass = 0; pass < PASSES; pass++) {
      const order = pass % 2 === 0 ? this.#steps : this.#steps.toReversed();
      for (const step of order) step.samples.push(await step.run(seconds / PASSES));
    }
  }

  result(): Rung[] {
    return this.#steps.map(({ name, against, samples }) => {
      const base = this.#steps.find((step) => step.name === against);
      return {
        name,
        against,
        nsPerPacket: { median: median(samples), min: Math.min(...samples), max: Math.max(...samples) },
        more: base ? difference(samples, base.samples) : null,
      };
    });
  }
}
