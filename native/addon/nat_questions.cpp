// See nat_questions.h.
#include "nat_questions.h"

#include <arpa/inet.h>

#include <optional>
#include <string>

#include "job.h"

namespace vx {
namespace {

Error silent()
{
	return {"WORKER_SILENT", "a worker did not answer in time", 0, ""};
}

std::optional<nat::EndpointFilter> to_endpoint(const Napi::Value &value)
{
	if (!value.IsObject())
		return std::nullopt;
	auto from = value.As<Napi::Object>();
	auto address = records_of<uint32_t>(from.Get("address"));
	nat::EndpointFilter out{address.empty() ? 0 : address[0], std::nullopt};
	if (from.Get("port").IsNumber())
		out.port_be = htons(static_cast<uint16_t>(from.Get("port").ToNumber().Uint32Value()));
	return out;
}

nat::SessionFilter to_filter(const Napi::Object &from)
{
	nat::SessionFilter out;

	if (from.Get("vni").IsNumber())
		out.realm = from.Get("vni").ToNumber().Uint32Value();
	else if (from.Get("vni").IsNull())
		out.realm = nat::kPlainRealm;
	if (from.Get("protocol").IsNumber())
		out.protocol = static_cast<uint8_t>(from.Get("protocol").ToNumber().Uint32Value());
	out.inside = to_endpoint(from.Get("inside"));
	out.outside = to_endpoint(from.Get("outside"));
	out.remote = to_endpoint(from.Get("remote"));
	return out;
}

}  // namespace

Napi::Value ask_sessions(const Napi::CallbackInfo &info, std::shared_ptr<Gateway> gateway)
{
	const uint64_t cursor = strtoull(info[1].ToString().Utf8Value().c_str(), nullptr, 10);
	auto ask = [gateway, filter = to_filter(info[0].ToObject()), cursor,
		    limit = info[2].ToNumber().Uint32Value()]() -> Result<Answer> {
		auto page = gateway->nat() ? gateway->nat()->sessions(filter, cursor, limit) : SessionPage{};
		if (!page)
			return silent();
		return Answer([page](Napi::Env env) -> Napi::Value {
			const auto &next = page->cursor;
			auto out = Napi::Object::New(env);
			out["sessions"] = to_js_records(env, page->sessions);
			out["cursor"] = next ? Napi::Value(Napi::String::New(env, std::to_string(*next))) : env.Null();
			return out;
		});
	};
	return Job::start(info.Env(), ask);
}

Napi::Value ask_top(const Napi::CallbackInfo &info, std::shared_ptr<Gateway> gateway)
{
	auto ask = [gateway, most = info[0].ToNumber().Uint32Value()]() -> Result<Answer> {
		auto top = gateway->nat() ? gateway->nat()->top_subscribers(most) : std::vector<vx_subscriber_use>{};
		if (!top)
			return silent();
		return Answer([top](Napi::Env env) { return to_js_records(env, *top); });
	};
	return Job::start(info.Env(), ask);
}

Napi::Value pool_of(Napi::Env env, const Nat *nat)
{
	const auto uses = nat ? nat->pool_use() : std::vector<PoolUse>{};
	std::vector<uint32_t> addresses_be;
	auto free_blocks = Napi::Uint32Array::New(env, uses.size());

	for (size_t i = 0; i < uses.size(); i++) {
		addresses_be.push_back(uses[i].address_be);
		free_blocks[i] = uses[i].free_blocks;
	}
	auto out = Napi::Object::New(env);
	out["addresses"] = to_js_records(env, addresses_be);
	out["freeBlocks"] = free_blocks;
	return out;
}

Napi::Value handoffs_of(Napi::Env env, Nat *nat)
{
	auto out = Napi::Array::New(env);

	if (!nat)
		return out;
	for (const HandoffCounts &counts : nat->handoffs().counts()) {
		auto pair = Napi::Object::New(env);
		pair["from"] = counts.from;
		pair["to"] = counts.to;
		pair["enqueued"] = static_cast<double>(counts.enqueued);
		pair["dequeued"] = static_cast<double>(counts.dequeued);
		pair["dropped"] = static_cast<double>(counts.dropped);
		out[out.Length()] = pair;
	}
	return out;
}

}  // namespace vx
