// The module: what native/index.d.ts declares. Loaded by Node on its main thread; no state of its own.
#include <napi.h>

#include "../io/interface.h"
#include "gateway_object.h"
#include "marshal.h"
#include "replay_function.h"

namespace {

Napi::Value interface_facts(const Napi::CallbackInfo &info)
{
	Napi::Env env = info.Env();
	auto facts = vx::interface_facts(info[0].ToString().Utf8Value());
	char mac[18];

	if (!facts)
		return env.Null();
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", facts->mac[0], facts->mac[1], facts->mac[2],
		 facts->mac[3], facts->mac[4], facts->mac[5]);
	auto out = Napi::Object::New(env);
	out["ifindex"] = facts->ifindex;
	out["mac"] = mac;
	out["mtu"] = facts->mtu;
	out["driver"] = facts->driver;
	out["carrier"] = facts->carrier;
	out["rxQueues"] = facts->rx_queues;
	return out;
}

Napi::Value ensure_bpffs(const Napi::CallbackInfo &info)
{
	auto mounted = vx::ensure_bpffs(info[0].ToString().Utf8Value());

	if (mounted)
		return Napi::String::New(info.Env(), *mounted);
	vx::to_js_error(info.Env(), mounted.error()).ThrowAsJavaScriptException();
	return info.Env().Undefined();
}

Napi::Value release_bpffs(const Napi::CallbackInfo &info)
{
	vx::release_bpffs(info[0].ToString().Utf8Value());
	return info.Env().Undefined();
}

Napi::Value has_capability(const Napi::CallbackInfo &info)
{
	return Napi::Boolean::New(info.Env(), vx::has_capability(info[0].ToNumber().Uint32Value()));
}

Napi::Object init(Napi::Env env, Napi::Object exports)
{
	exports["Gateway"] = vx::GatewayObject::define(env);
	exports["interfaceFacts"] = Napi::Function::New(env, interface_facts);
	exports["ensureBpffs"] = Napi::Function::New(env, ensure_bpffs);
	exports["releaseBpffs"] = Napi::Function::New(env, release_bpffs);
	exports["hasCapability"] = Napi::Function::New(env, has_capability);
	exports["replay"] = Napi::Function::New(env, vx::replay_function);
	return exports;
}

}  // namespace

NODE_API_MODULE(xdp_socket, init)
