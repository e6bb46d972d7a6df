// `vxpipe doctor [IFACE]`: what this host and its interfaces can do, what to tune, and which datapath `auto` is. Asks no
// daemon and changes nothing. Main thread.
import { collectHost, collectInterface, Tools, usableInterfaces } from "../../doctor/collect.js";
import { adviseDatapath } from "../../doctor/datapath.js";
import type { Finding } from "../../doctor/facts.js";
import { hostFindings } from "../../doctor/host.js";
import { interfaceFindings } from "../../doctor/interface.js";
import { freeCpus } from "../../doctor/interrupts.js";
import { servingCpus } from "../../injector/cpu-facts.js";
import { exit } from "../../pipeline/errors.js";
import { print, type Format } from "../output.js";

/** Exit code: 1 with a problem. Without a name: every interface that is up and could carry packets. */
export async function doctor(name: string | undefined, format: Format): Promise<number> {
  const tools = new Tools();
  const names = name === undefined ? await usableInterfaces(tools) : [name];
  const interfaces = [];
  for (const each of names) interfaces.push(await collectInterface(tools, each));
  const host = collectHost(tools);
  const datapath = adviseDatapath(interfaces.filter(({ ethernet }) => ethernet));
  const findings = [...hostFindings(host), ...interfaces.flatMap((facts) => interfaceFindings(facts, host.cpus))];
  const problems = findings.filter(({ level }) => level === "problem").length;
  const result = {
    ok: problems === 0,
    problems,
    findings,
    datapath,
    cpus: host.cpus.allowed,
    interfaces: interfaces.map((facts) => ({
      ...facts,
      interruptCpus: servingCpus(facts.interrupts),
      freeCpus: freeCpus(facts.interrupts, host.cpus.allowed),
    })),
  };
  print(format, result, () => doctorText(findings, datapath));
  return problems === 0 ? exit.ok : exit.failed;
}

export function doctorText(
  findings: readonly Finding[],
  { auto, why, others }: ReturnType<typeof adviseDatapath>,
): string {
  const subjects = [...new Set(findings.map(({ subject }) => subject))];
  const width = findings.reduce((widest, { topic }) => Math.max(widest, topic.length), 0);
  const blocks = subjects.map((subject) => {
    const lines = findings
      .filter((finding) => finding.subject === subject)
      .flatMap((finding) => lineOf(finding, width));
    return [subject, ...lines].join("\n");
  });
  const choice = [
    "datapath",
    `  auto is ${auto}: ${why}`,
    ...others.map(({ name, where }) => `  ${name}, where ${where}`),
  ];
  const count = (level: Finding["level"]): number => findings.filter((finding) => finding.level === level).length;
  const [problems, notes] = [count("problem"), count("note")];
  const sum = `${problems} ${problems === 1 ? "problem" : "problems"}, ${notes} ${notes === 1 ? "note" : "notes"}`;
  return [...blocks, choice.join("\n"), sum].join("\n\n");
}

function lineOf({ level, topic, message, command }: Finding, width: number): string[] {
  const line = `  ${level.padEnd("problem".length)}  ${topic.padEnd(width)}  ${message}`;
  return command === undefined ? [line] : [line, `  ${" ".repeat("problem".length + 2 + width)}    ${command}`];
}
