// Coded errors: every failure a person can meet has a stable code, a sentence and a hint what to do.
// Thrown in every room, turned into exit codes by src/cli and into HTTP statuses by src/api. Documented in
// docs/ERRORS.md; a unit test fails when a code is missing there.

/** One wrong place in a file. Lines and columns count from 1. */
export interface Problem {
  file: string;
  line: number;
  column: number;
  message: string;
}

/** Exit codes of the contract. */
export const exit = { ok: 0, failed: 1, usage: 2, notFound: 3, unreachable: 4 } as const;

interface ErrorKind {
  exit: number;
  hint: string;
}

const kinds = {
  ABI_MISMATCH: { exit: exit.failed, hint: "Build both again: make build." },
  ADDON_MISSING: { exit: exit.failed, hint: "Build it: make build." },
  ALLOWLIST_INVALID: { exit: exit.usage, hint: "Correct the entries named; nothing was loaded." },
  ALLOWLIST_NOT_ENFORCED: {
    exit: exit.failed,
    hint: "The configuration has no allowlist section, so every address is allowed; repeat with --enforce to allow only what is listed from now on.",
  },
  ALLOWLIST_UNREADABLE: { exit: exit.usage, hint: "Check the path and its permissions." },
  ADDRESS_INVALID: {
    exit: exit.usage,
    hint: "Give IPv4 or IPv6 addresses or prefixes, such as 192.0.2.7 or 2001:db8::/32.",
  },
  ADDRESS_MISSING: {
    exit: exit.failed,
    hint: "Give the interface an address (ip address add), or name the tunnels' in inside.vxlan.local.",
  },
  ADDRESS_NOT_LISTED: { exit: exit.notFound, hint: "See what is listed: vxpipe allowlist list." },
  ATTACH_FAILED: { exit: exit.failed, hint: "The kernel refused to attach; the detail is the kernel's own." },
  BPFFS_FAILED: {
    exit: exit.failed,
    hint: "Point state.bpffs at a directory on a bpffs, or where one can be mounted.",
  },
  BTF_MISSING: { exit: exit.failed, hint: "Use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions ship." },
  CAPABILITY_MISSING: {
    exit: exit.failed,
    hint: "Run it as root, or give it CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON; for limits CAP_IPC_LOCK (ulimit -l), CAP_SYS_NICE (-r).",
  },
  CAPTURE_INVALID: {
    exit: exit.usage,
    hint: "Give an undamaged pcap or pcap-ng capture of Ethernet frames; nothing was written.",
  },
  CAPTURE_UNREADABLE: { exit: exit.usage, hint: "Check the path and its permissions." },
  CLAIM_FAILED: { exit: exit.failed, hint: "The interface could not be claimed; the detail is the kernel's own." },
  CONFIG_INVALID: { exit: exit.usage, hint: "Check again with: vxpipe config check FILE." },
  CONFIG_UNREADABLE: { exit: exit.usage, hint: "Check the path and its permissions." },
  CPU_UNAVAILABLE: { exit: exit.failed, hint: "Name a CPU this process may run on in workers.cpus, or leave it auto." },
  DAEMON_FAILED: { exit: exit.failed, hint: "Its log on standard error says more." },
  DAEMON_RUNNING: { exit: exit.failed, hint: "Stop it first, or give this one its own control.socket and interfaces." },
  DAEMON_STARTING: { exit: exit.failed, hint: "Try again in a moment." },
  DAEMON_UNREACHABLE: {
    exit: exit.unreachable,
    hint: "Start it with: vxpipe run --config FILE, or name its socket with --socket PATH.",
  },
  INTERFACE_HELD: {
    exit: exit.failed,
    hint: "Stop the other one first, or give this one other interfaces: an interface, inside or outside, is one gateway's at a time.",
  },
  INTERFACE_MISSING: { exit: exit.failed, hint: "See what this host has: ip -brief link." },
  INTERFACE_NOT_ETHERNET: {
    exit: exit.failed,
    hint: "Packets come and leave in Ethernet frames, which the loopback device and tunnels without them do not carry.",
  },
  INTERFACE_SAME: { exit: exit.failed, hint: "inside and outside must be two interfaces." },
  INTERFACE_UNKNOWN: { exit: exit.notFound, hint: "See what this host has: ip -brief link." },
  KERNEL_TOO_OLD: { exit: exit.failed, hint: "Boot Linux 6.1 or newer." },
  LEDGER_UNBALANCED: { exit: exit.failed, hint: "This is a defect: keep the final statistics and report them." },
  LOAD_FAILED: { exit: exit.failed, hint: "The kernel refused the XDP programs; the detail is the kernel's own." },
  MAP_FAILED: { exit: exit.failed, hint: "The kernel refused a BPF map; the detail is the kernel's own." },
  MTU_TOO_BIG: { exit: exit.failed, hint: "Lower the MTU of that interface to what its driver allows with XDP." },
  NATIVE_FAILED: { exit: exit.failed, hint: "The packet path refused; the detail is the kernel's own." },
  NOT_FROM_HERE: {
    exit: exit.failed,
    hint: "Changes, and samples of dropped packets, go through the daemon's Unix socket (control.socket).",
  },
  NOT_FOUND: {
    exit: exit.notFound,
    hint: "The routes are /metrics, /healthz, /readyz and /api/v1/ with stats, workers, sessions, nat, rules, allowlist, events.",
  },
  NO_NATIVE_XDP: {
    exit: exit.failed,
    hint: "Its driver has no native XDP, and generic XDP loses packets unseen; with datapath auto, afxdp or ringbuf a worker sends instead.",
  },
  NO_PERMISSION: { exit: exit.failed, hint: "Run it as root, or with the capabilities that docs/ERRORS.md lists." },
  NOT_SAVED: {
    exit: exit.failed,
    hint: "Make the file and its directory writable for the daemon, or edit the file and reload.",
  },
  OUTPUT_UNWRITABLE: { exit: exit.failed, hint: "Check the path, its permissions and the space left." },
  PACKET_MEMORY: {
    exit: exit.failed,
    hint: "Lower workers.count or the number of queues (ethtool -L), or set datapath: ringbuf; docs/OPERATIONS.md has sizes.",
  },
  PIN_FAILED: { exit: exit.failed, hint: "Check that state.bpffs is a bpffs this process may write." },
  POOL_ADDRESS_INSIDE: {
    exit: exit.failed,
    hint: "Take it out of nat.source.pools, or off the inside interface: pool addresses are outside.",
  },
  PRIVILEGES_FAILED: { exit: exit.failed, hint: "The kernel refused; the detail is the kernel's own." },
  REQUEST_INVALID: { exit: exit.usage, hint: "See vxpipe --help." },
  ENDPOINT_UNKNOWN: {
    exit: exit.notFound,
    hint: "Give the time it was used with --at; records of other days may be in files that were moved away.",
  },
  NAT_RULES_ONE_WAY: {
    exit: exit.failed,
    hint: "Without nat.source in the configuration there can be static rules; with it, nat.source.forwards.",
  },
  QUEUE_BUSY: {
    exit: exit.failed,
    hint: "End that program, which ss --xdp -p names where the kernel can; or set datapath: ringbuf, which needs no socket of its own inside.",
  },
  RECORDS_IN_USE: {
    exit: exit.failed,
    hint: "Give each daemon a file of its own in nat.source.records.file; fuser shows who has this one.",
  },
  RECORDS_UNWRITABLE: {
    exit: exit.failed,
    hint: "Make the file of nat.source.records and its directory writable, or choose another.",
  },
  RULE_EXISTS: { exit: exit.failed, hint: "Remove the other rule first: vxpipe nat rule remove." },
  RULE_INVALID: { exit: exit.usage, hint: "Give --protocol udp, tcp or any, --port 1 to 65535 and --to ADDRESS:PORT." },
  RULE_NOT_FOUND: { exit: exit.notFound, hint: "See the rules: vxpipe nat rule list." },
  SOCKET_UNUSABLE: { exit: exit.failed, hint: "Choose another path in control.socket." },
  STATE_UNWRITABLE: { exit: exit.failed, hint: "Make state.directory writable, or choose another." },
  SUPERVISOR_FAILED: { exit: exit.failed, hint: "Check NOTIFY_SOCKET, which the service manager sets." },
  TOO_MANY_FILES: {
    exit: exit.failed,
    hint: "Allow more open files (ulimit -n, LimitNOFILE= of a service): each worker takes two for each receive queue.",
  },
  TOO_MANY_WATCHERS: {
    exit: exit.failed,
    hint: "End one of the others: vxpipe monitor, or readers of /api/v1/events.",
  },
  USAGE: { exit: exit.usage, hint: "See vxpipe --help." },
  WORKER_SILENT: { exit: exit.failed, hint: "A worker did not answer in time; see vxpipe top, and try again." },
  WORKER_FAILED: { exit: exit.failed, hint: "A worker could not start; the detail is the kernel's own." },
  XDP_BUSY: { exit: exit.failed, hint: "Another XDP program is on the interface; see it with: bpftool net." },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof kinds;
export const errorCodes = Object.keys(kinds) as ErrorCode[];

export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(kinds, code);
}

