// When a worker counts as standing still, and when it no longer does.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Watchdog, type Change } from "../../src/pipeline/watchdog.js";

/** Looks so many times at workers on CPU 7 and 6 with these turns. */
function look(watchdog: Watchdog, times: number, ...turns: number[]): Change[] {
  const pulses = turns.map((count, id) => ({ id, cpu: 7 - id, turns: count }));
  return Array.from({ length: times }, () => watchdog.look(pulses)).flat();
}

test("a worker that has not turned for five readings is told once, with its CPU, and stays named", () => {
  const watchdog = new Watchdog();
  assert.deepEqual(look(watchdog, 5, 10), []);
  assert.deepEqual(watchdog.stalled(), []);
  const [began] = look(watchdog, 1, 10);
  assert.deepEqual([began?.id, began?.cpu, began?.stalled], [0, 7, true]);
  assert.equal(watchdog.stalled().length, 1);
  assert.deepEqual(look(watchdog, 2, 10), []);
  assert.deepEqual(
    watchdog.stalled().map(({ id, readings }) => [id, readings]),
    [[0, 7]],
  );
});

test("one turn is progress, and ends a stall with how long it was", () => {
  const watchdog = new Watchdog();
  look(watchdog, 9, 10);
  const [ended] = look(watchdog, 1, 11);
  assert.deepEqual([ended?.id, ended?.stalled, ended?.readings], [0, false, 8]);
  assert.deepEqual(watchdog.stalled(), []);
  assert.deepEqual(look(watchdog, 4, 11), []);
});

test("each worker is seen for itself", () => {
  const watchdog = new Watchdog();
  const changes = Array.from({ length: 8 }, (_, turn) => look(watchdog, 1, turn, 0)).flat();
  assert.deepEqual(
    changes.map(({ id, cpu, stalled }) => [id, cpu, stalled]),
    [[1, 6, true]],
  );
  watchdog.forget();
  assert.deepEqual([watchdog.stalled(), look(watchdog, 1, 8, 0)], [[], []]);
});
