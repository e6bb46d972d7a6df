// Reads BPF ring buffers: one map, or every map inside an ARRAY_OF_MAPS (percpu_ringbufs). Used by the exception
// worker: made on the starting thread, then used by its own.
#pragma once

#include <bpf/libbpf.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "fd.h"
#include "result.h"

namespace vx {

class RingReader {
public:
	using Visit = std::function<void(const uint8_t *bytes, size_t length)>;

	static Result<RingReader> open(int map_fd, Visit visit);

	// Readable in poll(2) when a producer has asked for a wake-up.
	int fd() const { return epoll_.get(); }
	// At most `most` records of each ring, so that no producer can keep the reader. True: there may be more.
	bool consume(uint32_t most = UINT32_MAX);

private:
	struct Free {
		void operator()(ring_buffer *ring) const { ring_buffer__free(ring); }
	};
	struct Turn {
		Visit visit;
		uint32_t left = 0;
	};

	std::unique_ptr<Turn> turn_;  // libbpf keeps its address, so it must not move
	Fd epoll_;
	std::vector<Fd> maps_;  // epoll watches these descriptors
	std::vector<std::unique_ptr<ring_buffer, Free>> rings_;

	Result<void> add(Fd map);
	static int visit_record(void *context, void *bytes, size_t length);
};

}  // namespace vx
