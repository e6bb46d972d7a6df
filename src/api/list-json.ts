// The allowlist as JSON text, a piece at a time: it may have millions of entries, and others ask meanwhile. Called by
// routes.ts, on the main thread.
import { setImmediate } from "node:timers/promises";
import type { CompiledAllowlist } from "xdp-socket";
import { nothingAllowed } from "../pipeline/allowlist/edit.js";
import { byOrganization, type Organization } from "../pipeline/allowlist/owners.js";
import { shapes, tableNames, textAt, texts } from "../pipeline/allowlist/table.js";
import type { Plan } from "../pipeline/plan.js";

const pieceCharacters = 65536;

export async function* listJson(plan: Plan): AsyncGenerator<string> {
  const owners = plan.allowlist?.owners ?? null;
  const organizations = owners === null ? [] : await byOrganization(owners, setImmediate);
  let piece = "";
  for (const fragment of fragments(plan, organizations)) {
    piece += fragment;
    if (piece.length < pieceCharacters) continue;
    yield piece;
    piece = "";
    await setImmediate();
  }
  yield piece;
}

function* fragments({ allowlist, match }: Plan, organizations: readonly Organization[]): Generator<string> {
  const { count: total, entries } = allowlist ?? nothingAllowed;
  yield `{"enforced":${allowlist !== null},"match":"${match}","total":${total},"entries":[`;
  yield* strings(texts(entries));
  yield `],"organizations":[`;
  let comma = "";
  for (const { name, entries: listed } of organizations) {
    yield `${comma}{"name":${JSON.stringify(name)},"ips":[`;
    yield* strings(textsOf(entries, listed));
    yield "]}";
    comma = ",";
  }
  yield "]}";
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
