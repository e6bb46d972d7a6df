// Later fragments that wait for the first one of their datagram. Pure: the clock is a parameter. Used by the
// exception worker on its thread.
//
// Bounded three ways (datagrams, fragments a datagram, frames in all) and by time. Whatever does not fit gives
// up whole datagrams, the oldest first, so that a flood of incomplete ones costs others only their waiting time
// and a datagram never leaves by halves.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "../../bpf/abi/abi.h"
#include "frame.h"

namespace vx {

struct HeldDatagram {
	vx_fragment_key key;
	uint64_t deadline_ns;
	std::vector<Frame> frames;
};

class FragmentHolder {
public:
	struct Limits {
		size_t datagrams = 64;
		size_t fragments = 64;
		size_t frames = 1024;
		uint64_t timeout_ns = VX_FRAGMENT_TIMEOUT_NS;
	};

	explicit FragmentHolder(Limits limits) : limits_(limits) {}

	// Keeps the frame. Returns the datagrams given up for it; the frame's own may be among them, with the frame.
	std::vector<HeldDatagram> hold(const vx_fragment_key &key, Frame frame, uint64_t now_ns)
	{
		std::vector<HeldDatagram> given_up;
		auto at = find(key);
		if (at == datagrams_.end()) {
			if (datagrams_.size() == limits_.datagrams)
				given_up.push_back(take(datagrams_.begin()));
			datagrams_.push_back({key, now_ns + limits_.timeout_ns, {}});
			at = datagrams_.end() - 1;
		}
		at->frames.push_back(frame);
		frames_++;
		if (at->frames.size() > limits_.fragments)
			given_up.push_back(take(at));
		while (frames_ > limits_.frames)
			given_up.push_back(take(datagrams_.begin()));
		return given_up;
	}

	// The first fragment has arrived: what waited for it, in order of arrival.
	std::vector<Frame> release(const vx_fragment_key &key)
	{
		const auto at = find(key);
		return at == datagrams_.end() ? std::vector<Frame>{} : take(at).frames;
	}

	std::vector<HeldDatagram> expire(uint64_t now_ns)
	{
		std::vector<HeldDatagram> expired;
		while (!datagrams_.empty() && datagrams_.front().deadline_ns <= now_ns)
			expired.push_back(take(datagrams_.begin()));
		return expired;
	}

	size_t frames() const { return frames_; }

private:
	using Place = std::vector<HeldDatagram>::iterator;

	Place find(const vx_fragment_key &key)
	{
		return std::find_if(datagrams_.begin(), datagrams_.end(),
				    [&](const HeldDatagram &held) { return !memcmp(&held.key, &key, sizeof key); });
	}

	HeldDatagram take(Place at)
	{
		HeldDatagram taken = std::move(*at);
		datagrams_.erase(at);
		frames_ -= taken.frames.size();
		return taken;
	}

	const Limits limits_;
	std::vector<HeldDatagram> datagrams_;  // oldest first
	size_t frames_ = 0;
};

}  // namespace vx
