// What keeps a daemon from starting: each is one sentence that names it, a hint, an exit code, and leaves nothing
// behind, nor harms who is there already. Needs root.
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { ADDRESS, Bed, type Place } from "../bed/bed.js";
import { type Background, ROOT } from "../bed/command.js";
import { bedConfig, type Config, Daemon, DATAPATHS, writeConfig } from "../bed/daemon.js";
import { generate, Sink, tool } from "../bed/tools.js";
import { receivedIs, ROOT_ONLY, settled } from "./ledger.js";
import { occupyQueue } from "./occupied-queue.js";
import { attachment, traces } from "./remaining.js";

const COMMAND = join(ROOT, "bin/vxpipe");

interface Refusal {
  what: string;
  /** Replaces sections of the bed's configuration. */
  config?: (bed: Bed) => Config;
  /** Makes the obstacle; what it returns takes it away. */
  obstacle?: (bed: Bed) => Promise<() => Promise<unknown>>;
  /** The command that runs vxpipe, where it is not vxpipe itself. */
  wrapper?: string[];
  code: number;
  /** All of standard error's first line, and the hint's beginning. */
  says: RegExp;
}

/** A process in the background, until it is told to go. */
async function keeping(bed: Bed, place: Place, command: string, args: string[]): Promise<() => Promise<unknown>> {
  const process: Background = bed.start(place, command, args);
  await process.nextLine();
  return () => process.stop();
}

async function undoing(bed: Bed, done: string, undone: string): Promise<() => Promise<unknown>> {
  await bed.ip("gateway", ...done.split("; "));
  return () => bed.ip("gateway", ...undone.split("; "));
}

const inside = (name: string): Config => ({ inside: { interface: name, vxlan: {} } });
const outside = (name: string): Config => ({ outside: { interface: name } });
const state = (bed: Bed, values: object): Config => {
  const standard = { directory: join(bed.directory, "state"), bpffs: join(bed.bpffs, "vxpipe") };
  return { state: { ...standard, ...values } };
};

