// `vxpipe nat rule ...`: static rules of the running gateway. Main thread.
import type { StaticRule } from "../../pipeline/config/config.js";
import { table } from "../../telemetry/units.js";
import { ask, parameters } from "../client.js";
import { print, type Format } from "../output.js";

export async function listRules(socket: string, format: Format): Promise<void> {
  const result = await ask<{ rules: StaticRule[] }>(socket, "/api/v1/rules");
  const rows = result.rules.map(({ protocol, port, to }) => [protocol, String(port), to]);
  print(format, result, () => (rows.length === 0 ? "no rules" : table(["protocol", "port", "to"], rows)));
}

export interface RuleOptions {
  protocol: string;
  port: string;
  to: string;
}

export async function addOne(socket: string, format: Format, { protocol, port, to }: RuleOptions): Promise<void> {
  const question = { method: "POST", body: { protocol, port, to } } as const;
  const result = await ask<{ rule: StaticRule; added: boolean }>(socket, "/api/v1/rules", question);
  print(format, result, () => `${protocol} port ${port} ${result.added ? "goes" : "went already"} to ${to}`);
}

export async function removeOne(
  socket: string,
  format: Format,
  { protocol, port }: Omit<RuleOptions, "to">,
): Promise<void> {
  const path = `/api/v1/rules?${parameters({ protocol, port })}`;
  const result = await ask<{ removed: object }>(socket, path, { method: "DELETE" });
  print(format, result, () => `the rule for ${protocol} port ${port} is gone`);
}
