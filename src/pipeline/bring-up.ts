// Brings the packet path up, in the datapath that the configuration and this host allow: attempts, each of which teaches,
// until one stands. Called by runtime.ts at start and when the first packets show that the choice was wrong; main thread.
import { chooseDatapath, sameChoice, type Ability, type Evidence } from "../injector/datapath.js";
import { RedirectRefused, type Applier } from "./apply.js";
import { VxpipeError } from "./errors.js";
import type { Reading } from "./observe.js";
import { plan, type Plan } from "./plan.js";

/** What was learned stays known: nothing is tried twice. */
export async function bringUp(applier: Applier, wanted: Plan, known: Evidence): Promise<Evidence> {
  const nat = wanted.datapath.sourceNat !== null;
  let evidence = known;
  for (;;) {
    const choice = chooseDatapath(wanted.datapath.datapath, evidence, nat);
    try {
      for (const action of plan(null, wanted, choice)) await applier.apply(action);
      return { ...evidence, redirect: applier.tried ?? evidence.redirect };
    } catch (error) {
      evidence = learn(evidence, error, wanted) ?? fail(error);
      if (sameChoice(choice, chooseDatapath(wanted.datapath.datapath, evidence, nat))) throw error;
      await applier.leave();
    }
  }
}

function fail(error: unknown): never {
  throw error;
}

/** Null: the failure says nothing about the choice. */
function learn(evidence: Evidence, error: unknown, { datapath }: Plan): Evidence | null {
  if (error instanceof RedirectRefused) return { ...evidence, redirect: error.ability };
  if (!(error instanceof VxpipeError)) return null;
  const { op, detail } = whatOf(error);
  if (error.code === "NO_NATIVE_XDP") {
    const outside = op === "attach to the outside interface";
    const why = `the driver of ${outside ? datapath.outside : datapath.inside} has no native XDP`;
    return { ...evidence, [outside ? "outsideNative" : "insideNative"]: { able: false, why } };
  }
  if (error.code === "WORKER_FAILED" && op === "bind(AF_XDP)") {
    return { ...evidence, sockets: { able: false, why: `no AF_XDP socket can be bound (${detail})` } };
  }
  return null;
}

/** What the packet path was at when it failed. */
function whatOf({ cause }: VxpipeError): { op: string; detail: string } {
  const native = (cause ?? {}) as { op?: unknown; detail?: unknown };
  return { op: String(native.op ?? ""), detail: String(native.detail ?? "") };
}

/** A far end that is just coming up may refuse a few. */
const firstPackets = 64;

/** What the first packets say of redirecting; null: nothing yet. */
export function judgeFirst({ forwarded, refused }: Reading["fastPath"]): Ability | null {
  if (forwarded > 0) return { able: true, why: "the outside interface has taken redirected packets" };
  if (refused < firstPackets) return null;
  return { able: false, why: `the outside interface took none of the first ${refused} redirected packets` };
}
