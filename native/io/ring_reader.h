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
	int fd() const { return ring_buffer__epoll_fd(ring_.get()); }
	// Everything that is there.
	void consume() { ring_buffer__consume(ring_.get()); }

private:
	struct Free {
		void operator()(ring_buffer *ring) const { ring_buffer__free(ring); }
	};

	// libbpf keeps its address, so it must not move.
	std::unique_ptr<Visit> visit_;
	std::vector<Fd> inner_;  // epoll watches these descriptors
	std::unique_ptr<ring_buffer, Free> ring_;

	Result<void> add(int ring_fd);
};

}  // namespace vx
