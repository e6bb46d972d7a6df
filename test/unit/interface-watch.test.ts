// Which interface is gone, renamed or back, and when it is time to make the datapath anew.
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import type { InterfaceFacts } from "xdp-socket";
import { InterfaceWatch } from "../../src/pipeline/interface-watch.js";

const facts = { mac: "", mtu: 1500, driver: "", ethernet: true, rxQueues: 1 };

describe("the watch over interfaces", () => {
  /** What the kernel has: index and carrier by name. */
  let kernel: Map<string, { ifindex: number; carrier: boolean }>;
  let watch: InterfaceWatch;
  /** It cannot be asked. */
  let silent = false;
  beforeEach(() => {
    silent = false;
    kernel = new Map([
      ["in0", { ifindex: 2, carrier: true }],
      ["out0", { ifindex: 3, carrier: true }],
    ]);
    watch = new InterfaceWatch({
      interfaceName: (index) => {
        if (silent) throw new Error("too many open files");
        return [...kernel].find(([, { ifindex }]) => ifindex === index)?.[0] ?? null;
      },
      interfaceFacts: (name): InterfaceFacts | null => {
        const found = kernel.get(name);
        return found === undefined ? null : { ...facts, ...found };
      },
    });
    watch.begin([
      { side: "inside", name: "in0", ifindex: 2 },
      { side: "outside", name: "out0", ifindex: 3 },
    ]);
  });

  test("misses nothing and does nothing while both are there, carrier or not", () => {
    kernel.set("in0", { ifindex: 2, carrier: false });
    assert.deepEqual([watch.look(), watch.missing(), watch.due()], [[], [], false]);
  });

  test("waits for one that is gone until it is there and both can send", () => {
    kernel.delete("out0");
    watch.look();
    assert.deepEqual(watch.missing(), ["the outside interface out0 is gone; one of that name is waited for"]);
    assert.equal(watch.due(), false);
    kernel.set("out0", { ifindex: 7, carrier: false });
    assert.deepEqual(watch.missing(), ["the outside interface out0 has no carrier"]);
    assert.equal(watch.due(), false);
    kernel.set("out0", { ifindex: 7, carrier: true });
    assert.equal(watch.due(), true);
  });

  test("does not take one for gone that it could not ask for", () => {
    silent = true;
    assert.deepEqual([watch.look(), watch.missing(), watch.waits], [[], [], false]);
    silent = false;
    assert.deepEqual([watch.look(), watch.missing(), watch.waits], [[], [], false]);
  });

  test("does not take one that went and came back with its old index for the one it was", () => {
    const { ifindex } = kernel.get("in0") ?? { ifindex: 0 };
    kernel.delete("in0");
    watch.look();
    kernel.set("in0", { ifindex, carrier: true });
    watch.look();
    assert.equal(watch.due(), true);
  });

  test("tells of a new name once, and waits for nothing", () => {
    kernel.delete("in0");
    kernel.set("in9", { ifindex: 2, carrier: true });
    assert.deepEqual(watch.look(), [{ side: "inside", name: "in0", ifindex: 2, now: "in9" }]);
    assert.deepEqual([watch.look(), watch.missing(), watch.due()], [[], [], false]);
  });

  test("tries again after a failure, more and more seldom, and tells a reason once", () => {
    kernel.delete("in0");
    watch.look();
    kernel.set("in0", { ifindex: 8, carrier: true });
    const attempts: number[] = [];
    const news: boolean[] = [];
    for (let second = 0; second < 200; second++) {
      if (!watch.due()) continue;
      attempts.push(second);
      news.push(watch.failed("too big"));
    }
    assert.deepEqual(attempts, [0, 2, 5, 10, 19, 36, 69, 102, 135, 168]);
    assert.deepEqual(news.slice(0, 3), [true, false, false]);
    assert.match(watch.missing()[0] ?? "", /^the inside interface in0 came back; .*: too big$/);
  });
});
