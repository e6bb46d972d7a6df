// Brings the packet path up, in the datapath that the configuration and this host allow: attempts, each of which teaches,
// until one stands. Called by runtime.ts at start and when the first packets show that the choice was wrong; main thread.
import { sameChoice, type Ability, type Evidence } from "../injector/datapath.js";
import type { Applier } from "./apply.js";
import { VxpipeError } from "./errors.js";
import type { Reading } from "./observe.js";
import { choiceOf, plan, type Plan } from "./plan.js";

/** What was learned stays known: nothing is tried twice. */
export async function bringUp(applier: Applier, wanted: Plan, known: Evidence): Promise<Evidence> {
  let evidence = known;
  for (;;) {
    const attempted = await attempt(applier, wanted, evidence);
    evidence = attempted.evidence;
    if (attempted.stands) return evidence;
    await applier.leave();
  }
}

/** It stands, or what it has taught makes another choice; else it throws. */
async function attempt(
  applier: Applier,
  wanted: Plan,
  known: Evidence,
): Promise<{ stands: boolean; evidence: Evidence }> {
  const teachesNothing = (evidence: Evidence): boolean =>
    sameChoice(choiceOf(wanted, known), choiceOf(wanted, evidence));
  let evidence = known;
  try {
    for (const action of plan(null, wanted, known)) {
      await applier.apply(action);
      evidence = { ...known, ...applier.tried };
      if (!teachesNothing(evidence)) return { stands: false, evidence };
    }
    return { stands: true, evidence };
  } catch (error) {
    const learned = learn(evidence, error, wanted);
    if (learned === null || teachesNothing(learned)) throw error;
    return { stands: false, evidence: learned };
  }
}

/** Null: the failure says nothing about the choice. */
function learn(evidence: Evidence, error: unknown, { datapath }: Plan): Evidence | null {
  if (!(error instanceof VxpipeError)) return null;
  const { op, detail } = whatOf(error);
  if (error.code === "NO_NATIVE_XDP") {
    const outside = op === "attach to the outside interface";
    const why = `the driver of ${outside ? datapath.outside : datapath.inside} has no native XDP`;
    return { ...evidence, [outside ? "outsideNative" : "insideNative"]: { able: false, why } };
  }
  if (op === "bind(AF_XDP)") {
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
