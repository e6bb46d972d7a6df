// Which datapath runs, and how its programs are attached: what the configuration wants, held against what is known of the
// two interfaces. The daemon learns by trying, one attempt after another (src/pipeline/bring-up.ts); `vxpipe doctor` by
// looking (src/doctor). Both ask here. Pure.
//
// xdp is best: a packet stays on the CPU that received it. It needs native XDP on both sides, for generic XDP loses
// redirected packets without telling, an outside driver that takes redirected frames, and for its exceptions AF_XDP sockets. A
// worker needs none of that: generic XDP hands over to it, by sockets or by ring buffers, whose every refusal is counted.
//
// Frames leave in two ways: redirected, by XDP or by injection, and by AF_XDP TX. A way that loses frames is not used
// where the other one will do.
import type { DatapathPlan } from "xdp-socket";

export type Mode = DatapathPlan["datapath"];
export type Attach = DatapathPlan["insideAttach"];
export type Injection = DatapathPlan["injection"];

export interface Ability {
  able: boolean;
  /** How it is known, as part of a sentence. */
  why: string;
}

/** Null: not known, and so to be tried. */
export interface Evidence {
  /** Native XDP on the interface. */
  insideNative: Ability | null;
  outsideNative: Ability | null;
  /** The outside interface takes redirected frames. */
  redirect: Ability | null;
  /** What is sent by AF_XDP TX leaves it. */
  afxdpTx: Ability | null;
  /** AF_XDP sockets can be bound to the inside interface's queues. */
  sockets: Ability | null;
}

export const nothingKnown: Evidence = {
  insideNative: null,
  outsideNative: null,
  redirect: null,
  afxdpTx: null,
  sockets: null,
};

/** By no evidence yet. */
export function untried({ redirect, afxdpTx }: Evidence): boolean {
  return redirect === null || afxdpTx === null;
}

export interface Choice {
  configured: Mode | "auto";
  mode: Mode;
  insideAttach: Attach;
  outsideAttach: Attach;
  injection: Injection;
  /** Nothing better exists, or it was wanted so. */
  best: boolean;
  why: string;
}

/** `sourceNat`: sessions are the workers', so that they send everything. */
export function chooseDatapath(configured: Mode | "auto", evidence: Evidence, sourceNat = false): Choice {
  const against = sourceNat ? [natAgainstXdp] : againstXdp(evidence);
  const noSockets = reasonAgainst(evidence.sockets);
  const mode =
    configured !== "auto" ? configured : noSockets !== null ? "ringbuf" : against.length === 0 ? "xdp" : "afxdp";
  // Where xdp itself is wanted generic XDP is no way out: the attempt to attach says so.
  const attachOf = (native: Ability | null): Attach =>
    mode !== "xdp" && native?.able === false ? "generic" : "native";
  const insideAttach = attachOf(evidence.insideNative);
  const outsideAttach = attachOf(evidence.outsideNative);
  const generic = insideAttach === "generic" || outsideAttach === "generic";
  const allWays = reasonAgainst(evidence.redirect) === null && reasonAgainst(evidence.afxdpTx) === null;
  const best = !generic && (configured !== "auto" || (allWays && mode === (sourceNat ? "afxdp" : "xdp")));
  const injection = injectionOf(configured, mode, evidence);
  const why = whyOf(configured, mode, evidence, sourceNat);
  return { configured, mode, insideAttach, outsideAttach, injection, best, why };
}

/** Where XDP sends, a worker has few packets, so none that many wait with. What is configured was not tried. */
function injectionOf(configured: Mode | "auto", mode: Mode, { redirect, afxdpTx }: Evidence): Injection {
  const usual = mode === "xdp" ? "never" : "many";
  if (configured !== "auto") return usual;
  if (reasonAgainst(redirect) !== null) return "never";
  return reasonAgainst(afxdpTx) === null ? usual : "always";
}

const natAgainstXdp = "source NAT is the workers'";

function againstXdp({ insideNative, outsideNative, redirect }: Evidence): string[] {
  return [...new Set([insideNative, outsideNative, redirect].flatMap((ability) => reasonAgainst(ability) ?? []))];
}

/** What is known of AF_XDP TX, and what follows. */
function aboutAfxdpTx({ redirect, afxdpTx }: Evidence): string[] {
  if (afxdpTx === null) return [];
  if (afxdpTx.able) return [afxdpTx.why];
  if (reasonAgainst(redirect) !== null) return [`${afxdpTx.why}: it is used all the same, there is no other way out`];
  return [`${afxdpTx.why}: packets leave by injection instead, but for fragments made here and answers of our own`];
}

function reasonAgainst(ability: Ability | null): string | null {
  return ability?.able === false ? ability.why : null;
}

function whyOf(configured: Mode | "auto", mode: Mode, evidence: Evidence, sourceNat: boolean): string {
  if (configured === "auto" && mode === "xdp") {
    const redirects = evidence.redirect?.able === true ? [evidence.redirect.why] : [];
    const seen = [...redirects, ...aboutAfxdpTx(evidence)].join("; ");
    return `XDP redirects, and a packet stays on the CPU that received it${seen === "" ? "" : `: ${seen}`}`;
  }
  const native = [evidence.insideNative, evidence.outsideNative].flatMap((ability) => reasonAgainst(ability) ?? []);
  if (configured !== "auto") return [`the configuration says so`, ...native].join("; ");
  const sockets = mode === "ringbuf" ? (reasonAgainst(evidence.sockets) ?? "") : "";
  const fed = mode === "afxdp" ? "fed by AF_XDP sockets" : `fed by ring buffers, for ${sockets}`;
  const afxdpTx = aboutAfxdpTx(evidence);
  if (sourceNat) {
    const { redirect } = evidence;
    const injected = redirect === null ? [] : [redirect.able ? redirect.why : `one by one: ${redirect.why}`];
    return [`workers send, ${fed}; ${natAgainstXdp}`, ...native, ...injected, ...afxdpTx].join("; ");
  }
  const against = againstXdp(evidence);
  const cannot = against.length > 0 ? `XDP cannot: ${against.join("; ")}` : "XDP needs one for its exceptions";
  return [`workers send, ${fed}; ${cannot}`, ...afxdpTx].join("; ");
}

/** Whether another attempt would be the same. */
export function sameChoice(one: Choice, other: Choice): boolean {
  const same = (key: "mode" | "insideAttach" | "outsideAttach" | "injection"): boolean => one[key] === other[key];
  return same("mode") && same("insideAttach") && same("outsideAttach") && same("injection");
}
