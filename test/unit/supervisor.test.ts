// What the service manager is told, and when it is told nothing.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Supervisor } from "../../src/cli/supervisor.js";
import { EventLog } from "../../src/pipeline/events.js";

function supervised(environment: NodeJS.ProcessEnv): { supervisor: Supervisor; told: string[] } {
  const told: string[] = [];
  const notifySupervisor = (address: string, text: string): number => told.push(`${address} ${text}`);
  return { supervisor: new Supervisor({ notifySupervisor }, new EventLog(() => undefined), environment), told };
}

test("a daemon that no service manager started tells nobody anything", () => {
  const { supervisor, told } = supervised({});
  supervisor.ready();
  supervisor.alive(true, "x");
  supervisor.stopping();
  assert.deepEqual(told, []);
});

test("the status is told when it changes, the watchdog every time", () => {
  const { supervisor, told } = supervised({ NOTIFY_SOCKET: "@a", WATCHDOG_USEC: "1" });
  supervisor.alive(true, "x");
  supervisor.alive(true, "x");
  supervisor.alive(true, "y");
  assert.deepEqual(told, ["@a WATCHDOG=1\nSTATUS=x", "@a WATCHDOG=1", "@a WATCHDOG=1\nSTATUS=y"]);
});

test("the watchdog hears nothing while a worker stands still", () => {
  const { supervisor, told } = supervised({ NOTIFY_SOCKET: "@a", WATCHDOG_USEC: "1" });
  supervisor.alive(false, "x");
  supervisor.alive(false, "x");
  assert.deepEqual(told, ["@a STATUS=x"]);
});

test("another process's watchdog is not fed", () => {
  const { supervisor, told } = supervised({ NOTIFY_SOCKET: "@a", WATCHDOG_USEC: "1", WATCHDOG_PID: "1" });
  supervisor.alive(true, "x");
  assert.deepEqual(told, ["@a STATUS=x"]);
});
