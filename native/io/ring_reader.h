// Reads BPF ring buffers in place. Used by the workers: made on the starting thread, then used by one's own.
//
// Who made the maps hands in their descriptors and keeps them open: to find a map inside percpu_ringbufs by its number would
// take CAP_SYS_ADMIN.
//
// libbpf tells the producer of each record that is read, and the producer, which looks at that at each reservation, then
// waits for the cache line each time. Here it is told once a batch. Layout: kernel/bpf/ringbuf.c, Documentation/bpf/
// ringbuf.rst: a page with the consumer's position, one with the producer's, then the data, mapped twice in a row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "../../bpf/abi/abi.h"
#include "fd.h"
#include "result.h"

namespace vx {

// One ring buffer where a process has it mapped.
struct RingMemory {
	uint64_t *consumer;
	const uint64_t *producer;
	const uint8_t *data;  // twice in a row
	uint32_t bytes;       // of it once; a power of two
};

inline void note_batch(vx_work &work, uint32_t packets, uint32_t ring_permille)
{
	work.taken += packets;
	work.batches++;
	work.ring_permille += ring_permille;
}

class RingReader {
public:
	using Visit = std::function<void(const uint8_t *bytes, size_t length)>;

	// At most `most` records of one ring; how many there were. For its one consumer.
	static uint32_t consume(const RingMemory &ring, uint32_t most, const Visit &visit);

	// Every `step`th of the maps from `first` on.
	static Result<RingReader> open(std::span<const int> map_fds, Visit visit, size_t first = 0, size_t step = 1);
	static Result<RingReader> open(int map_fd, Visit visit) { return open({&map_fd, 1}, std::move(visit)); }

	// Readable in poll(2) when a producer has asked for a wake-up.
	int fd() const { return epoll_.get(); }
	// Whether a record has been reserved that was not read yet.
	bool pending() const;
	// At most `most` records of each ring, so that no producer can keep the reader. True: there may be more.
	// `work` notes it.
	bool consume(uint32_t most = UINT32_MAX, vx_work *work = nullptr);

private:
	class Ring {
	public:
		static Result<Ring> map(int map_fd, uint32_t bytes);
		Ring(Ring &&other) noexcept;
		Ring &operator=(Ring &&) = delete;
		~Ring();
		uint32_t consume(uint32_t most, const Visit &visit);
		bool pending() const
		{
			return __atomic_load_n(reinterpret_cast<const uint64_t *>(producer_), __ATOMIC_ACQUIRE) != *consumer_;
		}
		uint32_t full_permille() const;

	private:
		explicit Ring(uint32_t bytes) : bytes_(bytes) {}
		uint32_t bytes_;
		uint64_t *consumer_ = nullptr;
		uint8_t *producer_ = nullptr;  // its page, then the data
	};

	Visit visit_;
	Fd epoll_;
	std::vector<Ring> rings_;

	Result<void> add(int map_fd);
};

}  // namespace vx
