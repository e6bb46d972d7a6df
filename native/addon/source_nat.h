// nat.source of a plan from JavaScript. Node's main thread.
#pragma once

#include <napi.h>

#include "../io/source_nat.h"

namespace vx {

// Of a SourceNatPlan (native/index.d.ts).
SourceNat to_source_nat(const Napi::Object &plan);

}  // namespace vx
