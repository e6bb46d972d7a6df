// Loads the addon that CMake builds (`make build`). Called by src/pipeline, on Node's main thread.
import { createRequire } from "node:module";

const addon = createRequire(import.meta.url)("../build/native/addon/xdp_socket.node");

export const {
  Gateway,
  interfaceAddresses,
  interfaceFacts,
  interfaceName,
  xdpFeatures,
  ensureBpffs,
  releaseBpffs,
  hasCapability,
  keepCapabilities,
  lockFile,
  notifySupervisor,
  replay,
} = addon;
