// So many of a kind in a time, and a count of those beyond. Used by events.ts and watchers.ts; the clock is theirs.

export class RateLimiter {
  private readonly windows = new Map<string, { since: number; allowed: number; suppressed: number }>();

  constructor(
    private readonly most: number,
    private readonly windowMs: number,
  ) {}

  /** Whether one more of this kind may pass now. */
  allow(kind: string, now: number): boolean {
    const window = this.window(kind, now);
    if (window.allowed >= this.most) {
      window.suppressed++;
      return false;
    }
    window.allowed++;
    return true;
  }

  /** Others of this kind that were left out before they came here. */
  suppress(kind: string, count: number, now: number): void {
    this.window(kind, now).suppressed += count;
  }

  /** What was suppressed in windows that are over by now; told once. */
  takeSuppressed(now: number): [kind: string, count: number][] {
    const over = [...this.windows].filter(([, { since }]) => now - since >= this.windowMs);
    for (const [kind] of over) this.windows.delete(kind);
    return over.filter(([, { suppressed }]) => suppressed > 0).map(([kind, { suppressed }]) => [kind, suppressed]);
  }

  private window(kind: string, now: number): { since: number; allowed: number; suppressed: number } {
    const window = this.windows.get(kind);
    if (window !== undefined && (now - window.since < this.windowMs || window.suppressed > 0)) return window;
    const fresh = { since: now, allowed: 0, suppressed: 0 };
    this.windows.set(kind, fresh);
    return fresh;
  }
}
