// What people ask of source NAT, between JavaScript and native/worker/nat.h. Called on Node's main thread; what waits for the
// workers does so on libuv's pool, and keeps the gateway alive meanwhile.
#pragma once

#include <napi.h>

#include <memory>

#include "../worker/gateway.h"

namespace vx {

// Arguments and answers are those of native/index.d.ts: natSessions, natTop, natPool, natHandoffs.
Napi::Value ask_sessions(const Napi::CallbackInfo &info, std::shared_ptr<Gateway> gateway);
Napi::Value ask_top(const Napi::CallbackInfo &info, std::shared_ptr<Gateway> gateway);
// nullptr: no source NAT.
Napi::Value pool_of(Napi::Env env, const Nat *nat);
Napi::Value handoffs_of(Napi::Env env, Nat *nat);

}  // namespace vx
