// Attaching the traffic tools' XDP programs, and waiting to be told to let go. Main thread of each tool.
#pragma once

#include <bpf/libbpf.h>

#include "options.h"

namespace vx::bench {

// Natively or not at all: generic mode would measure something else. The program stays for as long as the
// descriptor is open, at the latest until the process ends.
int attach_native(const bpf_program *program, const Interface &interface);

// Waits for SIGINT, SIGTERM (both blocked) or the end of standard input.
void wait_for_end();

} // namespace vx::bench
