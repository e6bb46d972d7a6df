// The command line: what there is, with which options; each command's work is in commands/. Called by main.ts.
import { Command, CommanderError, Option } from "commander";
import { defaultSocket } from "../pipeline/config/schema.js";
import { VxpipeError } from "../pipeline/errors.js";
import { rateDefault } from "../pipeline/wanted.js";
import type { Statistics } from "../pipeline/statistics.js";
import { statisticsText } from "../telemetry/report.js";
import { ask } from "./client.js";
import type * as allowlist from "./commands/allowlist.js";
import type { MonitorOptions } from "./commands/monitor.js";
import type * as nat from "./commands/nat.js";
import type { ReplayOptions } from "./commands/replay.js";
import type * as rules from "./commands/rules.js";
import { fail, print, watchOutput, type Format } from "./output.js";
import { version } from "./version.js";

/** Loaded when asked for: to load all of them takes longer than most commands do. */
const commands = {
  allowlist: () => import("./commands/allowlist.js"),
  config: () => import("./commands/config.js"),
  doctor: () => import("./commands/doctor.js"),
  monitor: () => import("./commands/monitor.js"),
  nat: () => import("./commands/nat.js"),
  reload: () => import("./commands/reload.js"),
  replay: () => import("./commands/replay.js"),
  rules: () => import("./commands/rules.js"),
  run: () => import("./commands/run.js"),
  top: () => import("./commands/top.js"),
};

interface Globals {
  output?: "json" | "table";
  socket?: string;
}

