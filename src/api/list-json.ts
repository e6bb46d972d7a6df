// The allowlist as JSON text, a piece at a time: it may have millions of entries, and others ask meanwhile. Called by
// routes.ts, on the main thread.
import { setImmediate } from "node:timers/promises";
import type { CompiledAllowlist } from "xdp-socket";
import { byOrganization, type Organization, type Owners } from "../pipeline/allowlist/owners.js";
import { shapes, tableNames, textAt, texts } from "../pipeline/allowlist/table.js";
import type { Plan } from "../pipeline/plan.js";

const pieceCharacters = 65536;

export async function* listJson(plan: Plan): AsyncGenerator<string> {
  let piece = "";
  for (const fragment of fragments(plan)) {
    piece += fragment;
    if (piece.length < pieceCharacters) continue;
    yield piece;
    piece = "";
    await setImmediate();
  }
  yield piece;
}

function* fragments({ allowlist, match }: Plan): Generator<string> {
  const total = allowlist?.count ?? 0;
  yield `{"enforced":${allowlist !== null},"match":"${match}","total":${total},"entries":[`;
  if (allowlist !== null) yield* strings(texts(allowlist.entries));
  yield `],"organizations":[`;
  if (allowlist !== null && allowlist.owners !== null) yield* organizations(allowlist.entries, allowlist.owners);
  yield "]}";
}

function* organizations(entries: CompiledAllowlist, owners: Owners): Generator<string> {
  let comma = "";
  for (const { name, entries: listed } of byOrganization(owners)) {
    yield `${comma}{"name":${JSON.stringify(name)},"ips":[`;
    yield* strings(textsOf(entries, listed));
    yield "]}";
    comma = ",";
  }
}

function* textsOf(entries: CompiledAllowlist, listed: Organization["entries"]): Generator<string> {
  for (const table of tableNames) {
    for (const index of listed[table]) yield textAt(table, entries[table], index * shapes[table].bytes);
  }
}

/** Joined by commas. No entry needs escaping. */
function* strings(all: Iterable<string>): Generator<string> {
  let comma = "";
  for (const text of all) {
    yield `${comma}"${text}"`;
    comma = ",";
  }
}
