// Static destination rules: configuration to the records of nat_map, and edits at run time. Called by plan.ts,
// apply.ts and the API, on the main thread. Pure.
import { vxRule, vxRuleKey } from "./abi.gen.js";
import { ruleKeys } from "./config/check.js";
import type { StaticRule } from "./config/config.js";
import { formats, parseAddress, parseEndpoint } from "./config/formats.js";
import { VxpipeError } from "./errors.js";

const protocols = { tcp: 6, udp: 17 } as const;

/** vx_rule_key + vx_rule records; `any` becomes one for TCP and one for UDP. */
export function compileRules(rules: readonly StaticRule[]): Uint8Array {
  const record = vxRuleKey.bytes + vxRule.bytes;
  const keys = rules.flatMap((rule) => ruleKeys(rule).map((key) => ({ key, rule })));
  const bytes = new Uint8Array(keys.length * record);
  const view = new DataView(bytes.buffer);
  keys.forEach(({ key, rule }, index) => {
    const at = index * record;
    const target = parseEndpoint(rule.to);
    const address = target === null ? null : parseAddress(target.host);
    if (target === null || address === null) throw new VxpipeError("RULE_INVALID", `${rule.to} is not ADDRESS:PORT`);
    view.setUint16(at + vxRuleKey.offset.portBe, rule.port);
    bytes[at + vxRuleKey.offset.protocol] = key.startsWith("tcp") ? protocols.tcp : protocols.udp;
    bytes.set(address.subarray(12), at + vxRuleKey.bytes + vxRule.offset.addressBe);
    view.setUint16(at + vxRuleKey.bytes + vxRule.offset.portBe, target.port);
  });
  return bytes;
}

/** A rule given at run time, checked as the configuration is. */
export function parseRule(value: { protocol?: unknown; port?: unknown; to?: unknown }): StaticRule {
  const { protocol, port, to } = { ...parseRuleKey(value), to: value.to };
  if (typeof to !== "string") throw new VxpipeError("RULE_INVALID", "the rule has no target");
  const wrong = formats["rule-target"]?.(to) ?? null;
  if (wrong !== null) throw new VxpipeError("RULE_INVALID", wrong);
  return { protocol, port, to };
}

export function parseRuleKey(value: { protocol?: unknown; port?: unknown }): Pick<StaticRule, "protocol" | "port"> {
  const { protocol, port } = value;
  if (protocol !== "udp" && protocol !== "tcp" && protocol !== "any") {
    throw new VxpipeError("RULE_INVALID", `protocol ${JSON.stringify(protocol)} is not udp, tcp or any`);
  }
  const number = typeof port === "string" && /^[1-9][0-9]{0,4}$/.test(port) ? Number(port) : port;
  if (typeof number !== "number" || !Number.isInteger(number) || number < 1 || number > 65535) {
    throw new VxpipeError("RULE_INVALID", `port ${JSON.stringify(port)} is not a number from 1 to 65535`);
  }
  return { protocol, port: number };
}

/** The rules with one more; the same list when it is there already. */
export function addRule(rules: readonly StaticRule[], rule: StaticRule): readonly StaticRule[] {
  const keys = new Set(ruleKeys(rule));
  const clash = rules.find((other) => ruleKeys(other).some((key) => keys.has(key)));
  if (clash === undefined) return [...rules, rule];
  if (clash.protocol === rule.protocol && clash.to === rule.to) return rules;
  throw new VxpipeError("RULE_EXISTS", `${clash.protocol} port ${clash.port} goes to ${clash.to} already`);
}

export function removeRule(
  rules: readonly StaticRule[],
  key: Pick<StaticRule, "protocol" | "port">,
): readonly StaticRule[] {
  const rest = rules.filter((rule) => rule.protocol !== key.protocol || rule.port !== key.port);
  if (rest.length < rules.length) return rest;
  const other = rules.find((rule) => rule.port === key.port);
  const but = other === undefined ? "" : `; there is one for ${other.protocol}`;
  throw new VxpipeError("RULE_NOT_FOUND", `there is no rule for ${key.protocol} port ${key.port}${but}`);
}
