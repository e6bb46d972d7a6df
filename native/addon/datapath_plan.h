// The packet path's plan out of JavaScript's (native/index.d.ts: DatapathPlan, ReplayPlan). Node's main thread.
#pragma once

#include <napi.h>

#include "../io/datapath.h"

namespace vx {

// What the gateway and replay have in common: no interface, no directory.
DatapathPlan to_datapath_plan(const Napi::Object &plan);
AllowlistTables to_allowlist(const Napi::Value &value);

}  // namespace vx
