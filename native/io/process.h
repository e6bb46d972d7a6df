// This process as the host sees it: what it may do and has taken, and what its service manager is told. Called by the addon on Node's
// main thread.
#pragma once

#include <span>
#include <string>

#include "result.h"

namespace vx {

// By its number in linux/capability.h, in the calling thread's effective set.
bool has_capability(unsigned capability);
// Gives up every other capability in every thread, for good: also what a program started later could regain.
Result<void> keep_capabilities(std::span<const unsigned> capabilities);
// One datagram of sd_notify(3) to `address`: a path, or a name of the abstract namespace behind "@".
Result<void> notify_supervisor(const std::string &address, const std::string &text);

// Takes an open file for this process until it closes it, or ends. False: another open file of it has been taken.
Result<bool> lock_file(int fd);

}  // namespace vx
