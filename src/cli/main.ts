// Where bin/vxpipe enters. Checks Node's version before anything is loaded that an older one could not read.
export const nodeMin = 20;

const major = Number.parseInt(process.versions.node, 10);
if (major < nodeMin) {
  process.stderr.write(`vxpipe: this is Node.js ${process.versions.node}; vxpipe needs ${nodeMin} or newer\n`);
  process.exitCode = 1;
} else {
  const { main } = await import("./program.js");
  const code = await main(process.argv.slice(2));
  // Unless output was lost meanwhile.
  process.exitCode ||= code;
  // A read that hangs, on a pipe or a dead file server, must not keep a process that has nothing left to do.
  setTimeout(() => process.exit(), 1000).unref();
}
