// What a host's facts mean for vxpipe. Called by src/cli/commands/doctor.ts. Pure.
import { isKernelEnough, kernelMin } from "../pipeline/preflight.js";
import { required } from "../pipeline/privileges.js";
import type { Finding, HostFacts, Said } from "./facts.js";

const ipcLock = 14;
/** What the worker's packet memory may need (docs/OPERATIONS.md, Memory). */
const memlockMin = 64 << 20;

const toolUses: Record<string, { lacks: string; package: string }> = {
  ip: { lacks: "links and their XDP programs are not looked at", package: "iproute2" },
  ethtool: { lacks: "driver, queues, rings, offloads and RSS are not looked at", package: "ethtool" },
  bpftool: { lacks: "XDP programs are looked at with ip alone", package: "bpftool" },
};

export function hostFindings(facts: HostFacts): Finding[] {
  const said = [
    kernel(facts),
    btf(facts),
    jit(facts),
    capabilities(facts),
    memlock(facts),
    bpffs(facts),
    ...tools(facts),
  ];
  return said.map((finding) => ({ subject: "host", ...finding }));
}

function kernel({ kernel: version }: HostFacts): Said {
  const wanted = `${kernelMin.join(".")} or newer`;
  if (isKernelEnough(version))
    return { level: "ok", topic: "kernel", message: `Linux ${version} (${wanted} is needed)` };
  return { level: "problem", topic: "kernel", message: `Linux ${version} is too old: vxpipe needs ${wanted}` };
}

function btf(facts: HostFacts): Said {
  if (facts.btf) return { level: "ok", topic: "BTF", message: "the kernel describes its types" };
  const message =
    "/sys/kernel/btf/vmlinux is missing, which the ledger's tracepoint programs need: " +
    "use a kernel built with CONFIG_DEBUG_INFO_BTF=y";
  return { level: "problem", topic: "BTF", message };
}

function jit(facts: HostFacts): Said {
  if (facts.jit === null) {
    const message = "net.core.bpf_jit_enable cannot be read here: it takes root, and the host's own network namespace";
    return { level: "note", topic: "JIT", message };
  }
  if (facts.jit > 0) return { level: "ok", topic: "JIT", message: "BPF programs run as machine code" };
  return {
    level: "problem",
    topic: "JIT",
    message: "BPF programs are interpreted, which takes most of the speed",
    command: "sysctl -w net.core.bpf_jit_enable=1",
  };
}

function has(facts: HostFacts, capability: number): boolean {
  return ((facts.capabilities >> BigInt(capability)) & 1n) === 1n;
}

function capabilities(facts: HostFacts): Said {
  const topic = "capabilities";
  const wanted = Object.entries(required);
  const missing = wanted.filter(([, capability]) => !has(facts, capability)).map(([name]) => name);
  if (missing.length === 0) return { level: "ok", topic, message: "all that `vxpipe run` needs" };
  const lacks = `this process lacks ${missing.join(", ")}`;
  // Looking needs none, so only for root it says something of the host.
  if (facts.uid !== 0) return { level: "note", topic, message: `${lacks}; \`vxpipe run\` needs them, as root has` };
  return { level: "problem", topic, message: `${lacks} although it is root (a container?); \`vxpipe run\` needs them` };
}

function memlock(facts: HostFacts): Said {
  const topic = "locked memory";
  if (has(facts, ipcLock)) return { level: "ok", topic, message: "no limit for this process (CAP_IPC_LOCK)" };
  if (facts.memlock === null) return { level: "note", topic, message: "the limit could not be read" };
  const limit = facts.memlock === Infinity ? "no limit" : `limit ${Math.floor(facts.memlock / 1024)} KiB`;
  if (facts.memlock >= memlockMin) return { level: "ok", topic, message: limit };
  const message = `${limit}, without CAP_IPC_LOCK too little for the worker's packet memory`;
  return { level: "note", topic, message, command: "ulimit -l unlimited" };
}

function bpffs(facts: HostFacts): Said {
  const [first] = facts.bpffs;
  if (first !== undefined) return { level: "ok", topic: "bpffs", message: `mounted at ${first}` };
  return {
    level: "note",
    topic: "bpffs",
    message: "none is mounted; `vxpipe run` mounts one, which in a mount namespace of its own goes with it",
    command: "mount -t bpf bpf /sys/fs/bpf",
  };
}

function tools({ missingTools }: HostFacts): Said[] {
  return missingTools.map((tool) => {
    const use = toolUses[tool];
    const message = `${tool} is not installed: ${use?.lacks ?? "something is not looked at"}`;
    return { level: "note", topic: "tools", message, command: `apt-get install ${use?.package ?? tool}` };
  });
}
