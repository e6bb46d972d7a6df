// Where the workers go on hosts of several shapes, from what such hosts tell of themselves; and that reading it.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import * as facts from "../../src/injector/cpu-facts.js";
import { placeWorkers, type WorkersWanted } from "../../src/injector/placement.js";

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, index) => from + index);
const auto: WorkersWanted = { count: "auto", cpus: "auto", sendAll: true };

/** A NIC with a queue, and its interrupt, on each of these CPUs. */
function nic(cpus: readonly number[], node: number | null = null): facts.InterfaceCpus {
  return { interrupts: cpus.map((cpu) => ({ number: 100 + cpu, label: `ens5-Tx-Rx-${cpu}`, cpus: [cpu] })), node };
}

interface Shape extends Partial<facts.HostCpus> {
  cpus: number;
  inside?: facts.InterfaceCpus;
  outside?: facts.InterfaceCpus;
  queues?: number;
}

function host({ cpus, inside = nic([]), outside = nic([]), queues, ...rest }: Shape): facts.CpuFacts {
  const insideQueues = queues ?? Math.max(inside.interrupts.length, 1);
  return {
    allowed: range(0, cpus - 1),
    nodes: new Map(),
    cores: [],
    keptFromRealTimeMs: 0,
    interfaces: [inside, outside],
    insideQueues,
    ...rest,
  };
}

/** Two sockets of 32 threads: node 0 has the even CPUs, node 1 the odd ones, and CPU n shares its core with n + 32. */
function twoSockets(inside: facts.InterfaceCpus, queues: number): facts.CpuFacts {
  const nodes = new Map(range(0, 63).map((cpu) => [cpu, cpu % 2]));
  return host({ cpus: 64, inside, queues, nodes, cores: range(0, 31).map((cpu) => [cpu, cpu + 32]) });
}

test("on one CPU there is one worker, beside whatever else is there", () => {
  const alone = placeWorkers(host({ cpus: 1, inside: nic([0]) }), auto);
  assert.deepEqual([alone.cpus, alone.node], [[0], null]);
  assert.match(alone.warning ?? "", /CPU 0 serves/);
});

test("on two CPUs the worker takes the one without the interrupts", () => {
  assert.deepEqual(placeWorkers(host({ cpus: 2, inside: nic([1]) }), auto), { cpus: [0], node: null, warning: null });
  assert.deepEqual(placeWorkers(host({ cpus: 2, inside: nic([0]) }), auto).cpus, [1]);
  assert.deepEqual(placeWorkers(host({ cpus: 2 }), auto).cpus, [1]);
});

test("workers that spin at a real-time priority on every CPU there is are worth a warning, on all but one are not", () => {
  const wanted = { ...auto, count: 2, keepCpus: true };
  assert.match(placeWorkers(host({ cpus: 2 }), wanted).warning ?? "", /real-time priority on CPU 0, 1, which are all/);
  assert.equal(placeWorkers(host({ cpus: 3 }), wanted).warning, null);
  assert.equal(placeWorkers(host({ cpus: 2 }), { ...wanted, keepCpus: false }).warning, null);
});

test("workers that spin at a real-time priority are warned of the time the kernel keeps from them", () => {
  const kept = host({ cpus: 3, keptFromRealTimeMs: 50 });
  assert.match(placeWorkers(kept, { ...auto, keepCpus: true }).warning ?? "", /stops them for 50 ms of every second/);
  assert.equal(placeWorkers(kept, auto).warning, null);
});

test("the interrupts of the outside interface count as those of the inside one", () => {
  assert.deepEqual(placeWorkers(host({ cpus: 2, outside: nic([1]) }), auto).cpus, [0]);
});

test("on eight CPUs as many workers as queues keep off the interrupts, and one CPU stays free", () => {
  const eight = (queues: number): number[] =>
    placeWorkers(host({ cpus: 8, inside: nic(range(0, queues - 1)) }), auto).cpus;
  assert.deepEqual(eight(2), [7, 6]);
  assert.deepEqual(eight(4), [7, 6, 5]);
  assert.deepEqual(eight(8), [7]);
});

test("threads of a core that serves interrupts come after other free CPUs", () => {
  const cores = range(0, 3).map((cpu) => [cpu, cpu + 4]);
  assert.deepEqual(placeWorkers(host({ cpus: 8, cores, inside: nic([2, 3]) }), auto).cpus, [5, 4]);
});

test("with two NUMA nodes workers and their memory are on the inside device's", () => {
  const near = placeWorkers(twoSockets(nic([1, 3, 5, 7], 1), 4), auto);
  assert.deepEqual(near, { cpus: [63, 61, 59, 57], node: 1, warning: null });
  assert.deepEqual(placeWorkers(twoSockets(nic([0, 2], 0), 2), auto), { cpus: [62, 60], node: 0, warning: null });
});

test("a free CPU of the other node is better than one with interrupts of the device's own", () => {
  const busy = twoSockets(
    nic(
      range(0, 63).filter((cpu) => cpu % 2 === 1),
      1,
    ),
    32,
  );
  assert.deepEqual(placeWorkers(busy, auto), { cpus: [62], node: 0, warning: null });
});

test("of 64 CPUs no more than eight become workers, whatever the queues", () => {
  assert.deepEqual(
    placeWorkers(host({ cpus: 64, inside: nic(range(0, 31)) }), auto).cpus,
    [63, 62, 61, 60, 59, 58, 57, 56],
  );
});

