// What the daemon may do: that it runs under its own user with the capabilities the documentation names, gives up the rest
// in every thread, can still do its work, and leaves no file that others may read. Needs root.
import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { ADDRESS, Bed } from "../bed/bed.js";
import { ROOT, until } from "../bed/command.js";
import { bedConfig, Daemon, DATAPATHS, writeConfig } from "../bed/daemon.js";
import { generate, type Load, Sink } from "../bed/tools.js";
import { required } from "../../src/pipeline/privileges.js";
import { agreed, dropsOf, receivedIs, ROOT_ONLY } from "./ledger.js";
import { traces } from "./remaining.js";

const LOAD: Load = { destination: ADDRESS.beyond, ports: "9", sources: "10.0.0.1", count: 1000, rate: 100_000 };
/** Nobody's. */
const USER = 4711;

const bit = (number: number): bigint => 1n << BigInt(number);
const REQUIRED = Object.values(required).reduce((mask, number) => mask | bit(number), 0n);
/** CAP_IPC_LOCK: packet memory above the limit. */
const IPC_LOCK = bit(14);
/** CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SYS_NICE. */
const ROOTS = bit(1) | bit(2) | bit(23);

/** Capability sets of every thread, told apart; and whether all gave up to gain any. */
function setsOf(pid: number): string[] {
  const sets = readdirSync(`/proc/${pid}/task`).map((thread) => {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8");
    const lines = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"];
    return lines.map((name) => `${name} ${new RegExp(`^${name}:\\s*(\\w+)$`, "m").exec(status)?.[1]}`).join(", ");
  });
  return [...new Set(sets)];
}

function expected(mask: bigint, bounding: bigint = mask): string[] {
  const hex = (value: bigint): string => value.toString(16).padStart(16, "0");
  const zero = hex(0n);
  const sets = `CapInh ${zero}, CapPrm ${hex(mask)}, CapEff ${hex(mask)}, CapBnd ${hex(bounding)}`;
  return [`${sets}, CapAmb ${zero}, NoNewPrivs 1`];
}

describe("the daemon", ROOT_ONLY, () => {
  let bed: Bed;
  let sink: Sink;
  before(async () => {
    bed = await Bed.make({ staticNeighbours: true });
    // Its user has to get there.
    chmodSync(bed.directory, 0o755);
  });
  after(() => bed.remove());
  beforeEach(async () => {
    sink = await Sink.start(bed);
  });
  afterEach(async () => {
    await sink.stop();
    assert.deepEqual(await traces(bed), []);
  });

  /** All that needs a permission while packets flow: new lists, rules, a neighbour to resolve, a reload. */
  async function works(daemon: Daemon): Promise<void> {
    await generate(bed, LOAD);
    await receivedIs(daemon, 1000);
    await daemon.cli("allowlist", "add", "10.0.0.0/24", "--enforce");
    await daemon.cli("nat", "rule", "add", "--protocol", "udp", "--port", "9", "--to", `${ADDRESS.target}:8081`);
    await bed.ip("gateway", "neigh flush dev out0", `neigh del ${ADDRESS.target} dev out0`);
    await generate(bed, { ...LOAD, count: 60 });
    await receivedIs(daemon, 1060);
    const { stats } = await agreed(daemon, sink);
    assert.deepEqual([stats.inside.forwarded, dropsOf(stats)], [1060, {}]);
    daemon.process.kill("SIGHUP");
    await until("the reload", async () => (/"event":"reload(ed|_failed)"/.test(daemon.process.stderr) ? true : null));
    assert.match(daemon.process.stderr, /"event":"reloaded"/);
    await bed.ip("gateway", `neigh replace ${ADDRESS.target} lladdr 02:00:00:00:02:02 dev out0`);
  }

  function filesBelow(directory: string): string[] {
    return readdirSync(directory, { recursive: true, encoding: "utf8" })
      .map((name) => join(directory, name))
      .filter((path) => !lstatSync(path).isDirectory());
  }

  test("of root keeps in no thread more than is documented, and works with it", async () => {
    const daemon = await Daemon.start(bed);
    const event = async (): Promise<true | null> => (/privileges_dropped/.test(daemon.process.stderr) ? true : null);
    await until("the event", event);
    await works(daemon);
    assert.deepEqual(setsOf(daemon.process.pid), expected(REQUIRED | IPC_LOCK | ROOTS));
    assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.process.stderr);
  });

  /** With sessions and the tunnels' way back; static rules are one way. */
  async function translates(daemon: Daemon): Promise<void> {
    await generate(bed, { ...LOAD, flows: 10 });
    await receivedIs(daemon, 1000);
    const { stats } = await agreed(daemon, sink);
    assert.deepEqual([stats.inside.forwarded, dropsOf(stats)], [1000, {}]);
  }

  const translating = { datapath: "afxdp", nat: { source: { pools: [{ addresses: ["203.0.113.1"] }] } } } as const;
  for (const settings of [...DATAPATHS.map((datapath) => ({ datapath })), translating]) {
    const name = `${settings.datapath}${"nat" in settings ? "-nat" : ""}`;
    test(`of a user of its own runs with the documented capabilities alone, datapath ${name}`, async () => {
      const state = join(bed.directory, `state-${name}`);
      const pins = join(bed.bpffs, "own");
      for (const directory of [state, pins]) {
        mkdirSync(directory);
        chownSync(directory, USER, USER);
      }
      chmodSync(bed.bpffs, 0o711);
      const socket = join(state, "vxpipe.sock");
      const overrides = {
        ...settings,
        control: { listen: "127.0.0.1:9470", socket },
        state: { directory: state, bpffs: pins },
      };
      writeConfig(bed, bedConfig(bed, overrides));
      const names = [...Object.keys(required), "CAP_IPC_LOCK"].map(
        (capability) => `+${capability.slice("CAP_".length).toLowerCase()}`,
      );
      const capabilities = `-all,${names.join(",")}`;
      // The tree and Node may be where only root may look: they are mounted where this user may, for this process alone.
      mkdirSync(join(bed.directory, "tree"), { recursive: true });
      writeFileSync(join(bed.directory, "node"), "");
      const script =
        `cd ${bed.directory} && mount --bind ${ROOT} tree && mount --bind ${process.execPath} node && exec setpriv ` +
        `--reuid=${USER} --regid=${USER} --clear-groups --bounding-set=${capabilities} --inh-caps=${capabilities} ` +
        `--ambient-caps=${capabilities} ./node tree/dist/src/cli/main.js run --config vxpipe.yaml`;
      const daemon = Daemon.adopt(bed, bed.start("gateway", "sh", ["-c", script]), overrides);
      await daemon.ready();
      await ("nat" in settings ? translates(daemon) : works(daemon));
      assert.deepEqual(setsOf(daemon.process.pid), expected(REQUIRED | IPC_LOCK));
      const modes = filesBelow(state).map((path) => lstatSync(path).mode & 0o777);
      assert.deepEqual(modes.sort(), [0o600, 0o660], filesBelow(state).join(" "));
      assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.process.stderr);
      assert.deepEqual(await daemon.leftovers(), []);
      // Its parent is not this user's: whoever made it takes it away.
      rmdirSync(pins);
      const [note = ""] = filesBelow(state);
      assert.equal(lstatSync(note).mode & 0o777, 0o600);
      assert.match(readFileSync(note, "utf8"), /"endedAt": "/);
    });
  }
});
