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

  of(organizations: readonly number[]): number {
    const key = organizations.join();
    const known = this.known.get(key);
    if (known !== undefined) return known;
    this.known.set(key, this.list.length);
    return this.list.push([...organizations]) - 1;
  }

  union(a: number, b: number): number {
    if (a === b || b === 0) return a;
    if (a === 0) return b;
    const both = new Set([...(this.list[a] ?? []), ...(this.list[b] ?? [])]);
    return this.of([...both].sort((one, other) => one - other));
  }
}

export interface Organization {
  name: string;
  /** Records of each table, by number. */
  entries: Record<TableName, number[]>;
}

/** Entries by organization; those of nobody are left out. */
export function byOrganization(owners: Owners): Organization[] {
  const organizations = owners.names.map((name): Organization => ({
    name,
    entries: { exact4: [], exact6: [], prefix4: [], prefix6: [] },
  }));
  for (const name of tableNames) {
    owners.of[name].forEach((group, index) => {
      for (const one of owners.groups[group] ?? []) organizations[one]?.entries[name].push(index);
    });
  }
  return organizations;
}