test("where XDP sends, one worker is all auto gives", () => {
  const eight = host({ cpus: 8, inside: nic([0, 1, 2, 3]) });
  assert.deepEqual(placeWorkers(eight, { ...auto, sendAll: false }).cpus, [7]);
  assert.deepEqual(placeWorkers(eight, { ...auto, cpus: [4, 5], sendAll: false }).cpus, [4]);
});

test("only CPUs this process may use are taken, and a named one that it may not is refused", () => {
  const penned = host({ cpus: 8, allowed: [2, 3], inside: nic([3]) });
  assert.deepEqual(placeWorkers(penned, auto).cpus, [2]);
  assert.throws(() => placeWorkers(penned, { ...auto, cpus: [4] }), { code: "CPU_UNAVAILABLE" });
});

test("named CPUs are one worker each, and more workers than CPUs take turns, which is said", () => {
  const eight = host({ cpus: 8 });
  assert.deepEqual(placeWorkers(eight, { ...auto, cpus: [4, 2] }), { cpus: [4, 2], node: null, warning: null });
  const crowded = placeWorkers(host({ cpus: 2 }), { ...auto, count: 4 });
  assert.deepEqual(crowded.cpus, [1, 0, 1, 0]);
  assert.match(crowded.warning ?? "", /more than one worker on CPU 0, 1/);
});

test("lists of CPUs are read as the kernel writes them", () => {
  assert.deepEqual(facts.allowedCpus("Name:\tnode\nCpus_allowed_list:\t0-2,5,7-8\n"), [0, 1, 2, 5, 7, 8]);
  assert.ok(facts.allowedCpus().length > 0);
  assert.deepEqual(facts.cpuList(""), []);
  assert.deepEqual(facts.cpuList("fail"), []);
});

const interruptsText = `           CPU0       CPU1       CPU2       CPU3
 24:          1          0          0          0   IO-APIC   5-edge      ACPI:Ged
 27:          3          0          0          0   PCI-MSI 81920-edge      ena-mgmnt@pci:0000:00:05.0
 28:       1000          0          0          0   PCI-MSI 81921-edge      ens5-Tx-Rx-0
 29:       1000          0          0          0   PCI-MSI 81922-edge      ens5-Tx-Rx-1
 31:       1000          0          0          0   PCI-MSI 81923-edge      virtio3-input.0
NMI:          0          0          0          0   Non-maskable interrupts
`;

test("interrupts are the device's own that carry packets, seen through a VLAN, with the CPUs in effect", () => {
  const root = mkdtempSync(join(tmpdir(), "vxpipe-cpus-"));
  const put = (path: string, text = ""): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  try {
    put("proc/self/status", "Cpus_allowed_list:\t0-3\n");
    put("proc/interrupts", interruptsText);
    put("proc/irq/28/effective_affinity_list", "2\n");
    put("proc/irq/28/smp_affinity_list", "0-3\n");
    put("proc/irq/29/effective_affinity_list", "\n");
    put("proc/irq/29/smp_affinity_list", "1,3\n");
    put("proc/sys/kernel/sched_rt_period_us", "1000000\n");
    put("proc/sys/kernel/sched_rt_runtime_us", "950000\n");
    put("sys/devices/system/node/node0/cpulist", "0-1\n");
    put("sys/devices/system/node/node1/cpulist", "2-3\n");
    for (const cpu of range(0, 3)) {
      put(`sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`, `${cpu % 2},${(cpu % 2) + 2}\n`);
    }
    for (const irq of [27, 28, 29]) put(`sys/class/net/ens5/device/msi_irqs/${irq}`);
    put("sys/class/net/ens5/device/numa_node", "1\n");
    put("sys/class/net/ens5.7/uevent");
    symlinkSync("../ens5", join(root, "sys/class/net/ens5.7/lower_ens5"));
    put("sys/devices/pci/msi_irqs/31");
    put("sys/devices/pci/numa_node", "-1\n");
    put("sys/devices/pci/virtio3/uevent");
    put("sys/class/net/eth0/uevent");
    symlinkSync("../../../devices/pci/virtio3", join(root, "sys/class/net/eth0/device"));

    const { allowed, nodes, cores, keptFromRealTimeMs } = facts.readHostCpus(root);
    assert.deepEqual(allowed, [0, 1, 2, 3]);
    assert.equal(keptFromRealTimeMs, 50);
    put("proc/sys/kernel/sched_rt_runtime_us", "-1\n");
    assert.equal(facts.readHostCpus(root).keptFromRealTimeMs, 0);
    assert.deepEqual([...nodes], [[0, 0], [1, 0], [2, 1], [3, 1]]); // prettier-ignore
    assert.deepEqual(cores, [[0, 2], [1, 3]]); // prettier-ignore
    const own = { interrupts: [{ number: 28, label: "ens5-Tx-Rx-0", cpus: [2] }, { number: 29, label: "ens5-Tx-Rx-1", cpus: [1, 3] }], node: 1 }; // prettier-ignore
    for (const name of ["ens5", "ens5.7"]) assert.deepEqual(facts.readInterfaceCpus(name, root), own);
    const { interrupts, node } = facts.readInterfaceCpus("eth0", root);
    assert.deepEqual([interrupts.map(({ number }) => number), node], [[31], null]);
    assert.deepEqual(facts.readInterfaceCpus("nowhere0", root), { interrupts: [], node: null });
  } finally {
    rmSync(root, { recursive: true });
  }
});
