// Which organizations list an entry. An entry has the number of a group, a group is a set of organizations: most lists
// have few different ones, so that an owner costs four bytes an entry. Called by the compiler in a Piscina task, and by
// edits and listings on the main thread. Pure.
import { tableNames, type TableName } from "./table.js";

export interface Owners {
  /** Names of organizations, in the order of the file. */
  names: string[];
  /** Group 0 is nobody. */
  groups: number[][];
  /** A group for each record of each table. */
  of: Record<TableName, Uint32Array>;
}

/** Makes groups as they are met. */
export class Groups {
  readonly list: number[][] = [[]];
  private readonly known = new Map<string, number>([["", 0]]);
  /** Most addresses that are shared are so by the same two. */
  private readonly pairs = new Map<number, number>();

  of(organizations: readonly number[]): number {
    const key = organizations.join();
    const known = this.known.get(key);
    if (known !== undefined) return known;
    this.known.set(key, this.list.length);
    return this.list.push([...organizations]) - 1;
  }

  /** Of everybody in any of these, of which there are two or more. */
  union(groups: readonly number[]): number {
    if (groups.length > 2) return this.made(groups);
    const pair = (groups[0] as number) * 2 ** 26 + (groups[1] as number);
    const known = this.pairs.get(pair) ?? this.made(groups);
    this.pairs.set(pair, known);
    return known;
  }

  private made(groups: readonly number[]): number {
    const all = new Set(groups.flatMap((group) => this.list[group] ?? []));
    return this.of([...all].sort((one, other) => one - other));
  }
}

export interface Organization {
  name: string;
  /** Records of each table, by number. */
  entries: Record<TableName, number[]>;
}

/** Records between two pauses: some milliseconds. */
const stride = 65536;

/** Entries by organization; those of nobody are left out. `pause`: lets others have their turn. */
export async function byOrganization(owners: Owners, pause: () => Promise<unknown>): Promise<Organization[]> {
  const organizations = owners.names.map((name): Organization => ({
    name,
    entries: { exact4: [], exact6: [], prefix4: [], prefix6: [] },
  }));
  for (const name of tableNames) {
    const of = owners.of[name];
    for (let index = 0; index < of.length; index++) {
      if (index % stride === stride - 1) await pause();
      for (const one of owners.groups[of[index] as number] ?? []) organizations[one]?.entries[name].push(index);
    }
  }
  return organizations;
}
