// The memory that all AF_XDP sockets share, and who has its free frames: each worker some of its own (Frames), which it
// takes and gives without asking anybody, the rest in a store that workers visit a batch at a time. Frames wander: one is
// received by the worker that has the flow and comes free at whoever finds it sent. So there is no home to return
// them to; who has too many brings them to the store, who has none fetches some.
//
// The memory is the map `umem`, so that the outside program can read frames (injector.h).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../../bpf/abi/abi.h"
#include "../core/frame.h"
#include "result.h"

namespace vx {

class Umem {
public:
	// The map is mapped whole; it stays the caller's.
	static Result<std::unique_ptr<Umem>> map(int map_fd);
	~Umem();

	uint8_t *at(uint64_t address) { return memory_ + address; }
	uint32_t frames() const { return frames_; }
	size_t bytes() const { return size_t{frames_} * VX_FRAME_BYTES; }

	// Any thread. Moves at most `most` frames to or from the end of `own`; none when another worker is at the store,
	// for nobody waits here.
	void fetch(std::vector<uint64_t> &own, size_t most);
	void bring(std::vector<uint64_t> &own, size_t most);
	// In the store; exact while nobody visits it.
	uint32_t stored() const { return static_cast<uint32_t>(store_.size()); }

private:
	Umem() = default;
	uint8_t *memory_ = nullptr;
	uint32_t frames_ = 0;
	std::atomic_flag visited_;
	std::vector<uint64_t> store_;
};

// One worker's free frames. Its thread only.
class Frames {
public:
	// `keep_most`: what is beyond that is brought to the store.
	Frames(Umem &umem, uint32_t keep_most);

	Umem &umem() { return umem_; }
	uint8_t *at(uint64_t address) { return umem_.at(address); }
	uint32_t free_count() const { return static_cast<uint32_t>(own_.size()); }

	// As many as a packet's fragments, at most.
	bool has(uint32_t count = 1)
	{
		if (own_.size() < count)
			fetch();
		return own_.size() >= count;
	}
	// Start of a free chunk; one must exist.
	uint64_t take();
	// Any address within the chunk.
	void put(uint64_t address);
	// Once a turn: brings what is too many, and fetches before there are none, for the store may be visited just then.
	void share()
	{
		if (own_.size() > keep_most_)
			umem_.bring(own_, own_.size() - keep_most_ / 2);
		else if (own_.size() < kFew)
			fetch();
	}

private:
	static constexpr size_t kFew = 128;

	Umem &umem_;
	const uint32_t keep_most_;
	std::vector<uint64_t> own_;

	void fetch();
};

}  // namespace vx
