// What one engine counts beside the ledger, whose drops and forwards its caller counts from the verdicts. Written by
// the worker's thread; others may read a torn moment of it.
#pragma once

#include "../../../bpf/abi/abi.h"

namespace vx::nat {

using Stats = vx_nat_counters;

}  // namespace vx::nat
