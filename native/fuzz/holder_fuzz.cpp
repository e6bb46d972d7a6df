// Any bytes as a sequence of holding, releasing and waiting: every frame handed in comes out exactly once, limits hold,
// and what comes out keeps its order. libFuzzer's thread; scripts/test-native runs it for a bounded time.
#include <cstdint>
#include <cstdlib>
#include <map>
#include <vector>

#include "../core/fragment_holder.h"

namespace {

void require(bool holds)
{
	if (!holds)
		abort();
}

// What the holder should hold, told by the rules alone: which frames of which key, in order.
using Model = std::map<uint8_t, std::vector<uint64_t>>;

vx_fragment_key key_of(uint8_t number)
{
	vx_fragment_key key{};
	key.id_be = number;
	key.protocol = 17;
	return key;
}

void take_out(Model &model, uint8_t key, const std::vector<vx::Frame> &frames)
{
	const std::vector<uint64_t> &expected = model[key];
	require(frames.size() == expected.size());
	for (size_t i = 0; i < frames.size(); i++)
		require(frames[i].address == expected[i]);
	model.erase(key);
}

size_t count(const Model &model)
{
	size_t frames = 0;
	for (const auto &[key, waiting] : model)
		frames += waiting.size();
	return frames;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	constexpr vx::FragmentHolder::Limits limits{.datagrams = 4, .fragments = 3, .frames = 8, .timeout_ns = 100};
	vx::FragmentHolder holder(limits);
	Model model;
	uint64_t now = 0, next_frame = 1;
	for (size_t i = 0; i + 1 < size; i += 2) {
		const uint8_t key = data[i + 1] % 8;
		now += data[i] / 4;
		if (data[i] % 4 < 2) {
			model[key].push_back(next_frame);
			for (const auto &given_up : holder.hold(key_of(key), {next_frame, 1}, now))
				take_out(model, static_cast<uint8_t>(given_up.key.id_be), given_up.frames);
			next_frame++;
		} else if (data[i] % 4 == 2) {
			take_out(model, key, holder.release(key_of(key)));
		} else {
			for (const auto &expired : holder.expire(now)) {
				require(expired.deadline_ns <= now);
				take_out(model, static_cast<uint8_t>(expired.key.id_be), expired.frames);
			}
		}
		std::erase_if(model, [](const auto &one) { return one.second.empty(); });
		require(holder.frames() == count(model) && holder.frames() <= limits.frames);
		require(model.size() <= limits.datagrams);
		for (const auto &[one, waiting] : model)
			require(waiting.size() <= limits.fragments);
	}
	for (const auto &left : holder.expire(UINT64_MAX))
		take_out(model, static_cast<uint8_t>(left.key.id_be), left.frames);
	require(holder.frames() == 0 && model.empty());
	return 0;
}
