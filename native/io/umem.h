// The memory that all AF_XDP sockets of a worker share, and the list of its free frames. The memory is the map `umem`,
// so that the outside program can read frames (injector.h); the worker's thread has the list.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../../bpf/abi/abi.h"
#include "../core/frame.h"
#include "fd.h"
#include "result.h"

namespace vx {

class Umem {
public:
	// The map is mapped whole; it stays the caller's.
	static Result<Umem> map(int map_fd);
	Umem(Umem &&other) noexcept;
	Umem &operator=(Umem &&) = delete;
	~Umem();

	uint8_t *at(uint64_t address) { return memory_ + address; }
	uint32_t frames() const { return frames_; }
	size_t bytes() const { return size_t{frames_} * VX_FRAME_BYTES; }
	uint32_t free_count() const { return static_cast<uint32_t>(free_.size()); }

	bool has_free() const { return !free_.empty(); }
	// Start of a free chunk; one must exist.
	uint64_t take();
	// Any address within the chunk.
	void put(uint64_t address);

private:
	Umem() = default;
	uint8_t *memory_ = nullptr;
	uint32_t frames_ = 0;
	std::vector<uint64_t> free_;
};

}  // namespace vx
