// `replay` of native/index.d.ts: captures through the packet path of native/replay, off Node's main thread.
#pragma once

#include <napi.h>

namespace vx {

Napi::Value replay_function(const Napi::CallbackInfo &info);

}  // namespace vx
