// Whether the two interfaces are still those that the datapath was made for. One that goes takes its programs and sockets
// along, and another of the same name is a new one to the kernel. Asked by runtime.ts once a second, on the main thread.
import type { Native } from "./native.js";
import type { Direction } from "./observe.js";

export interface Watched {
  side: Direction;
  /** As the configuration has it. */
  name: string;
  ifindex: number;
}

export interface Renamed extends Watched {
  now: string;
}

const patienceMax = 32;

export class InterfaceWatch {
  private watched: readonly Watched[] = [];
  private readonly gone = new Set<Watched>();
  private names = new Map<Watched, string>();
  /** Looks until the next attempt, and how many that were. */
  private patience = 0;
  private waited = 1;
  private failure = "";

  constructor(private readonly native: Pick<Native, "interfaceName" | "interfaceFacts">) {}

  /** The datapath has been made, for these. */
  begin(watched: readonly Watched[]): void {
    this.watched = watched;
    this.gone.clear();
    this.names = new Map(watched.map((one) => [one, one.name]));
    this.patience = 0;
    this.waited = 1;
    this.failure = "";
  }

  /** Those that have been given another name than the configuration's since the last look. Packets do not care. */
  look(): Renamed[] {
    const renamed: Renamed[] = [];
    for (const one of this.watched) {
      const now = this.nameOf(one);
      if (now === null) continue;
      if (now !== this.names.get(one) && now !== one.name) renamed.push({ ...one, now });
      this.names.set(one, now);
    }
    return renamed;
  }

  /** null: it is gone, and one that has its index later is another. */
  private nameOf(one: Watched): string | null {
    const name = this.gone.has(one) ? null : this.ask(one);
    if (name === null) this.gone.add(one);
    return name;
  }

  /** What could not be asked, for want of a free descriptor, is as it was. */
  private ask(one: Watched): string | null {
    try {
      return this.native.interfaceName(one.ifindex);
    } catch {
      return this.names.get(one) ?? one.name;
    }
  }

  /** Whether one has gone since the datapath was made. */
  get waits(): boolean {
    return this.gone.size > 0;
  }

  /** Time to make the datapath anew: one had gone, and both are there and can send. */
  due(): boolean {
    if (this.gone.size === 0 || this.patience-- > 0) return false;
    this.patience = 0;
    return this.watched.every(({ name }) => this.native.interfaceFacts(name)?.carrier === true);
  }

  /** Making it anew failed: the next attempt waits twice as long. True: for a reason that is news. */
  failed(reason: string): boolean {
    this.patience = this.waited;
    this.waited = Math.min(this.waited * 2, patienceMax);
    const news = reason !== this.failure;
    this.failure = reason;
    return news;
  }

  /** What is waited for, in words; empty: nothing. */
  missing(): string[] {
    for (const one of this.watched) this.nameOf(one);
    if (this.gone.size === 0) return [];
    const absent = this.watched.flatMap(({ side, name }) => {
      const facts = this.native.interfaceFacts(name);
      if (facts === null) return [`the ${side} interface ${name} is gone; one of that name is waited for`];
      return facts.carrier ? [] : [`the ${side} interface ${name} has no carrier`];
    });
    if (absent.length > 0) return absent;
    const names = [...this.gone].map(({ side, name }) => `the ${side} interface ${name}`).join(" and ");
    const why = this.failure === "" ? "" : `, which failed and is tried again: ${this.failure}`;
    return [`${names} came back; the packet path is being made anew${why}`];
  }
}
