// A claim on an interface: at most one daemon per network namespace and interface, whether it is inside or outside there.
// Made on Node's main thread.
#pragma once

#include "fd.h"
#include "result.h"

namespace vx {

// An abstract Unix socket named after the interface index. Such names belong to the network namespace, as interfaces
// do, and go with the process however it dies. Holds while the descriptor is open.
// INTERFACE_HELD: another process has it; detail says which.
Result<Fd> claim_interface(int ifindex);

}  // namespace vx
