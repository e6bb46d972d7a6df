// `vxpipe nat session`, `nat who`, `nat pool`, `nat subscriber`: what source NAT does in the running gateway. Main thread.
import type { SubscriberUse, SessionView } from "../../pipeline/nat-names.js";
import { endpointOf, protocolOf, timeOf } from "../../pipeline/nat-names.js";
import type { PoolAddress, Who } from "../../pipeline/nat-control.js";
import { table } from "../../telemetry/units.js";
import { ask } from "../client.js";
import { note, print, type Format } from "../output.js";

export interface SessionOptions {
  inside?: string;
  outside?: string;
  remote?: string;
  protocol?: string;
  vni?: string;
  limit?: string;
  cursor?: string;
}

export async function listSessions(socket: string, format: Format, options: SessionOptions): Promise<void> {
  const { inside, outside, remote, protocol, vni, limit, cursor } = options;
  const query = queryOf({ inside, outside, remote, protocol, vni, limit, cursor });
  const page = await ask<{ sessions: SessionView[]; cursor: string | null }>(socket, `/api/v1/sessions?${query}`);
  const header = ["protocol", "vni", "inside", "outside", "remote", "state", "age", "idle", "worker"];
  const rows = page.sessions.map((one) => [
    one.protocol,
    vniText(one.vni),
    one.inside,
    one.outside,
    one.remote,
    one.state,
    `${one.ageSeconds} s`,
    `${one.idleSeconds} s`,
    one.worker,
  ]);
  print(format, page, () => (rows.length === 0 ? "no sessions" : table(header, rows)));
  if (page.cursor !== null) note(format, `there are more: --cursor ${page.cursor}`);
}

export async function who(
  socket: string,
  format: Format,
  outside: string,
  { protocol, at }: { protocol?: string; at?: string },
): Promise<void> {
  // Said here already: wrong usage needs no daemon to be found out.
  endpointOf(outside);
  if (protocol !== undefined) protocolOf(protocol);
  if (at !== undefined) timeOf(at);
  const found = await ask<Who>(socket, `/api/v1/nat/who?${queryOf({ outside, protocol, at })}`);
  const { inside, vni, from, to } = found;
  const where = vni === null ? "" : ` in VNI ${vni}`;
  print(format, found, () => `${found.outside}: ${inside}${where}, from ${from} ${to === null ? "on" : `to ${to}`}`);
}

export async function pool(socket: string, format: Format): Promise<void> {
  const result = await ask<{ addresses: PoolAddress[] }>(socket, "/api/v1/nat/pool");
  const rows = result.addresses.map(({ address, blocks, used, utilization }) => [
    address,
    blocks,
    used,
    `${(utilization * 100).toFixed(1)} %`,
  ]);
  print(format, result, () => (rows.length === 0 ? "no pools" : table(["address", "blocks", "used", "of them"], rows)));
}

export async function subscribers(socket: string, format: Format, { limit }: { limit?: string }): Promise<void> {
  const path = `/api/v1/nat/subscribers?${queryOf({ limit })}`;
  const result = await ask<{ subscribers: SubscriberUse[] }>(socket, path);
  const rows = result.subscribers.map(({ vni, inside, sessions, blocks }) => [vniText(vni), inside, sessions, blocks]);
  const header = ["vni", "inside", "sessions", "blocks"];
  print(format, result, () => (rows.length === 0 ? "no subscribers" : table(header, rows)));
}

function vniText(vni: number | null): string {
  return vni === null ? "-" : String(vni);
}

function queryOf(values: Record<string, string | undefined>): string {
  const given = Object.entries(values).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return new URLSearchParams(given).toString();
}
