// Errors of libbpf calls, with what libbpf had to say about them. Used by datapath*.cpp; any thread.
#pragma once

#include "result.h"

namespace vx {

// Keeps libbpf's warnings, per thread, for the next kernel_error() instead of printing them.
void keep_libbpf_log();

// The error of the call that has just failed: errno and the warnings kept.
Error kernel_error(const char *code, const char *op);

}  // namespace vx
