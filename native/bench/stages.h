// The inside program's steps one by one (ladder.bpf.c) in the gateway's place. Called by vxbare, on its main thread.
#pragma once

#include <string>

#include "options.h"

namespace vx::bench {

// Loads and attaches `stage` (parse, decapsulate, count, check), with the ledger's tracepoints if so asked; holds it
// until told to end, then prints what the counters of the steps that count say.
int run_stage(const std::string &stage, bool ledger, const Interface &inside, const Interface &outside);

} // namespace vx::bench
