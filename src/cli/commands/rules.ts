// `vxpipe nat rule ...`: static rules of the running gateway. Main thread.
import type { StaticRule } from "../../pipeline/config/config.js";
import { table } from "../../telemetry/units.js";
import { ask, parameters } from "../client.js";
import { print, savedText, type Format } from "../output.js";

export async function listRules(socket: string, format: Format): Promise<void> {
  const result = await ask<{ rules: StaticRule[] }>(socket, "/api/v1/rules");
  const rows = result.rules.map(({ protocol, port, to }) => [protocol, String(port), to]);
  print(format, result, () => (rows.length === 0 ? "no rules" : table(["protocol", "port", "to"], rows)));
}

export interface RuleOptions {
  protocol: string;
  port: string;
  to: string;
  save: boolean;
}

export async function addOne(socket: string, format: Format, options: RuleOptions): Promise<void> {
  const { protocol, port, to, save } = options;
  const question = { method: "POST", body: { protocol, port, to } } as const;
  const path = `/api/v1/rules?${parameters({ save })}`;
  const result = await ask<{ rule: StaticRule; added: boolean; saved?: string }>(socket, path, question);
  const verb = result.added ? "goes" : "went already";
  print(format, result, () => `${protocol} port ${port} ${verb} to ${to}${savedText(result)}`);
}

export async function removeOne(
  socket: string,
  format: Format,
  { protocol, port, save }: Omit<RuleOptions, "to">,
): Promise<void> {
  const path = `/api/v1/rules?${parameters({ protocol, port, save })}`;
  const result = await ask<{ removed: object; saved?: string }>(socket, path, { method: "DELETE" });
  print(format, result, () => `the rule for ${protocol} port ${port} is gone${savedText(result)}`);
}
