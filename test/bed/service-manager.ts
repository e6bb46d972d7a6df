// systemd in a bed's gateway namespace, with deploy/vxpipe.service. Called by the namespace tests, on Node's main thread.
//
// It runs in namespaces of its own with a root file system of its own (service-manager.sh), because a systemd that boots
// owns the machine it finds: it empties /tmp, for one.
import { mkdirSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { join } from "node:path";

import type { Bed } from "./bed.js";
import { Background, ROOT, run, until } from "./command.js";

export class ServiceManager {
  private constructor(
    private readonly unshared: Background,
    private readonly cgroup: string,
    private readonly pid: string,
  ) {}

  static async start(bed: Bed, config: string): Promise<ServiceManager> {
    const hierarchy = (await run("findmnt", ["-n", "-o", "TARGET", "-t", "cgroup2"])).split("\n")[0] ?? "";
    const cgroup = join(hierarchy, bed.name);
    const root = join(bed.directory, "root");
    mkdirSync(root);
    mkdirSync(cgroup);
    const own = ["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"];
    const script = [join(ROOT, "test/bed/service-manager.sh"), root, ROOT, process.execPath, config];
    const network = `--net=/run/netns/${bed.namespace("gateway")}`;
    const command = ["nsenter", network, "unshare", ...own, ...script];
    const inCgroup = ["-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, cgroup, ...command];
    const unshared = new Background("sh", inCgroup);
    const pid = await until("systemd", async () => {
      if (unshared.exit !== null) throw new Error(`systemd ended: ${unshared.stderr}`);
      const children = readFileSync(`/proc/${unshared.pid}/task/${unshared.pid}/children`, "utf8").trim();
      return children !== "" && (await answers(children)) ? children : null;
    });
    return new ServiceManager(unshared, cgroup, pid);
  }

  systemctl(...args: string[]): Promise<string> {
    return this.exec("systemctl", ...args);
  }

  /** Properties of the service. */
  async show(...names: string[]): Promise<Record<string, string>> {
    const text = await this.systemctl("show", "vxpipe", ...names.map((name) => `--property=${name}`));
    return Object.fromEntries(
      text
        .trim()
        .split("\n")
        .map((line) => line.split(/=(.*)/s).slice(0, 2)),
    );
  }

  /** The service's settings that are not the unit's, of a section [Service], in force when it is started again. */
  async override(name: string, ...settings: string[]): Promise<void> {
    const text = ["[Service]", ...settings].join("\n");
    const file = `/etc/systemd/system/vxpipe.service.d/${name}.conf`;
    await this.exec("sh", "-c", `printf '%s\n' "$1" > "$0"`, file, text);
    await this.systemctl("daemon-reload");
  }

  /** The service's processes as the host numbers them. */
  processes(): number[] {
    const file = join(this.cgroup, "system.slice/vxpipe.service/cgroup.procs");
    return readFileSync(file, "utf8").trim().split("\n").filter(Boolean).map(Number);
  }

  /** What happens while the service manager stands still, so that it can neither see it nor do anything about it. */
  async asleep(work: () => Promise<unknown>): Promise<void> {
    process.kill(Number(this.pid), "SIGSTOP");
    try {
      await work();
    } finally {
      process.kill(Number(this.pid), "SIGCONT");
    }
  }

  /** A command among systemd's own processes. */
  exec(command: string, ...args: string[]): Promise<string> {
    return run("nsenter", enter(this.pid, command, ...args));
  }

  /** What the service wrote. */
  log(): Promise<string> {
    return this.exec("cat", "/run/vxpipe.log");
  }

  async stop(): Promise<void> {
    await this.unshared.stop("SIGKILL");
    const empty = async (): Promise<true | null> =>
      /^populated 0$/m.test(readFileSync(join(this.cgroup, "cgroup.events"), "utf8")) ? true : null;
    await until("its processes to end", empty);
    removeCgroup(this.cgroup);
  }
}

function enter(pid: string, command: string, ...args: string[]): string[] {
  return ["-t", pid, "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", command, ...args];
}

async function answers(pid: string): Promise<boolean> {
  try {
    await run("nsenter", enter(pid, "systemctl", "is-active", "default.target"));
    return true;
  } catch {
    return false;
  }
}

/** Directories below it first. */
function removeCgroup(directory: string): void {
  for (const entry of readdirSync(directory, { withFileTypes: true }))
    if (entry.isDirectory()) removeCgroup(join(directory, entry.name));
  rmdirSync(directory);
}
