// See replay_function.h. Arguments are read and the promise is settled on Node's main thread; captures are read, replayed
// and written on one of libuv's pool.
#include "replay_function.h"

#include <algorithm>

#include "../replay/capture_file.h"
#include "../replay/replay.h"
#include "datapath_plan.h"
#include "job.h"

namespace vx {
namespace {

ReplayPlan to_replay_plan(const Napi::Object &plan)
{
	ReplayPlan out;

	out.datapath = to_datapath_plan(plan);
	if (plan.Get("allowlist").IsObject())
		out.allowlist = to_allowlist(plan.Get("allowlist"));
	out.rules = records_of<Rule>(plan.Get("rules"));
	return out;
}

// Captures to read and to write, by the interface they are of; an empty name: none. What is written grows under the
// temporary name.
struct ReplayFiles {
	std::string arriving[VX_DIRECTIONS], leaving[VX_DIRECTIONS], temporary[VX_DIRECTIONS];
};

// One replay, on one of libuv's pool.
class FileReplay {
public:
	FileReplay(ReplayPlan plan, ReplayFiles files) : plan_(std::move(plan)), files_(std::move(files)) {}
	Result<void> replay();
	const std::vector<uint8_t> &counters() const { return counters_; }
	double seconds() const { return static_cast<double>(last_ns_ - first_ns_) / 1e9; }

private:
	struct Arriving {
		std::unique_ptr<FileSource> source;
		std::unique_ptr<CaptureReader> reader;
		CapturedPacket packet;
		bool more = false;  // there is a packet
	};
	ReplayPlan plan_;
	const ReplayFiles files_;
	Arriving arriving_[VX_DIRECTIONS];
	std::unique_ptr<CaptureWriter> leaving_[VX_DIRECTIONS];
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

	Result<void> open(vx_direction from)
	{
		const std::string &file = files_.arriving[from];
		if (file.empty())
			return {};
		auto source = FileSource::open(file);
		if (!source)
			return about(file, source.error());
		auto reader = CaptureReader::open(**source);
		if (!reader)
			return about(file, reader.error());
		arriving_[from].source = std::move(*source);
		arriving_[from].reader = std::move(*reader);
		return {};
	}

	Result<void> create(vx_direction to)
	{
		if (files_.leaving[to].empty())
			return {};
		auto writer = CaptureWriter::create(files_.leaving[to], files_.temporary[to]);
		if (!writer)
			return about(files_.leaving[to], writer.error());
		leaving_[to] = std::move(*writer);
		return {};
	}

	Result<void> read_next(vx_direction from)
	{
		Arriving &arriving = arriving_[from];
		if (!arriving.reader)
			return {};
		auto more = arriving.reader->next(arriving.packet);
		if (!more)
			return about(files_.arriving[from], more.error());
		arriving.more = *more;
		return {};
	}

	// The capture whose packet is next: of two at one time, what arrives inside.
	std::optional<vx_direction> next() const
	{
		const Arriving &inside = arriving_[VX_INSIDE], &outside = arriving_[VX_OUTSIDE];
		if (!inside.more && !outside.more)
			return std::nullopt;
		if (!outside.more || (inside.more && inside.packet.time_ns <= outside.packet.time_ns))
			return VX_INSIDE;
		return VX_OUTSIDE;
	}

	bool fine_time() const
	{
		return std::any_of(std::begin(arriving_), std::end(arriving_),
				   [](const Arriving &one) { return one.reader && one.reader->fine_time(); });
	}

	Result<void> run(Replay &pipeline)
	{
		for (const vx_direction from : {VX_INSIDE, VX_OUTSIDE})
			if (auto done = read_next(from); !done)
				return done;
		bool first = true;
		for (std::optional<vx_direction> from; (from = next()); first = false) {
			const CapturedPacket &packet = arriving_[*from].packet;
			first_ns_ = first ? packet.time_ns : first_ns_;
			last_ns_ = std::max({last_ns_, first_ns_, packet.time_ns});
			pipeline.receive(*from, packet.time_ns, packet.bytes);
			if (auto done = read_next(*from); !done)
				return done;
		}
		pipeline.finish();
		return {};
	}
};

Result<void> FileReplay::replay()
{
	for (const vx_direction from : {VX_INSIDE, VX_OUTSIDE})
		if (auto done = open(from); !done)
			return done;
	for (const vx_direction to : {VX_OUTSIDE, VX_INSIDE})
		if (auto done = create(to); !done)
			return done;
	auto pipeline = Replay::open(plan_, [this](vx_direction to, uint64_t time_ns, std::span<const uint8_t> frame) {
		if (leaving_[to])
			leaving_[to]->write(time_ns, frame, fine_time());
	});
	if (!pipeline)
		return pipeline.error();
	if (auto done = run(**pipeline); !done)
		return done;
	for (const vx_direction to : {VX_OUTSIDE, VX_INSIDE})
		if (leaving_[to])
			if (auto written = leaving_[to]->finish(); !written)
				return about(files_.leaving[to], written.error());
	counters_.assign((*pipeline)->counters().begin(), (*pipeline)->counters().end());
	return {};
}

}  // namespace

Napi::Value replay_function(const Napi::CallbackInfo &info)
{
	Napi::Env env = info.Env();
	if (!info[0].IsObject()) {
		Napi::TypeError::New(env, "a ReplayPlan is needed").ThrowAsJavaScriptException();
		return env.Undefined();
	}
	auto plan = to_replay_plan(info[0].As<Napi::Object>());
	ReplayFiles files;
	const auto take = [&](size_t argument, const char *key, std::string &into) {
		if (info[argument].IsObject())
			into = info[argument].As<Napi::Object>().Get(key).ToString().Utf8Value();
	};
	for (const vx_direction direction : {VX_INSIDE, VX_OUTSIDE}) {
		const size_t at = direction == VX_INSIDE ? 1 : 2;
		take(at, "arriving", files.arriving[direction]);
		take(at, "leaving", files.leaving[direction]);
		take(at, "temporary", files.temporary[direction]);
	}
	auto replay = std::make_shared<FileReplay>(std::move(plan), std::move(files));
	return Job::start(env, [replay]() -> Result<Answer> {
		if (auto done = replay->replay(); !done)
			return done.error();
		return Answer([replay](Napi::Env env) -> Napi::Value {
			const auto &counters = replay->counters();
			auto buffer = Napi::ArrayBuffer::New(env, counters.size());
			std::copy(counters.begin(), counters.end(), static_cast<uint8_t *>(buffer.Data()));
			auto out = Napi::Object::New(env);
			out["counters"] = buffer;
			out["seconds"] = replay->seconds();
			return out;
		});
	});
}

}  // namespace vx
