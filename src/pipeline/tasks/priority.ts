// Imported by every file of tasks: the thread that runs them gives way, for packets come first where CPUs are few.
import { setPriority } from "node:os";
import { isMainThread } from "node:worker_threads";

const niceness = 5;
if (!isMainThread) setPriority(niceness);
