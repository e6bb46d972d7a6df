// The JavaScript class `Gateway` (native/index.d.ts): one line a method around native/worker/gateway.h.
// Node's main thread; what fills tables, tryOutside, settle and stop do their work on libuv's pool.
#pragma once

#include <napi.h>

#include <memory>

#include "../worker/gateway.h"

namespace vx {

class GatewayObject : public Napi::ObjectWrap<GatewayObject> {
public:
	static Napi::Function define(Napi::Env env);
	explicit GatewayObject(const Napi::CallbackInfo &info);
	void Finalize(Napi::Env env) override;

private:
	Napi::Value set_allowlist(const Napi::CallbackInfo &info);
	Napi::Value edit_allowlist(const Napi::CallbackInfo &info);
	Napi::Value set_rules(const Napi::CallbackInfo &info);
	Napi::Value set_filters(const Napi::CallbackInfo &info);
	Napi::Value try_outside(const Napi::CallbackInfo &info);
	Napi::Value attach(const Napi::CallbackInfo &info);
	Napi::Value counters(const Napi::CallbackInfo &info);
	Napi::Value drain_events(const Napi::CallbackInfo &info);
	Napi::Value drain_samples(const Napi::CallbackInfo &info);
	Napi::Value snapshot(const Napi::CallbackInfo &info);
	Napi::Value settle(const Napi::CallbackInfo &info);
	Napi::Value stop(const Napi::CallbackInfo &info);
	Napi::Value nat_records(const Napi::CallbackInfo &info);
	Napi::Value nat_records_done(const Napi::CallbackInfo &info);
	Napi::Value nat_sessions(const Napi::CallbackInfo &info);
	Napi::Value nat_top(const Napi::CallbackInfo &info);
	Napi::Value nat_pool(const Napi::CallbackInfo &info);
	Napi::Value nat_handoffs(const Napi::CallbackInfo &info);
	bool require_gateway(Napi::Env env);

	std::shared_ptr<Gateway> gateway_;
	Napi::Reference<Napi::ArrayBuffer> counters_;
};

}  // namespace vx
