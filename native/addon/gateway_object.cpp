// See gateway_object.h.
#include "gateway_object.h"

#include <net/if.h>

#include <optional>

#include "../core/address.h"
#include "../io/interface.h"
#include "datapath_plan.h"
#include "job.h"
#include "nat_questions.h"

namespace vx {
namespace {

// With what only a gateway with interfaces has.
DatapathPlan to_gateway_plan(const Napi::Object &plan)
{
	DatapathPlan out = to_datapath_plan(plan);
	const auto text = [&](const char *key) { return plan.Get(key).ToString().Utf8Value(); };
	const auto datapath = text("datapath");

	out.inside_ifindex = plan.Get("insideIfindex").ToNumber().Int32Value();
	out.outside_ifindex = plan.Get("outsideIfindex").ToNumber().Int32Value();
	out.pin_directory = text("pinDirectory");
	out.hand_over = datapath == "afxdp"	? VX_HAND_OVER_SOCKETS
			: datapath == "ringbuf" ? VX_HAND_OVER_RINGS
						: VX_HAND_OVER_EXCEPTIONS;
	const auto injection = text("injection");
	out.injection = injection == "never" ? Injection::never : injection == "always" ? Injection::always : Injection::many;
	out.inside_generic = text("insideAttach") == "generic";
	out.outside_generic = text("outsideAttach") == "generic";
	return out;
}

WorkersPlan to_workers_plan(const Napi::Object &plan)
{
	auto workers = plan.Get("workers").As<Napi::Object>();
	auto cpus = workers.Get("cpus").As<Napi::Array>();
	WorkersPlan out{{}, workers.Get("batch").ToNumber().Uint32Value(), workers.Get("busy").ToBoolean().Value(),
			workers.Get("priority").ToNumber().Int32Value()};

	for (uint32_t i = 0; i < cpus.Length(); i++)
		out.cpus.push_back(cpus.Get(i).ToNumber().Int32Value());
	return out;
}

std::optional<InterfaceFacts> facts_of(int ifindex)
{
	char name[IF_NAMESIZE];

	return if_indextoname(static_cast<unsigned>(ifindex), name) ? interface_facts(name) : std::nullopt;
}

Queues queues_of(const std::optional<InterfaceFacts> &facts)
{
	return facts ? Queues{facts->rx_queues, facts->tx_queues} : Queues{};
}

Napi::Object to_js(Napi::Env env, const Way &way)
{
	auto out = Napi::Object::New(env);

	out["able"] = way.able;
	out["found"] = way.found;
	return out;
}

}  // namespace

Napi::Function GatewayObject::define(Napi::Env env)
{
	return DefineClass(env, "Gateway",
			   {
				   InstanceMethod<&GatewayObject::set_allowlist>("setAllowlist"),
				   InstanceMethod<&GatewayObject::edit_allowlist>("editAllowlist"),
				   InstanceMethod<&GatewayObject::set_rules>("setRules"),
				   InstanceMethod<&GatewayObject::set_filters>("setFilters"),
				   InstanceMethod<&GatewayObject::try_outside>("tryOutside"),
				   InstanceMethod<&GatewayObject::attach>("attach"),
				   InstanceAccessor<&GatewayObject::counters>("counters"),
				   InstanceMethod<&GatewayObject::drain_events>("drainEvents"),
				   InstanceMethod<&GatewayObject::drain_samples>("drainSamples"),
				   InstanceMethod<&GatewayObject::snapshot>("snapshot"),
				   InstanceMethod<&GatewayObject::settle>("settle"),
				   InstanceMethod<&GatewayObject::stop>("stop"),
				   InstanceMethod<&GatewayObject::nat_records>("natRecords"),
				   InstanceMethod<&GatewayObject::nat_records_done>("natRecordsDone"),
				   InstanceMethod<&GatewayObject::nat_sessions>("natSessions"),
				   InstanceMethod<&GatewayObject::nat_top>("natTop"),
				   InstanceMethod<&GatewayObject::nat_pool>("natPool"),
				   InstanceMethod<&GatewayObject::nat_handoffs>("natHandoffs"),
			   });
}

GatewayObject::GatewayObject(const Napi::CallbackInfo &info) : Napi::ObjectWrap<GatewayObject>(info)
{
	Napi::Env env = info.Env();

	if (!info[0].IsObject()) {
		Napi::TypeError::New(env, "a DatapathPlan is needed").ThrowAsJavaScriptException();
		return;
	}
	auto plan = info[0].As<Napi::Object>();
	DatapathPlan datapath = to_gateway_plan(plan);
	auto inside = facts_of(datapath.inside_ifindex), outside = facts_of(datapath.outside_ifindex);
	auto opened = Gateway::open(datapath, to_workers_plan(plan), queues_of(inside), queues_of(outside));
	if (!opened) {
		to_js_error(env, opened.error()).ThrowAsJavaScriptException();
		return;
	}
	gateway_ = std::move(*opened);
	auto buffer = Napi::ArrayBuffer::New(env, gateway_->datapath().slots(), Datapath::slots_bytes());
	counters_ = Napi::Persistent(buffer);
}

void GatewayObject::Finalize(Napi::Env)
{
	gateway_.reset();
}

bool GatewayObject::require_gateway(Napi::Env env)
{
	if (gateway_)
		return true;
	to_js_error(env, Error{"STOPPED", "the gateway has been stopped", 0, ""}).ThrowAsJavaScriptException();
	return false;
}

Napi::Value GatewayObject::set_allowlist(const Napi::CallbackInfo &info)
{
	if (!require_gateway(info.Env()))
		return info.Env().Undefined();
	auto tables = std::make_shared<AllowlistTables>();
	bool everything = !info[0].IsObject();
	if (!everything)
		*tables = to_allowlist(info[0]);
	auto work = [gateway = gateway_, tables, everything] {
		return gateway->datapath().set_allowlist(everything ? nullptr : tables.get());
	};
	return start_job(info.Env(), work);
}

Napi::Value GatewayObject::edit_allowlist(const Napi::CallbackInfo &info)
{
	if (!require_gateway(info.Env()))
		return info.Env().Undefined();
	if (!info[0].IsObject() || !info[1].IsObject()) {
		Napi::TypeError::New(info.Env(), "what is added and what is removed are needed").ThrowAsJavaScriptException();
		return info.Env().Undefined();
	}
	auto work = [gateway = gateway_, added = to_allowlist(info[0]), removed = to_allowlist(info[1])] {
		return gateway->datapath().edit_allowlist(added, removed);
	};
	return start_job(info.Env(), work);
}

Napi::Value GatewayObject::set_rules(const Napi::CallbackInfo &info)
{
	if (!require_gateway(info.Env()))
		return info.Env().Undefined();
	auto work = [gateway = gateway_, rules = records_of<Rule>(info[0])] {
		return gateway->datapath().set_rules(rules);
	};
	return start_job(info.Env(), work);
}

Napi::Value GatewayObject::set_filters(const Napi::CallbackInfo &info)
{
	if (!require_gateway(info.Env()))
		return info.Env().Undefined();
	std::optional<std::vector<uint32_t>> vnis;
	std::optional<std::vector<vx_prefix6>> peers;

	if (info[0].IsTypedArray())
		vnis = records_of<uint32_t>(info[0]);
	if (info[1].IsTypedArray())
		peers = records_of<vx_prefix6>(info[1]);
	auto work = [gateway = gateway_, vnis, peers] { return gateway->datapath().set_filters(vnis, peers); };
	return start_job(info.Env(), work);
}

Napi::Value GatewayObject::try_outside(const Napi::CallbackInfo &info)
{
	if (!require_gateway(info.Env()))
		return info.Env().Undefined();
	// It waits for an answer.
	return Job::start(info.Env(), [gateway = gateway_]() -> Result<Answer> {
		auto trial = gateway->try_outside();
		if (!trial)
			return trial.error();
		return Answer([trial = *trial](Napi::Env env) -> Napi::Value {
			auto out = Napi::Object::New(env);
			out["redirect"] = to_js(env, trial.redirect);
			out["afxdpTx"] = to_js(env, trial.afxdp_tx);
			out["frames"] = trial.frames;
			return out;
		});
	});
}

Napi::Value GatewayObject::attach(const Napi::CallbackInfo &info)
{
	Napi::Env env = info.Env();

	if (!require_gateway(env))
		return env.Undefined();
	auto attached = gateway_->attach();
	if (!attached) {
		to_js_error(env, attached.error()).ThrowAsJavaScriptException();
		return env.Undefined();
	}
	auto out = Napi::Object::New(env);
	out["tookOver"] = attached->took_over;
	out["crashLost"] = env.Null();
	if (attached->crash_lost) {
		auto lost = Napi::Array::New(env, VX_DIRECTIONS);
		for (uint32_t i = 0; i < VX_DIRECTIONS; i++)
			lost[i] = Napi::Number::New(env, static_cast<double>((*attached->crash_lost)[i]));
		out["crashLost"] = lost;
	}
	return out;
}

Napi::Value GatewayObject::counters(const Napi::CallbackInfo &info)
{
	return require_gateway(info.Env()) ? Napi::Value(counters_.Value()) : info.Env().Undefined();
}

Napi::Value GatewayObject::drain_events(const Napi::CallbackInfo &info)
{
	Napi::Env env = info.Env();
	auto out = Napi::Array::New(env);
	uint32_t at = 0;

	if (!require_gateway(env))
		return env.Undefined();
	for (const WorkerEvent &event : gateway_->drain_events()) {
		auto item = Napi::Object::New(env);

		item["event"] = event.event;
		item["timeNs"] = Napi::BigInt::New(env, event.time_ns);
		item["detail"] = event.detail;
		item["suppressed"] = Napi::Number::New(env, event.suppressed);
		out[at++] = item;
	}
	return out;
}

Napi::Value GatewayObject::drain_samples(const Napi::CallbackInfo &info)
{
	if (!require_gateway(info.Env()))
		return info.Env().Undefined();
	auto samples = gateway_->drain_samples(info[0].ToNumber().Uint32Value());
	return Napi::Buffer<uint8_t>::Copy(info.Env(), reinterpret_cast<const uint8_t *>(samples.data()),
					   samples.size() * sizeof(vx_sample));
}

Napi::Value GatewayObject::snapshot(const Napi::CallbackInfo &info)
{
	static const char *const states[] = {"resolving", "valid", "failed"};
	Napi::Env env = info.Env();

	if (!require_gateway(env))
		return env.Undefined();
	WorkerSnapshot snapshot = gateway_->snapshot();
	auto hops = Napi::Array::New(env);
	uint32_t at = 0;

	for (const NextHopView &hop : snapshot.next_hops) {
		auto item = Napi::Object::New(env);

		item["address"] = address_text(hop.address);
		item["mac"] = hop.state == VX_NEIGHBOUR_VALID ? Napi::Value(Napi::String::New(env, mac_text(hop.mac)))
							      : env.Null();
		item["state"] = states[hop.state <= VX_NEIGHBOUR_FAILED ? hop.state : VX_NEIGHBOUR_FAILED];
		hops[at++] = item;
	}
	auto out = Napi::Object::New(env);
	out["insideCarrier"] = snapshot.inside_carrier;
	out["outsideCarrier"] = snapshot.outside_carrier;
	out["outsideMtu"] = snapshot.outside_mtu;
	out["attached"] = gateway_->datapath().attached();
	out["workersAlive"] = snapshot.alive;
	out["waiting"] = snapshot.waiting;
	out["routes"] = snapshot.routes;
	out["nextHops"] = hops;
	return out;
}

Napi::Value GatewayObject::settle(const Napi::CallbackInfo &info)
{
	if (!require_gateway(info.Env()))
		return info.Env().Undefined();
	auto work = [gateway = gateway_]() -> Result<void> {
		gateway->datapath().settle();
		return {};
	};
	return start_job(info.Env(), work);
}

Napi::Value GatewayObject::stop(const Napi::CallbackInfo &info)
{
	Napi::Env env = info.Env();

	if (!require_gateway(env))
		return env.Undefined();
	if (!info[0].IsTypedArray()) {
		Napi::TypeError::New(env, "a Uint8Array for the final counters is needed").ThrowAsJavaScriptException();
		return env.Undefined();
	}
	auto array = info[0].As<Napi::Uint8Array>();
	auto into = std::make_shared<Napi::Reference<Napi::Uint8Array>>(Napi::Persistent(array));
	std::span<uint8_t> bytes(array.Data(), array.ByteLength());

	// The view of the counters goes before the memory under it does.
	counters_.Value().Detach();
	counters_.Reset();
	// The records of the last packets are read when the workers are gone.
	return Job::start(env, [gateway = std::move(gateway_), into, bytes]() mutable -> Result<Answer> {
		std::vector<vx_nat_record> records;
		gateway->stop(bytes);
		if (Nat *nat = gateway->nat())
			records = nat->log_records(UINT32_MAX);
		gateway.reset();
		return Answer([records](Napi::Env env) { return to_js_records(env, records); });
	});
}

// Empty: there is no source NAT.
Napi::Value GatewayObject::nat_records(const Napi::CallbackInfo &info)
{
	if (!require_gateway(info.Env()))
		return info.Env().Undefined();
	Nat *nat = gateway_->nat();
	return to_js_records(info.Env(), nat ? nat->log_records(info[0].ToNumber().Uint32Value())
					     : std::vector<vx_nat_record>{});
}

Napi::Value GatewayObject::nat_records_done(const Napi::CallbackInfo &info)
{
	if (require_gateway(info.Env()) && gateway_->nat())
		gateway_->nat()->log_records_done();
	return info.Env().Undefined();
}

Napi::Value GatewayObject::nat_sessions(const Napi::CallbackInfo &info)
{
	if (!require_gateway(info.Env()))
		return info.Env().Undefined();
	return ask_sessions(info, gateway_);
}

Napi::Value GatewayObject::nat_top(const Napi::CallbackInfo &info)
{
	if (!require_gateway(info.Env()))
		return info.Env().Undefined();
	return ask_top(info, gateway_);
}

Napi::Value GatewayObject::nat_pool(const Napi::CallbackInfo &info)
{
	return require_gateway(info.Env()) ? pool_of(info.Env(), gateway_->nat()) : info.Env().Undefined();
}

Napi::Value GatewayObject::nat_handoffs(const Napi::CallbackInfo &info)
{
	return require_gateway(info.Env()) ? handoffs_of(info.Env(), gateway_->nat()) : info.Env().Undefined();
}

}  // namespace vx
