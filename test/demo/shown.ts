// What a scenario of the demo says: lines as it goes, its checks, and its part of the last line. Called by main.ts and the
// scenarios.
import type { DirectionStats, Stats } from "../bed/daemon.js";
import { type Check, holds } from "./proof.js";

export interface Shown {
  ok: boolean;
  /** Of the last line's `scenarios`. */
  scenario: object;
}

/** What far ends and clock add to the daemon's counters. */
export interface Counted {
  offered: number;
  delivered: number;
  pps: number;
}

export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Numbers of one line of live rates. */
export function sayRates(rates: readonly number[]): void {
  say(rates.map((rate) => Math.round(rate).toLocaleString("en").padStart(12)).join("  "));
}

/** `ledger`: of the directions the scenario sends in. */
export function conclude(
  name: string,
  checks: readonly Check[],
  stats: Stats,
  ledger: DirectionStats,
  { offered, delivered, pps }: Counted,
): Shown {
  say("");
  for (const check of checks) {
    const found = typeof check.found === "number" ? check.found.toLocaleString("en") : check.found || "none";
    say(
      `${holds(check) ? "  holds " : "  FAILS "} ${check.what}: ${found}${holds(check) ? "" : `, expected ${check.expected || "none"}`}`,
    );
  }
  const { received, forwarded, passed, dropped } = ledger;
  const { originated, fragmentsExtra } = stats;
  const scenario = {
    name,
    datapath: stats.datapath.mode,
    offered,
    received,
    forwarded,
    passed,
    delivered,
    originated,
    fragmentsExtra,
    dropped,
    pps: Math.round(pps),
  };
  return { ok: checks.every(holds), scenario };
}
