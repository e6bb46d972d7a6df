// The module: what native/index.d.ts declares. Loaded by Node on its main thread; no state of its own.
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <napi.h>

#include <memory>

#include "../core/address.h"
#include "../io/interface.h"
#include "../io/process.h"
#include "../io/xdp_features.h"
#include "gateway_object.h"
#include "marshal.h"
#include "replay_function.h"

namespace {

Napi::Value interface_facts(const Napi::CallbackInfo &info)
{
	Napi::Env env = info.Env();
	auto facts = vx::interface_facts(info[0].ToString().Utf8Value());

	if (!facts)
		return env.Null();
	auto out = Napi::Object::New(env);
	out["ifindex"] = facts->ifindex;
	out["mac"] = vx::mac_text(facts->mac);
	out["mtu"] = facts->mtu;
	out["driver"] = facts->driver;
	out["carrier"] = facts->carrier;
	out["ethernet"] = facts->ethernet;
	out["rxQueues"] = facts->rx_queues;
	return out;
}

Napi::Value interface_addresses(const Napi::CallbackInfo &info)
{
	const std::string name = info[0].ToString().Utf8Value();
	auto out = Napi::Array::New(info.Env());
	ifaddrs *first = nullptr;

	if (getifaddrs(&first))
		return out;
	std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> all(first, freeifaddrs);
	for (const ifaddrs *one = first; one; one = one->ifa_next) {
		char text[INET6_ADDRSTRLEN];
		const int family = one->ifa_addr ? one->ifa_addr->sa_family : AF_UNSPEC;

		if (name != one->ifa_name || (family != AF_INET && family != AF_INET6))
			continue;
		const void *address =
			family == AF_INET ? static_cast<const void *>(&reinterpret_cast<sockaddr_in *>(one->ifa_addr)->sin_addr)
					  : &reinterpret_cast<sockaddr_in6 *>(one->ifa_addr)->sin6_addr;
		out[out.Length()] = inet_ntop(family, address, text, sizeof(text));
	}
	return out;
}

Napi::Value xdp_features(const Napi::CallbackInfo &info)
{
	Napi::Env env = info.Env();
	auto facts = vx::interface_facts(info[0].ToString().Utf8Value());
	auto features = facts ? vx::xdp_features(facts->ifindex) : std::nullopt;

	return features ? Napi::Number::New(env, static_cast<double>(*features)) : env.Null();
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

Napi::Value interface_name(const Napi::CallbackInfo &info)
{
	auto name = vx::interface_name(info[0].ToNumber().Int32Value());

	if (name)
		return name->empty() ? info.Env().Null() : Napi::Value(Napi::String::New(info.Env(), *name));
	vx::to_js_error(info.Env(), name.error()).ThrowAsJavaScriptException();
	return info.Env().Undefined();
}

Napi::Value keep_capabilities(const Napi::CallbackInfo &info)
{
	const std::vector<unsigned> kept = vx::records_of<unsigned>(info[0]);

	if (auto done = vx::keep_capabilities(kept); !done)
		vx::to_js_error(info.Env(), done.error()).ThrowAsJavaScriptException();
	return info.Env().Undefined();
}

Napi::Value notify_supervisor(const Napi::CallbackInfo &info)
{
	auto sent = vx::notify_supervisor(info[0].ToString().Utf8Value(), info[1].ToString().Utf8Value());

	if (!sent)
		vx::to_js_error(info.Env(), sent.error()).ThrowAsJavaScriptException();
	return info.Env().Undefined();
}

Napi::Value lock_file(const Napi::CallbackInfo &info)
{
	auto locked = vx::lock_file(info[0].ToNumber().Int32Value());

	if (locked)
		return Napi::Boolean::New(info.Env(), *locked);
	vx::to_js_error(info.Env(), locked.error()).ThrowAsJavaScriptException();
	return info.Env().Undefined();
}

Napi::Object init(Napi::Env env, Napi::Object exports)
{
	exports["Gateway"] = vx::GatewayObject::define(env);
	exports["interfaceFacts"] = Napi::Function::New(env, interface_facts);
	exports["interfaceAddresses"] = Napi::Function::New(env, interface_addresses);
	exports["interfaceName"] = Napi::Function::New(env, interface_name);
	exports["xdpFeatures"] = Napi::Function::New(env, xdp_features);
	exports["ensureBpffs"] = Napi::Function::New(env, ensure_bpffs);
	exports["releaseBpffs"] = Napi::Function::New(env, release_bpffs);
	exports["hasCapability"] = Napi::Function::New(env, has_capability);
	exports["keepCapabilities"] = Napi::Function::New(env, keep_capabilities);
	exports["notifySupervisor"] = Napi::Function::New(env, notify_supervisor);
	exports["lockFile"] = Napi::Function::New(env, lock_file);
	exports["replay"] = Napi::Function::New(env, vx::replay_function);
	return exports;
}

}  // namespace

NODE_API_MODULE(xdp_socket, init)
