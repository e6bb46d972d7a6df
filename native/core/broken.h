// A packet whose fate nobody could name any more, or a frame in two places: the ledger would lie from here on. Any
// worker's thread, and replay's.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace vx {

[[noreturn]] inline void broken(const char *what)
{
	fprintf(stderr, "vxpipe: broken invariant: %s\n", what);
	abort();
}

}  // namespace vx