const REFUSALS: Refusal[] = [
  {
    what: "an inside interface that is not there",
    config: () => inside("nope0"),
    code: 1,
    says: /^vxpipe: inside\.interface: this host has no interface nope0\n {2}See what this host has: ip -brief link\.$/,
  },
  {
    what: "an outside interface that is not there",
    config: () => outside("nope0"),
    code: 1,
    says: /^vxpipe: outside\.interface: this host has no interface nope0\n/,
  },
  {
    what: "one interface under two names",
    config: () => outside("in0alias"),
    obstacle: (bed) =>
      undoing(bed, "link property add dev in0 altname in0alias", "link property del dev in0 altname in0alias"),
    code: 1,
    says: /^vxpipe: in0 and in0alias are the same interface\n/,
  },
  ...["bpf", "net_admin", "net_raw", "perfmon"].map((name) => ({
    what: `a missing capability, CAP_${name.toUpperCase()}`,
    wrapper: ["setpriv", `--bounding-set=-${name}`, `--inh-caps=-${name}`],
    code: 1,
    says: new RegExp(`^vxpipe: this process lacks CAP_${name.toUpperCase()}\n {2}Run it as root`),
  })),
  {
    what: "a missing capability, CAP_IPC_LOCK, where the limit of locked memory is too low",
    wrapper: ["prlimit", "--memlock=8388608:8388608", "setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"],
    code: 1,
    says: /^vxpipe: this process lacks CAP_IPC_LOCK, and may lock 8192 KiB of memory; packets take 16384 KiB at least\n {2}Run/,
  },
  {
    what: "a missing capability, CAP_SYS_NICE, where workers are to have a real-time priority",
    config: () => ({ workers: { priority: 10 } }),
    wrapper: ["prlimit", "--rtprio=0:0", "setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"],
    code: 1,
    says: /^vxpipe: this process lacks CAP_SYS_NICE, and may give threads a real-time priority of 0 at most; workers\.priority is 10\n {2}Run .*CAP_SYS_NICE/,
  },
  {
    what: "another XDP program on the inside interface",
    obstacle: (bed) => keeping(bed, "gateway", tool("vxbare"), ["--inside", "in0", "--pass"]),
    code: 1,
    says: /^vxpipe: attach to the inside interface: program \d+ \(bare_pass\)\n {2}Another XDP program is on the interface; see it with: bpftool net\.$/,
  },
  {
    what: "another XDP program on the outside interface",
    obstacle: (bed) => keeping(bed, "gateway", tool("vxbare"), ["--inside", "out0", "--pass"]),
    code: 1,
    says: /^vxpipe: attach to the outside interface: program \d+ \(bare_pass\)\n/,
  },
  ...(
    [
      ["inside", "in0", "xdp"],
      ["inside", "in0", "afxdp"],
      ["outside", "out0", "xdp"],
    ] as const
  ).map(([side, name, datapath]) => ({
    what: `another program's AF_XDP socket at the ${side} interface, where ${datapath} needs its own`,
    config: () => ({ datapath }),
    obstacle: (bed: Bed) => occupyQueue(bed, name),
    code: 1,
    says: new RegExp(
      `^vxpipe: bind\\(AF_XDP\\): another program's AF_XDP socket is bound to queue 0 of ${name}\n {2}End that program, `,
    ),
  })),
  {
    what: "a generic XDP program on the inside interface",
    obstacle: async (bed) => {
      const pin = join(bed.bpffs, "generic");
      const object = join(bed.directory, "generic.o");
      const source = join(bed.directory, "generic.c");
      writeFileSync(source, `__attribute__((section("xdp"))) int pass(void *context) { return 2; }\n`);
      await bed.exec("gateway", "clang", ["-O2", "-target", "bpf", "-c", source, "-o", object]);
      await bed.exec("gateway", "bpftool", ["prog", "load", object, pin, "type", "xdp"]);
      await bed.exec("gateway", "bpftool", ["net", "attach", "xdpgeneric", "pinned", pin, "dev", "in0"]);
      return async () => {
        await bed.exec("gateway", "bpftool", ["net", "detach", "xdpgeneric", "dev", "in0"]);
        await bed.exec("gateway", "rm", [pin]);
      };
    },
    code: 1,
    says: /^vxpipe: attach to the inside interface: program \d+ \(pass\)\n {2}Another XDP program is on the interface/,
  },
  {
    what: "a driver without native XDP, for which generic XDP is no substitute",
    config: () => inside("vx9"),
    obstacle: (bed) =>
      undoing(bed, "link add vx9 type vxlan id 9 dstport 4790 dev in0; link set vx9 up", "link del vx9"),
    code: 1,
    says: /^vxpipe: attach to the inside interface.*\n {2}Its driver has no native XDP, and generic XDP loses packets unseen/,
  },
  ...(
    [
      ["inside", "in0", "source", "src0"],
      ["outside", "out0", "target", "dst0"],
    ] as const
  ).map(([side, name, place, far]) => ({
    what: `an MTU of the ${side} interface that is too big for native XDP`,
    obstacle: async (bed: Bed): Promise<() => Promise<void>> => {
      const set = async (mtu: number): Promise<void> => {
        await bed.ip("gateway", `link set ${name} mtu ${mtu}`);
        await bed.ip(place, `link set ${far} mtu ${mtu}`);
      };
      await set(9000);
      return () => set(3400);
    },
    code: 1,
    says: new RegExp(
      `^vxpipe: attach to the ${side} interface.*\\n {2}Lower the MTU of that interface to what its driver allows with XDP\\.$`,
    ),
  })),
  {
    what: "a state directory that cannot be made",
    config: (bed) => state(bed, { directory: "/proc/vxpipe" }),
    code: 1,
    says: /^vxpipe: state\.directory \/proc\/vxpipe: .*\n {2}Make state\.directory writable, or choose another\.$/,
  },
  {
    what: "a bpffs that cannot be made",
    config: (bed) => state(bed, { bpffs: "/proc/vxpipe/bpf" }),
    code: 1,
    says: /^vxpipe: .*\/proc\/vxpipe.*\n {2}Point state\.bpffs at a directory on a bpffs/,
  },
  {
    what: "something at the socket's path that is no socket",
    config: (bed) => ({ control: { listen: "127.0.0.1:9470", socket: join(bed.directory, "state") } }),
    code: 1,
    says: /^vxpipe: control\.socket .*: it is there and not a socket\n/,
  },
  {
    what: "a configuration that is wrong",
    config: () => ({ outside: { interface: "out0", nextHop: "here" }, datapath: "fast" }),
    code: 2,
    says: /^\S+vxpipe\.yaml:\d+:\d+: .*nextHop.*\n\S+vxpipe\.yaml:\d+:\d+: .*datapath/,
  },
  {
    what: "a CPU this process may not use",
    config: () => ({ workers: { cpus: [127] } }),
    code: 1,
    says: /^vxpipe: .*127.*\n {2}Name a CPU this process may run on/,
  },
];

