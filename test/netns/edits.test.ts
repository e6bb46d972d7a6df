// The commands that edit a running gateway, as a table: what each exits with and says, and what of it outlives a reload.
// Needs root.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { ADDRESS, Bed } from "../bed/bed.js";
import { CommandError, until } from "../bed/command.js";
import { bedConfig, Daemon } from "../bed/daemon.js";
import { ROOT_ONLY } from "./ledger.js";

const RULE = ["--protocol", "udp", "--port", "53"];
const TO = `${ADDRESS.target}:8081`;

describe("edits of a running gateway", ROOT_ONLY, () => {
  let bed: Bed;
  let daemon: Daemon;
  const path = (name: string): string => join(bed.directory, name);
  before(async () => {
    bed = await Bed.make({ staticNeighbours: true });
  });
  after(() => bed.remove());
  beforeEach(() => {
    writeFileSync(path("list.txt"), "# ours\n192.0.2.1 # one\n10.0.0.0/8\n");
  });
  afterEach(async () => {
    const exit = await daemon.stop();
    assert.equal(exit.code, 0, daemon.process.stderr);
  });

  interface Outcome {
    exit: number | string | null;
    code: string | null;
    problems: string[];
    out: Record<string, unknown>;
  }

  async function run(...args: string[]): Promise<Outcome> {
    try {
      const out = JSON.parse(await daemon.cli(...args, "-o", "json")) as Record<string, unknown>;
      return { exit: 0, code: null, problems: [], out };
    } catch (error) {
      assert.ok(error instanceof CommandError, String(error));
      const { error: told } = JSON.parse(error.stderr) as {
        error: { code: string; problems: { line: number; column: number }[] };
      };
      const problems = told.problems.map(({ line, column }) => `${line}:${column}`);
      return { exit: error.code, code: told.code, problems, out: {} };
    }
  }

  async function reload(): Promise<string> {
    const earlier = daemon.process.stderr.length;
    daemon.process.kill("SIGHUP");
    const said = (): string => daemon.process.stderr.slice(earlier);
    await until("the reload", async () => (/"event":"(reloaded|reload_failed)"/.test(said()) ? true : null));
    return said();
  }

  test("each exits with the code for what happened, and changes nothing when it fails", async () => {
    daemon = await Daemon.start(bed, { allowlist: { file: "list.txt" } });
    writeFileSync(path("wrong.txt"), "192.0.2.5\n  192.0.2.999\n192.0.2.6 x\n");
    writeFileSync(path("wrong.json"), '{"organizations": [\n{"name": "a", "ips": ["192.0.2.7", "nowhere"]}]}');
    writeFileSync(path("good.json"), '{"organizations": [{"name": "a", "ips": ["192.0.2.7", "192.0.2.7"]}]}');
    const table: [args: string[], exit: number, code: string | null][] = [
      [["allowlist", "test", "10.1.2.3"], 0, null],
      [["allowlist", "test", "11.1.2.3"], 3, "ADDRESS_NOT_LISTED"],
      [["allowlist", "test", "10.1.2"], 2, "ADDRESS_INVALID"],
      [["allowlist", "add", "10.1.2.3.4"], 2, "ADDRESS_INVALID"],
      [["allowlist", "add"], 2, "USAGE"],
      [["allowlist", "remove", "10.1.2.3"], 3, "ADDRESS_NOT_LISTED"],
      [["allowlist", "remove", "192.0.2.1", "10.1.2.3"], 3, "ADDRESS_NOT_LISTED"],
      [["allowlist", "import", path("nothing.txt")], 2, "ALLOWLIST_UNREADABLE"],
      [["allowlist", "import", bed.directory], 2, "ALLOWLIST_UNREADABLE"],
      [["allowlist", "import", path("wrong.txt")], 2, "ALLOWLIST_INVALID"],
      [["allowlist", "import", path("wrong.json")], 2, "ALLOWLIST_INVALID"],
      [["allowlist", "import", path("good.json"), "--dry-run"], 0, null],
      [["nat", "rule", "remove", ...RULE], 3, "RULE_NOT_FOUND"],
      [["nat", "rule", "add", ...RULE, "--to", "192.0.2.1"], 2, "RULE_INVALID"],
      [["nat", "rule", "add", "--protocol", "sctp", "--port", "1", "--to", TO], 2, "RULE_INVALID"],
      [["nat", "rule", "add", "--protocol", "udp", "--to", TO], 2, "USAGE"],
      [["nat", "rule", "list"], 0, null],
    ];
    for (const [args, exit, code] of table) {
      const outcome = await run(...args);
      assert.deepEqual([outcome.exit, outcome.code], [exit, code], args.join(" "));
    }
    assert.deepEqual((await run("allowlist", "import", path("wrong.txt"))).problems, ["2:3", "3:1"]);
    assert.deepEqual((await run("allowlist", "import", path("wrong.json"))).problems, ["2:37"]);
    assert.deepEqual((await run("allowlist", "list")).out["entries"], ["192.0.2.1", "10.0.0.0/8"]);
    assert.equal((await run("nat", "rule", "add", ...RULE, "--to", TO)).exit, 0);
    assert.equal((await run("nat", "rule", "add", ...RULE, "--to", TO)).exit, 0);
    const other = await run("nat", "rule", "add", ...RULE, "--to", "192.0.2.77:1");
    assert.deepEqual([other.exit, other.code], [1, "RULE_EXISTS"]);
  });

  test("an import that may skip wrong entries loads the others, says which, and knows who lists them", async () => {
    daemon = await Daemon.start(bed, { allowlist: { file: "list.txt" } });
    const mixed = {
      organizations: [{ name: "a", ips: ["192.0.2.7", "nowhere", "192.0.2.7"] }],
      flat_ip_list: ["10.0.0.1"],
    };
    writeFileSync(path("mixed.json"), JSON.stringify(mixed));
    const { out } = await run("allowlist", "import", path("mixed.json"), "--skip-invalid");
    assert.deepEqual(
      [out["total"], out["added"], out["removed"], out["duplicates"], out["skippedCount"]],
      [2, 2, 2, 1, 1],
    );
    const { out: listed } = await run("allowlist", "list");
    assert.deepEqual(listed["organizations"], [{ name: "a", ips: ["192.0.2.7"] }]);
    assert.match(await daemon.cli("allowlist", "list"), /^192\.0\.2\.7 {2}# a$/m);
  });

  test("what is saved outlives a reload, with the comments around it; what is not saved is named and dropped", async () => {
    daemon = await Daemon.start(bed, { allowlist: { file: "list.txt" } });
    assert.equal((await run("allowlist", "add", "198.51.100.1")).out["saved"], undefined);
    assert.equal((await run("allowlist", "add", "198.51.100.2", "--save")).out["saved"], path("list.txt"));
    await run("allowlist", "remove", "10.0.0.0/8", "--save");
    const { out } = await run("nat", "rule", "add", ...RULE, "--to", TO, "--save");
    assert.equal(out["saved"], path("vxpipe.yaml"));
    const said = await reload();
    assert.match(said, /dropped edits made at run time: allowlist add 198\.51\.100\.1"/);
    assert.match(said, /allowlist: 3 entries become 2 entries, in place/);
    assert.equal(readFileSync(path("list.txt"), "utf8"), "# ours\n192.0.2.1 # one\n198.51.100.2\n");
    assert.deepEqual((await run("allowlist", "list")).out["entries"], ["192.0.2.1", "198.51.100.2"]);
    assert.deepEqual((await run("nat", "rule", "list")).out["rules"], [{ protocol: "udp", port: 53, to: TO }]);
    writeFileSync(path("new.json"), '{"organizations": [{"name": "a", "ips": ["192.0.2.9", "x"]}]}');
    await run("allowlist", "import", path("new.json"), "--skip-invalid", "--save");
    assert.doesNotMatch(await reload(), /dropped/);
    assert.equal(readFileSync(path("list.txt"), "utf8"), '{"organizations": [{"name": "a", "ips": ["192.0.2.9"]}]}');
    await run("allowlist", "clear", "--save");
    await run("nat", "rule", "remove", ...RULE, "--save");
    await reload();
    assert.deepEqual((await run("allowlist", "list")).out["entries"], []);
    assert.deepEqual((await run("nat", "rule", "list")).out["rules"], []);
  });

  test("an edit that cannot be saved is not made", async () => {
    daemon = await Daemon.start(bed, { allowlist: {} });
    const { exit, code } = await run("allowlist", "add", "192.0.2.1", "--save");
    assert.deepEqual([exit, code], [1, "NOT_SAVED"]);
    assert.deepEqual((await run("allowlist", "list")).out["entries"], []);
    writeFileSync(path("vxpipe.yaml"), "inside: 1\n");
    assert.equal((await run("nat", "rule", "add", ...RULE, "--to", TO, "--save")).code, "NOT_SAVED");
    assert.deepEqual((await run("nat", "rule", "list")).out["rules"], []);
    assert.match(await reload(), /reload_failed/);
    assert.equal(await daemon.status("/readyz"), 200);
  });

  test("what only a restart can change is named beforehand and left as it was, and the rest is done", async () => {
    daemon = await Daemon.start(bed, { allowlist: { file: "list.txt" } });
    writeFileSync(path("list.txt"), "192.0.2.1\n");
    const changed = bedConfig(bed, { allowlist: { file: "list.txt", match: "source" }, packet: { ipv6: "forward" } });
    writeFileSync(path("vxpipe.yaml"), JSON.stringify(changed));
    await run("allowlist", "add", "192.0.2.2");
    const coming = {
      actions: [
        "allowlist: 3 entries become 1 entries, in place",
        "only a restart changes allowlist.match, packet.ipv6: left as before",
      ],
      restart: ["allowlist.match", "packet.ipv6"],
      dropped: ["allowlist add 192.0.2.2"],
    };
    assert.deepEqual((await run("reload", "--dry-run")).out, { dryRun: true, ...coming });
    assert.equal(((await run("allowlist", "list")).out["entries"] as string[]).length, 3);
    const said = await reload();
    const plan = said.indexOf('"event":"reload_plan"');
    assert.match(said, /only a restart changes allowlist\.match, packet\.ipv6: left as before/);
    assert.ok(plan >= 0 && plan < said.indexOf('"event":"restart_needed"'), said);
    assert.deepEqual((await run("allowlist", "list")).out["entries"], ["192.0.2.1"]);
    const { actions, restart } = coming;
    assert.deepEqual((await run("reload")).out, { dryRun: false, actions: actions.slice(1), restart, dropped: [] });
    writeFileSync(path("vxpipe.yaml"), "inside: 1\n");
    const { exit, code, problems } = await run("reload");
    assert.deepEqual([exit, code, problems.length > 0], [2, "CONFIG_INVALID", true]);
  });
});
