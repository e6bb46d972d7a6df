// See replay_function.h. Arguments are read and the promise is settled on Node's main thread; captures are read, replayed
// and written on one of libuv's pool.
#include "replay_function.h"

#include <algorithm>

#include "../replay/capture_file.h"
#include "../replay/replay.h"
#include "marshal.h"

namespace vx {
namespace {

ReplayPlan to_replay_plan(const Napi::Object &plan)
{
	ReplayPlan out;
	DatapathPlan &datapath = out.datapath;
	auto given = [&](const char *key) { return !plan.Get(key).IsNull() && !plan.Get(key).IsUndefined(); };
	auto flag = [&](const char *key) { return plan.Get(key).ToBoolean().Value(); };
	const int match = plan.Get("match").ToNumber().Int32Value();

	datapath.plain_ethernet = plan.Get("encapsulation").ToString().Utf8Value() == "ethernet";
	datapath.vxlan_port = static_cast<uint16_t>(plan.Get("vxlanPort").ToNumber().Int32Value());
	if (auto local = records_of<vx_addr>(plan.Get("local")); given("local") && local.size() == 1)
		datapath.local = local[0];
	if (given("vnis"))
		datapath.vni_ranges = records_of<uint32_t>(plan.Get("vnis"));
	if (given("peers"))
		datapath.peers = records_of<vx_prefix6>(plan.Get("peers"));
	datapath.match_source = match & 1;
	datapath.match_destination = match & 2;
	if (auto mac = bytes_of(plan.Get("nextHop")); given("nextHop") && mac.size() == 6)
		datapath.next_hop_mac = mac;
	datapath.clear_dont_fragment = flag("clearDontFragment");
	datapath.forward_ipv6 = flag("forwardIpv6");
	datapath.decrement_ttl = flag("decrementTtl");
	if (plan.Get("allowlist").IsObject()) {
		auto list = plan.Get("allowlist").As<Napi::Object>();
		out.allowlist = {bytes_of(list.Get("exact4")), bytes_of(list.Get("exact6")),
				 bytes_of(list.Get("prefix4")), bytes_of(list.Get("prefix6"))};
	}
	out.rules = records_of<Rule>(plan.Get("rules"));
	return out;
}

class ReplayJob : public Napi::AsyncWorker {
public:
	ReplayJob(Napi::Env env, ReplayPlan plan, std::string input, std::string output, std::string temporary)
		: Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), plan_(std::move(plan)),
		  input_(std::move(input)), output_(std::move(output)), temporary_(std::move(temporary))
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
		if (auto done = replay(); !done)
			error_ = done.error();
	}
	void OnOK() override
	{
		if (error_)
			return deferred_.Reject(to_js_error(Env(), *error_).Value());
		auto buffer = Napi::ArrayBuffer::New(Env(), counters_.size());
		std::copy(counters_.begin(), counters_.end(), static_cast<uint8_t *>(buffer.Data()));
		auto out = Napi::Object::New(Env());
		out["counters"] = buffer;
		out["seconds"] = static_cast<double>(last_ns_ - first_ns_) / 1e9;
		deferred_.Resolve(out);
	}

private:
	Napi::Promise::Deferred deferred_;
	ReplayPlan plan_;
	std::string input_, output_, temporary_;
	std::optional<Error> error_;
	std::vector<uint8_t> counters_;
	uint64_t first_ns_ = 0, last_ns_ = 0;

	// Which file an error is about; the readers do not know its name.
	static Error about(const std::string &file, Error error)
	{
		error.op = file;
		if (error.err)
			error.detail = strerror(error.err);
		return error;
	}

	Result<void> replay()
	{
		auto source = FileSource::open(input_);
		if (!source)
			return about(input_, source.error());
		auto reader = CaptureReader::open(**source);
		if (!reader)
			return about(input_, reader.error());
		auto writer = CaptureWriter::create(output_, temporary_);
		if (!writer)
			return about(output_, writer.error());
		CapturedPacket packet{};
		Replay pipeline(plan_, [&](std::span<const uint8_t> frame) {
			(*writer)->write(packet.time_ns, frame, (*reader)->fine_time());
		});
		for (bool first = true;; first = false) {
			auto more = (*reader)->next(packet);
			if (!more)
				return about(input_, more.error());
			if (!*more)
				break;
			first_ns_ = first ? packet.time_ns : first_ns_;
			last_ns_ = std::max({last_ns_, first_ns_, packet.time_ns});
			pipeline.receive(packet.time_ns, packet.bytes);
		}
		pipeline.finish();
		if (auto written = (*writer)->finish(); !written)
			return about(output_, written.error());
		counters_.assign(pipeline.counters().begin(), pipeline.counters().end());
		return {};
	}
};

}  // namespace

Napi::Value replay_function(const Napi::CallbackInfo &info)
{
	Napi::Env env = info.Env();
	if (!info[0].IsObject()) {
		Napi::TypeError::New(env, "a ReplayPlan is needed").ThrowAsJavaScriptException();
		return env.Undefined();
	}
	auto plan = to_replay_plan(info[0].As<Napi::Object>());
	auto file = [&](size_t argument) { return info[argument].ToString().Utf8Value(); };
	return (new ReplayJob(env, std::move(plan), file(1), file(2), file(3)))->start();
}

}  // namespace vx
