// Which datapath `auto` is with these interfaces, and where one would choose another: what can be seen of them, put to the
// function that decides for the daemon too (src/injector/datapath.ts). Called by src/cli/commands/doctor.ts and interface.ts.
// Pure.
import { chooseDatapath, nothingKnown, type Ability, type Choice, type Mode } from "../injector/datapath.js";
import { abilitiesOf } from "./drivers.js";
import type { InterfaceFacts, Said } from "./facts.js";

export interface DatapathAdvice {
  auto: Mode;
  why: string;
  others: { name: Mode; where: string }[];
}

const all: readonly DatapathAdvice["others"][number][] = [
  { name: "xdp", where: "both interfaces have native XDP and the outside one takes redirected frames" },
  {
    name: "afxdp",
    where: "XDP cannot redirect, or there is source NAT: workers send, on CPUs of their own, fed by AF_XDP sockets",
  },
  {
    name: "ringbuf",
    where:
      "AF_XDP sockets cannot be bound to the inside queues: workers send, fed by ring buffers, at one copy more a packet",
  },
];

/** With the fittest of these interfaces inside and outside. */
export function adviseDatapath(interfaces: readonly InterfaceFacts[]): DatapathAdvice {
  const seen = interfaces.map(seenOf);
  const native = best(seen.map((one) => one.native));
  const redirect = best(seen.map((one) => one.redirect));
  const { mode, why } = chooseDatapath("auto", { ...nothingKnown, insideNative: native, redirect });
  const tried = native === null || redirect === null ? "; what cannot be seen here the start tries" : "";
  return { auto: mode, why: `${why}${tried}`, others: all.filter(({ name }) => name !== mode) };
}

/** As inside and as outside interface. */
export function datapathFinding(facts: InterfaceFacts): Said {
  const topic = "datapath";
  const { native, redirect } = seenOf(facts);
  const inside = chooseDatapath("auto", { ...nothingKnown, insideNative: native });
  const outside = chooseDatapath("auto", { ...nothingKnown, outsideNative: native, redirect });
  const tried = native === null || redirect === null ? ", as far as can be seen; the start tries it" : "";
  const message =
    inside.mode === outside.mode
      ? `auto is ${named(outside)} with it inside or outside${tried}`
      : `auto is ${named(inside)} with it inside, ${named(outside)} with it outside${tried}`;
  if (inside.best && outside.best) return { level: "ok", topic, message };
  return { level: "note", topic, message: `${message}; ${outside.why}` };
}

function named({ mode, insideAttach, outsideAttach }: Choice): string {
  return [insideAttach, outsideAttach].includes("generic") ? `${mode} by generic XDP` : mode;
}

interface Seen {
  native: Ability | null;
  redirect: Ability | null;
}

function seenOf(facts: InterfaceFacts): Seen {
  const abilities = abilitiesOf(facts);
  if (abilities === null) return { native: null, redirect: null };
  const { native: able, takesRedirected } = abilities;
  const { name, driver } = facts;
  const native = {
    able,
    why: able ? `${name} has native XDP` : `${driver ?? "the driver"} of ${name} has no native XDP`,
  };
  if (!able) return { native, redirect: native };
  if (takesRedirected === null) return { native, redirect: null };
  return {
    native,
    redirect: { able: takesRedirected, why: `${name} takes ${takesRedirected ? "" : "no "}redirected frames` },
  };
}

/** What can be; else what is not known. */
function best(abilities: readonly (Ability | null)[]): Ability | null {
  const able = abilities.find((ability) => ability?.able === true);
  return able ?? (abilities.includes(null) ? null : (abilities[0] ?? null));
}
