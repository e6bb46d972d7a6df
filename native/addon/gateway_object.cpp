// See gateway_object.h.
#include "gateway_object.h"

#include <arpa/inet.h>
#include <net/if.h>

#include <functional>
#include <optional>

#include "../io/interface.h"
#include "marshal.h"
#include "nat_questions.h"
#include "source_nat.h"

namespace vx {
namespace {

DatapathPlan to_datapath_plan(const Napi::Object &plan)
{
	DatapathPlan out;
	auto given = [&](const char *key) { return !plan.Get(key).IsNull() && !plan.Get(key).IsUndefined(); };
	auto number = [&](const char *key) { return plan.Get(key).ToNumber().Int32Value(); };
	auto flag = [&](const char *key) { return plan.Get(key).ToBoolean().Value(); };
	int match = number("match");

	out.inside_ifindex = number("insideIfindex");
	out.outside_ifindex = number("outsideIfindex");
	out.pin_directory = plan.Get("pinDirectory").ToString().Utf8Value();
	auto datapath_mode = plan.Get("datapath").ToString().Utf8Value();
	out.hand_over = datapath_mode == "afxdp"     ? VX_HAND_OVER_SOCKETS
			: datapath_mode == "ringbuf" ? VX_HAND_OVER_RINGS
						     : VX_HAND_OVER_EXCEPTIONS;
	out.inside_generic = plan.Get("insideAttach").ToString().Utf8Value() == "generic";
	out.outside_generic = plan.Get("outsideAttach").ToString().Utf8Value() == "generic";
	out.plain_ethernet = plan.Get("encapsulation").ToString().Utf8Value() == "ethernet";
	out.vxlan_port = static_cast<uint16_t>(number("vxlanPort"));
	if (auto local = records_of<vx_addr>(plan.Get("local")); given("local") && local.size() == 1)
		out.local = local[0];
	if (given("vnis"))
		out.vni_ranges = records_of<uint32_t>(plan.Get("vnis"));
	if (given("peers"))
		out.peers = records_of<vx_prefix6>(plan.Get("peers"));
	out.match_source = match & 1;
	out.match_destination = match & 2;
	if (auto mac = bytes_of(plan.Get("nextHop")); given("nextHop") && mac.size() == 6)
		out.next_hop_mac = mac;
	out.clear_dont_fragment = flag("clearDontFragment");
	out.forward_ipv6 = flag("forwardIpv6");
	out.decrement_ttl = flag("decrementTtl");
	if (given("sourceNat"))
		out.source_nat = to_source_nat(plan.Get("sourceNat").As<Napi::Object>());
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

std::string to_text(const vx_addr &address)
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	char text[INET6_ADDRSTRLEN];
	bool is4 = !memcmp(address.bytes, mapped, sizeof(mapped));

	inet_ntop(is4 ? AF_INET : AF_INET6, is4 ? address.bytes + sizeof(mapped) : address.bytes, text, sizeof(text));
	return text;
}

std::string to_text(const uint8_t mac[6])
{
	char text[18];

	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return text;
}

AllowlistTables to_allowlist(const Napi::Value &value)
{
	auto list = value.As<Napi::Object>();

	return {bytes_of(list.Get("exact4")), bytes_of(list.Get("exact6")), bytes_of(list.Get("prefix4")),
		bytes_of(list.Get("prefix6"))};
}

// Runs `work` on libuv's pool and settles a promise with its result. Keeps the gateway alive meanwhile.
class Job : public Napi::AsyncWorker {
public:
	Job(Napi::Env env, std::function<Result<void>()> work)
		: Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), work_(std::move(work))
	{
	}
	Napi::Promise start()
	{
		Napi::Promise promise = deferred_.Promise();
		Queue();
		return promise;
	}

protected:
	void Execute() override { result_ = work_(); }
	void OnOK() override
	{
		if (result_)
			deferred_.Resolve(Env().Undefined());
		else
			deferred_.Reject(to_js_error(Env(), result_.error()).Value());
	}

private:
	Napi::Promise::Deferred deferred_;
	std::function<Result<void>()> work_;
	Result<void> result_;
};

// It waits for an answer, so not on this thread.
class TrialJob : public Napi::AsyncWorker {
public:
	TrialJob(Napi::Env env, std::shared_ptr<Gateway> gateway)
		: Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), gateway_(std::move(gateway))
	{
	}
	Napi::Promise start()
	{
		Napi::Promise promise = deferred_.Promise();
		Queue();
		return promise;
	}

protected:
	void Execute() override { trial_.emplace(gateway_->try_outside()); }
	void OnOK() override
	{
		if (!*trial_)
			return deferred_.Reject(to_js_error(Env(), trial_->error()).Value());
		auto out = Napi::Object::New(Env());
		out["able"] = (*trial_)->able;
		out["found"] = (*trial_)->found;
		out["frames"] = (*trial_)->frames;
		deferred_.Resolve(out);
	}

private:
	Napi::Promise::Deferred deferred_;
	std::shared_ptr<Gateway> gateway_;
	std::optional<Result<Trial>> trial_;
};