describe("a daemon does not start with", ROOT_ONLY, () => {
  let bed: Bed;
  before(async () => {
    bed = await Bed.make({ staticNeighbours: true });
    mkdirSync(join(bed.directory, "state"));
  });
  after(() => bed.remove());

  for (const { what, config, obstacle, wrapper = [], code, says } of REFUSALS) {
    test(what, async () => {
      const remove = await obstacle?.(bed);
      try {
        const file = writeConfig(bed, bedConfig(bed, config?.(bed)));
        const there = await traces(bed);
        const [command = COMMAND, ...args] = [...wrapper, COMMAND];
        const daemon = bed.start("gateway", command, [...args, "run", "--config", file]);
        const exit = await daemon.exited;
        assert.deepEqual(exit, { code, signal: null }, daemon.stderr);
        // The log's lines are JSON; what is for people comes last.
        const message = daemon.stderr
          .split("\n")
          .filter((line) => !line.startsWith("{"))
          .join("\n");
        assert.match(message.trimEnd(), says);
        assert.deepEqual(await traces(bed), there);
      } finally {
        await remove?.();
      }
      assert.deepEqual(await traces(bed), []);
    });
  }
});

describe("a second daemon", ROOT_ONLY, () => {
  let bed: Bed;
  let first: Daemon;
  before(async () => {
    bed = await Bed.make({ staticNeighbours: true });
    await bed.ip("gateway", "link add in1 mtu 3400 type veth peer name far1 mtu 3400", "link set in1 up");
    await Sink.start(bed);
    first = await Daemon.start(bed);
  });
  after(async () => {
    assert.deepEqual(await first.stop(), { code: 0, signal: null });
    assert.deepEqual(await traces(bed), []);
    await bed.remove();
  });

  async function refused(config: Config): Promise<string> {
    const file = writeConfig(bed, bedConfig(bed, config), "second.yaml");
    const second = bed.start("gateway", COMMAND, ["run", "--config", file]);
    assert.deepEqual(await second.exited, { code: 1, signal: null }, second.stderr);
    return second.stderr;
  }

  /** The first one goes on as if nothing had been. */
  async function stillForwards(): Promise<void> {
    const { received } = (await first.peek()).inside;
    await generate(bed, { destination: ADDRESS.beyond, count: 100, rate: 10_000 });
    await receivedIs(first, received + 100);
    const stats = await settled(first);
    assert.equal(stats.inside.forwarded, stats.inside.received);
    assert.equal(await attachment(bed, "in0"), "native");
    assert.equal(await first.status("/readyz"), 200);
  }

  test("on the same socket is told which process answers there", async () => {
    const said = await refused({});
    assert.match(said, new RegExp(`^vxpipe: a vxpipe daemon \\(pid ${first.process.pid}\\) answers on `));
    await stillForwards();
  });

  const apart = (): Config => ({
    control: { listen: "127.0.0.1:9471", socket: join(bed.directory, "second.sock") },
    state: { directory: join(bed.directory, "second"), bpffs: join(bed.bpffs, "second") },
  });

  test("on the same interface is told which process holds it", async () => {
    const said = await refused(apart());
    const holder = `another daemon has the inside interface: process ${first.process.pid} `;
    assert.ok(said.includes(`vxpipe: ${holder}`), said);
    await stillForwards();
  });

  for (const [what, side, config] of [
    [
      "whose inside is the first one's outside",
      "inside",
      { inside: { interface: "out0", vxlan: {} }, ...outside("in1") },
    ],
    [
      "whose outside is the first one's inside",
      "outside",
      { inside: { interface: "in1", vxlan: {} }, ...outside("in0") },
    ],
    ["with the first one's outside", "outside", { inside: { interface: "in1", vxlan: {} }, ...outside("out0") }],
  ] as const)
    test(`${what} is told which process holds it`, async () => {
      for (const datapath of DATAPATHS) {
        const said = await refused({ ...apart(), ...config, datapath });
        const holder = `another daemon has the ${side} interface: process ${first.process.pid} `;
        assert.ok(said.includes(`vxpipe: ${holder}`), said);
      }
      await stillForwards();
    });

  test("of another socket and the same state directory and pins harms nobody either", async () => {
    await refused({ control: { listen: "127.0.0.1:9471", socket: join(bed.directory, "second.sock") } });
    await stillForwards();
  });
});
