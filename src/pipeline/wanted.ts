// What somebody wants to watch: read from the options of `vxpipe monitor` and from the query of /api/v1/events. Pure.
import { drops, type DropReason } from "./abi.gen.js";
import { VxpipeError } from "./errors.js";

export interface Wanted {
  events: boolean;
  drops: boolean;
  /** null: every reason. */
  reasons: ReadonlySet<DropReason> | null;
  /** Most drops of a reason shown in a second. */
  rate: number;
}

/** As people give it. */
export interface Asked {
  events: boolean;
  drops: boolean;
  reasons: readonly string[];
  rate: string | undefined;
}

export const rateDefault = 20;
const rateMax = 1000;

/** Neither events nor drops: both. Reasons are about drops. */
export function wantedOf({ events, drops: dropsAsked, reasons, rate }: Asked): Wanted {
  const someDrops = dropsAsked || reasons.length > 0;
  return {
    events: events || !someDrops,
    drops: someDrops || !events,
    reasons: reasons.length === 0 ? null : new Set(reasons.map(reasonOf)),
    rate: rate === undefined ? rateDefault : rateOf(rate),
  };
}

function reasonOf(text: string): DropReason {
  const known = drops.find(({ name }) => name === text);
  if (known !== undefined) return known.name;
  const all = drops.map(({ name }) => name).join(", ");
  throw new VxpipeError("USAGE", `"${text}" is no drop reason; there are ${all}`);
}

function rateOf(text: string): number {
  if (/^[1-9]\d{0,3}$/.test(text) && Number(text) <= rateMax) return Number(text);
  throw new VxpipeError(
    "USAGE",
    `the rate is how many drops of a reason to show in a second, 1 to ${rateMax}, not "${text}"`,
  );
}