// The records of the last packets are read when the workers are gone.
class StopJob : public Napi::AsyncWorker {
public:
	using Into = std::shared_ptr<Napi::Reference<Napi::Uint8Array>>;
	StopJob(Napi::Env env, std::shared_ptr<Gateway> gateway, Into into, std::span<uint8_t> bytes)
		: Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), gateway_(std::move(gateway)),
		  into_(std::move(into)), bytes_(bytes)
	{
	}
	Napi::Promise start()
	{
		Napi::Promise promise = deferred_.Promise();
		Queue();
		return promise;
	}

protected:
	void Execute() override
	{
		gateway_->stop(bytes_);
		if (Nat *nat = gateway_->nat())
			records_ = nat->block_records(UINT32_MAX);
		gateway_.reset();
	}
	void OnOK() override { deferred_.Resolve(to_js_records(Env(), records_)); }

private:
	Napi::Promise::Deferred deferred_;
	std::shared_ptr<Gateway> gateway_;
	const Into into_;
	const std::span<uint8_t> bytes_;
	std::vector<vx_block_record> records_;
};

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
	DatapathPlan datapath = to_datapath_plan(plan);
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
	return (new Job(info.Env(), work))->start();
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
	return (new Job(info.Env(), work))->start();
}

Napi::Value GatewayObject::set_rules(const Napi::CallbackInfo &info)
{
	if (!require_gateway(info.Env()))
		return info.Env().Undefined();
	auto work = [gateway = gateway_, rules = records_of<Rule>(info[0])] {
		return gateway->datapath().set_rules(rules);
	};
	return (new Job(info.Env(), work))->start();
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
	return (new Job(info.Env(), work))->start();
}

Napi::Value GatewayObject::try_outside(const Napi::CallbackInfo &info)
{
	if (!require_gateway(info.Env()))
		return info.Env().Undefined();
	return (new TrialJob(info.Env(), gateway_))->start();
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
	auto lost = Napi::Array::New(env, VX_DIRECTIONS);
	for (uint32_t i = 0; i < VX_DIRECTIONS; i++)
		lost[i] = Napi::Number::New(env, static_cast<double>(attached->crash_lost[i]));
	auto out = Napi::Object::New(env);
	out["tookOver"] = attached->took_over;
	out["crashLost"] = lost;
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

		item["address"] = to_text(hop.address);
		item["mac"] = hop.state == VX_NEIGHBOUR_VALID ? Napi::Value(Napi::String::New(env, to_text(hop.mac)))
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
	return (new Job(info.Env(), work))->start();
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
	return (new StopJob(env, std::move(gateway_), into, bytes))->start();
}

// Empty: there is no source NAT.
Napi::Value GatewayObject::nat_records(const Napi::CallbackInfo &info)
{
	if (!require_gateway(info.Env()))
		return info.Env().Undefined();
	Nat *nat = gateway_->nat();
	return to_js_records(info.Env(), nat ? nat->block_records(info[0].ToNumber().Uint32Value())
					     : std::vector<vx_block_record>{});
}

Napi::Value GatewayObject::nat_records_done(const Napi::CallbackInfo &info)
{
	if (require_gateway(info.Env()) && gateway_->nat())
		gateway_->nat()->block_records_done();
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