export class VxpipeError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;
  readonly exitCode: number;
  /** Every wrong place, when the failure is about a file's content. */
  readonly problems: readonly Problem[];

  constructor(code: ErrorCode, message: string, options: { problems?: readonly Problem[]; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "VxpipeError";
    this.code = code;
    this.hint = kinds[code].hint;
    this.exitCode = kinds[code].exit;
    this.problems = options.problems ?? [];
  }
}

/** `FILE:LINE:COL: message`, as compilers and editors have it. */
export function problemLine(problem: Problem): string {
  return `${printable(problem.file)}:${problem.line}:${problem.column}: ${printable(problem.message)}`;
}

/** The first of them, and how many more there are: for where all of them would be too much. */
export function firstProblems(problems: readonly Problem[], most = 20): string[] {
  const lines = problems.slice(0, most).map(problemLine);
  return problems.length > most ? [...lines, `and ${problems.length - most} more`] : lines;
}

const messageMax = 500;

/** Messages quote files, and files may be hostile: no control character reaches a terminal, no line grows without end. */
export function printable(text: string): string {
  const short = text.length > messageMax ? `${text.slice(0, messageMax - 3)}...` : text;
  return short.replace(
    /[\0-\x1f\x7f-\x9f]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** What a system call's error means, in words, without Node's stack of names. */
export function systemReason(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const words: Record<string, string> = {
    ENOENT: "there is no such file",
    EACCES: "permission denied",
    EPERM: "permission denied",
    EISDIR: "it is a directory",
    ENOTDIR: "a part of the path is not a directory",
    EADDRINUSE: "the address is in use",
    EADDRNOTAVAIL: "this host does not have that address",
    EROFS: "the file system is read-only",
    ENOSPC: "the file system is full",
    ENAMETOOLONG: "the path is too long",
    ELOOP: "its symbolic links go in circles",
    EBUSY: "it is in use, or a mount point",
    ECONNREFUSED: "nothing listens there",
  };
  return words[code] ?? (error instanceof Error ? error.message : String(error));
}
