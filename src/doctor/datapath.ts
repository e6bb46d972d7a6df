// Which datapath `auto` is, and where one would choose another. Called by src/cli/commands/doctor.ts. Pure.
import { abilitiesOf } from "./drivers.js";
import type { InterfaceFacts } from "./facts.js";

export interface DatapathAdvice {
  auto: "xdp";
  why: string;
  others: { name: "afxdp" | "ringbuf"; where: string }[];
}

export function adviseDatapath(interfaces: readonly InterfaceFacts[]): DatapathAdvice {
  const cannot = (able: "native" | "takesRedirected"): string[] =>
    interfaces.filter((facts) => abilitiesOf(facts)?.[able] === false).map(({ name }) => name);
  const [native, redirected] = [cannot("native"), cannot("takesRedirected")];
  const but = [
    ...(native.length > 0 ? [`${native.join(", ")} cannot, and no datapath starts there`] : []),
    ...redirected
      .filter((name) => !native.includes(name))
      .map((name) => `${name} takes no redirected frames: as outside interface choose afxdp`),
  ];
  const why =
    "in this version always: native XDP that redirects costs least, for a packet stays on the CPU that received it";
  return {
    auto: "xdp",
    why: [why, ...but].join("; "),
    others: [
      {
        name: "afxdp",
        where:
          "the outside driver takes no redirected frames: the worker sends, on a CPU of its own, fed by AF_XDP sockets",
      },
      {
        name: "ringbuf",
        where:
          "AF_XDP sockets cannot be bound to the inside queues besides: fed by ring buffers, at one copy more a packet",
      },
    ],
  };
}