/** Runs the command that the arguments name; returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  let code = 0;
  // Before parsing, because a usage error is an error too.
  const format: Format = { json: wantsJson(args) };
  const program = makeProgram(format, (result) => (code = result));
  try {
    await program.parseAsync(args, { from: "user" });
    return code;
  } catch (error) {
    if (!(error instanceof CommanderError)) return fail(format, error);
    if (error.exitCode === 0) return 0;
    return fail(format, new VxpipeError("USAGE", usageMessage(error)));
  }
}

function usageMessage(error: CommanderError): string {
  return error.code === "commander.help" ? "which command?" : error.message.replace(/^error: /, "");
}

function wantsJson(args: readonly string[]): boolean {
  return args.some((arg, index) => {
    if (arg === "-ojson" || arg === "--output=json" || arg === "-o=json") return true;
    return arg === "json" && (args[index - 1] === "-o" || args[index - 1] === "--output");
  });
}

function makeProgram(format: Format, done: (code: number) => void): Command {
  const program = new Command("vxpipe").exitOverride().configureOutput({ writeErr: () => undefined });
  program.description("VXLAN gateway: decapsulates, filters, translates and forwards in XDP.");
  program.version(version(), "--version").helpCommand(false).showSuggestionAfterError(true);
  withGlobals(program);
  // Packets are worth more than what the daemon has to say.
  program.hook("preAction", (_program, command) => {
    if (command.name() !== "run") watchOutput(format);
  });
  const leaf = (parent: Command, usage: string, description: string): Command =>
    withGlobals(parent.command(usage).description(description));
  const socketOf = (command: Command): string => command.optsWithGlobals<Globals>().socket ?? defaultSocket;

  leaf(program, "run", "the daemon, in the foreground until SIGTERM or SIGINT; SIGHUP reloads")
    .requiredOption("--config <file>", "configuration file")
    .action(async (options: { config: string }) => done(await (await commands.run()).run(options.config, format)));

  const config = program.command("config").description("check a configuration file; print its schema");
  leaf(config, "check <file>", "report every error as FILE:LINE:COL; needs neither root nor a daemon").action(
    async (file: string) => (await commands.config()).checkFile(file, format),
  );
  leaf(config, "schema", "print the JSON schema").action(async () => (await commands.config()).printSchema());

  leaf(program, "reload", "have the daemon read its configuration again, as SIGHUP does")
    .option("--dry-run", "only say what would change, and what only a restart changes", false)
    .action(async (options: { dryRun: boolean }, command: Command) =>
      (await commands.reload()).reload(socketOf(command), format, options.dryRun),
    );
  leaf(program, "stats", "the daemon's counters, once").action(async (_options, command: Command) => {
    const stats = await ask<Statistics>(socketOf(command), "/api/v1/stats");
    print(format, stats, () => statisticsText(stats));
  });
  leaf(program, "top", "the daemon's rates, once a second until Ctrl-C")
    .option("-n, --iterations <count>", "stop after so many seconds")
    .action(async (options: { iterations?: string }, command: Command) => {
      const { iterationsOf, top } = await commands.top();
      const iterations = options.iterations === undefined ? null : iterationsOf(options.iterations);
      done(await top(socketOf(command), format, { iterations }));
    });
  addMonitor(program, leaf, socketOf, format, done);
  addReplay(program, leaf, format);
  leaf(program, "doctor [iface]", "what this host and its interfaces can do, and what to tune; asks no daemon").action(
    async (iface: string | undefined) => done(await (await commands.doctor()).doctor(iface, format)),
  );
  addAllowlist(program, leaf, socketOf, format);
  addRules(program, leaf, socketOf, format);
  leaf(program, "version", "print the version").action(() => print(format, { version: version() }, () => version()));
  return program;
}

type Leaf = (parent: Command, usage: string, description: string) => Command;

function withGlobals(command: Command): Command {
  return command
    .addOption(new Option("-o, --output <format>", "output format").choices(["json", "table"]))
    .option("--socket <path>", `the daemon to talk to (default: ${defaultSocket})`);
}

function addMonitor(
  program: Command,
  leaf: Leaf,
  socketOf: (command: Command) => string,
  format: Format,
  done: (code: number) => void,
): void {
  const several = (reason: string, before: readonly string[] = []): string[] => [...before, ...reason.split(",")];
  leaf(program, "monitor", "what happens, as it happens: events and samples of dropped packets, until Ctrl-C")
    .option("--events", "events; without this and --drops: both", false)
    .option("--drops", "dropped packets, each with its reason and headers", false)
    .option("--reason <reason>", "only packets dropped for this reason; may be given again", several)
    .option("--rate <number>", `most packets of a reason to show in a second (default: ${rateDefault})`)
    .option("-n, --count <number>", "end after so many lines")
    .option("--write <file>", "write the packets as pcap-ng as well, their reasons as comments; - is standard output")
    .action(async (options: MonitorOptions, command: Command) =>
      done(await (await commands.monitor()).monitor(socketOf(command), format, options)),
    );
}

function addReplay(program: Command, leaf: Leaf, format: Format): void {
  leaf(program, "replay", "captures through the packet path, with packet time as the clock; needs no root")
    .requiredOption("--config <file>", "configuration file")
    .requiredOption("--in <file>", "capture (pcap or pcap-ng) of what arrives inside")
    .requiredOption("--out <file>", "where to write what leaves outside, as pcap")
    .option("--return <file>", "with nat.source: capture of what arrives outside, merged with --in by time")
    .option("--return-out <file>", "with nat.source: where to write what leaves inside, as pcap")
    .option("--stats <file>", "where to write the counters, as JSON")
    .action(async (options: ReplayOptions) => (await commands.replay()).replay(options, format));
}

function addAllowlist(program: Command, leaf: Leaf, socketOf: (command: Command) => string, format: Format): void {
  const parent = program.command("allowlist").description("edit the running gateway's list, effective at once");
  const saving = "write it to allowlist.file too, so that a reload or restart keeps it";
  const enforce = "allow only what is listed from now on, where the configuration has no allowlist";
  leaf(parent, "list", "print it").action(async (_options, command: Command) =>
    (await commands.allowlist()).list(socketOf(command), format),
  );
  leaf(parent, "test <ip>", "whether an address is allowed, and by which entry").action(
    async (address: string, _options, command: Command) =>
      (await commands.allowlist()).test(socketOf(command), format, address),
  );
  leaf(parent, "import <file>", "replace the whole list")
    .option("--dry-run", "only say what would change", false)
    .option("--enforce", enforce, false)
    .option("--skip-invalid", "leave out entries that are wrong, instead of refusing the file", false)
    .option("--save", saving, false)
    .option("--progress", "show how far it is, also where standard error is no terminal", false)
    .action(async (file: string, options: allowlist.LoadOptions, command: Command) => {
      const { dryRun, skipInvalid, progress, save } = options;
      const chosen = { dryRun, enforce: options.enforce, skipInvalid, progress, save };
      return (await commands.allowlist()).load(socketOf(command), format, file, chosen);
    });
  leaf(parent, "add <ip...>", "add addresses or prefixes")
    .option("--enforce", enforce, false)
    .option("--save", saving, false)
    .action(async (entries: string[], options: allowlist.EditOptions, command: Command) =>
      (await commands.allowlist()).add(socketOf(command), format, entries, {
        enforce: options.enforce,
        save: options.save,
      }),
    );
  leaf(parent, "remove <ip...>", "remove entries")
    .option("--save", saving, false)
    .action(async (entries: string[], options: { save: boolean }, command: Command) =>
      (await commands.allowlist()).remove(socketOf(command), format, entries, options.save),
    );
  leaf(parent, "clear", "leave an empty list: nothing is allowed")
    .option("--enforce", enforce, false)
    .option("--save", saving, false)
    .action(async (options: allowlist.EditOptions, command: Command) =>
      (await commands.allowlist()).clear(socketOf(command), format, { enforce: options.enforce, save: options.save }),
    );
}

function addRules(program: Command, leaf: Leaf, socketOf: (command: Command) => string, format: Format): void {
  const saving = "write it to the configuration too, so that a reload or restart keeps it";
  const parent = program.command("nat").description("address translation");
  addNat(parent, leaf, socketOf, format);
  const rule = parent.command("rule").description("static rules");
  leaf(rule, "list", "print them").action(async (_options, command: Command) =>
    (await commands.rules()).listRules(socketOf(command), format),
  );
  leaf(rule, "add", "translate the destination of packets to a port")
    .requiredOption("--protocol <protocol>", "udp, tcp or any")
    .requiredOption("--port <port>", "inner destination port")
    .requiredOption("--to <ip:port>", "new destination")
    .option("--save", saving, false)
    .action(async (options: rules.RuleOptions, command: Command) =>
      (await commands.rules()).addOne(socketOf(command), format, options),
    );
  leaf(rule, "remove", "remove a rule")
    .requiredOption("--protocol <protocol>", "udp, tcp or any")
    .requiredOption("--port <port>", "inner destination port")
    .option("--save", saving, false)
    .action(async (options: rules.RuleOptions, command: Command) =>
      (await commands.rules()).removeOne(socketOf(command), format, options),
    );
}

function addNat(parent: Command, leaf: Leaf, socketOf: (command: Command) => string, format: Format): void {
  const session = parent.command("session").description("sessions of source NAT");
  leaf(session, "list", "print them, a page at a time; filters may be combined")
    .option("--inside <ip[:port]>", "of this inside host")
    .option("--outside <ip[:port]>", "with this public address")
    .option("--remote <ip[:port]>", "with this remote")
    .option("--protocol <protocol>", "udp, tcp, icmp or a number")
    .option("--vni <vni>", "of this VNI")
    .option("--limit <count>", "most of them (default: 1000)")
    .option("--cursor <cursor>", "go on where the page that ended with it did")
    .action(async (options: nat.SessionOptions, command: Command) =>
      (await commands.nat()).listSessions(socketOf(command), format, options),
    );
  leaf(parent, "who <ip:port>", "which subscriber has, or had, a public endpoint")
    .option("--protocol <protocol>", "udp, tcp, icmp or a number: a static forward may be for one of them only")
    .option("--at <time>", "at that time (RFC 3339) instead of now")
    .action(async (outside: string, options: { protocol?: string; at?: string }, command: Command) =>
      (await commands.nat()).who(socketOf(command), format, outside, options),
    );
  leaf(parent, "pool", "public addresses and how much of them is in use").action(async (_options, command: Command) =>
    (await commands.nat()).pool(socketOf(command), format),
  );
  const subscriber = parent.command("subscriber").description("inside hosts that have ports");
  leaf(subscriber, "list", "those with the most sessions")
    .option("--limit <count>", "so many of them (default: 20)")
    .action(async (options: { limit?: string }, command: Command) =>
      (await commands.nat()).subscribers(socketOf(command), format, options),
    );
}
