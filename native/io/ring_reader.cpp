// Reads BPF ring buffers. Used by the worker.
#include "ring_reader.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace vx {
namespace {

size_t page_bytes()
{
	return static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

Result<RingReader::Ring> RingReader::Ring::map(int map_fd, uint32_t bytes)
{
	const size_t page = page_bytes();
	void *consumer = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
	void *producer = mmap(nullptr, page + 2 * size_t{bytes}, PROT_READ, MAP_SHARED, map_fd, static_cast<off_t>(page));
	Ring ring(bytes);
	if (consumer != MAP_FAILED)
		ring.consumer_ = static_cast<uint64_t *>(consumer);
	if (producer != MAP_FAILED)
		ring.producer_ = static_cast<uint8_t *>(producer);
	if (!ring.consumer_ || !ring.producer_)
		return Error{"WORKER_FAILED", "mmap(ring buffer)", errno, ""};
	return ring;
}

RingReader::Ring::Ring(Ring &&other) noexcept
	: bytes_(other.bytes_), consumer_(std::exchange(other.consumer_, nullptr)),
	  producer_(std::exchange(other.producer_, nullptr))
{
}

RingReader::Ring::~Ring()
{
	if (consumer_)
		munmap(consumer_, page_bytes());
	if (producer_)
		munmap(producer_, page_bytes() + 2 * size_t{bytes_});
}

uint32_t RingReader::Ring::consume(uint32_t most, const Visit &visit)
{
	return RingReader::consume({consumer_, reinterpret_cast<uint64_t *>(producer_), producer_ + page_bytes(), bytes_},
				   most, visit);
}

uint32_t RingReader::consume(const RingMemory &ring, uint32_t most, const Visit &visit)
{
	const uint64_t end = __atomic_load_n(ring.producer, __ATOMIC_ACQUIRE);
	uint64_t at = *ring.consumer;
	uint32_t count = 0;
	for (; count < most && at < end; count++) {
		const uint8_t *record = ring.data + (at & (ring.bytes - 1));
		const uint32_t head = __atomic_load_n(reinterpret_cast<const uint32_t *>(record), __ATOMIC_ACQUIRE);
		if (head & BPF_RINGBUF_BUSY_BIT)
			break;
		const uint32_t length = head & ~BPF_RINGBUF_DISCARD_BIT;
		if (length == head)
			visit(record + BPF_RINGBUF_HDR_SZ, length);
		at += (length + BPF_RINGBUF_HDR_SZ + 7) & ~7u;
	}
	if (count)
		__atomic_store_n(ring.consumer, at, __ATOMIC_RELEASE);
	return count;
}

bool RingReader::pending() const
{
	return std::any_of(rings_.begin(), rings_.end(), [](const Ring &ring) { return ring.pending(); });
}

uint32_t RingReader::Ring::full_permille() const
{
	const uint64_t end = __atomic_load_n(reinterpret_cast<const uint64_t *>(producer_), __ATOMIC_ACQUIRE);

	return static_cast<uint32_t>((end - *consumer_) * 1000 / bytes_);
}

bool RingReader::consume(uint32_t most, vx_work *work)
{
	bool more = false;
	for (Ring &ring : rings_) {
		const uint32_t permille = work ? ring.full_permille() : 0;
		const uint32_t count = ring.consume(most, visit_);
		if (work && count)
			note_batch(*work, count, permille);
		more |= count == most;
	}
	return more;
}

Result<void> RingReader::add(int map_fd)
{
	bpf_map_info info{};
	uint32_t length = sizeof info;
	epoll_event readable{.events = EPOLLIN, .data = {}};
	if (bpf_obj_get_info_by_fd(map_fd, &info, &length))
		return Error{"WORKER_FAILED", "open ring buffer", errno, ""};
	if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, map_fd, &readable))
		return Error{"WORKER_FAILED", "epoll_ctl", errno, "ring buffer"};
	auto ring = Ring::map(map_fd, info.max_entries);
	if (!ring)
		return ring.error();
	rings_.push_back(std::move(*ring));
	return {};
}

Result<RingReader> RingReader::open(std::span<const int> map_fds, Visit visit, size_t first, size_t step)
{
	RingReader reader;
	reader.visit_ = std::move(visit);
	reader.epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
	if (!reader.epoll_)
		return Error{"WORKER_FAILED", "epoll_create1", errno, "ring buffers"};
	for (size_t at = first; at < map_fds.size(); at += step)
		if (auto added = reader.add(map_fds[at]); !added)
			return added.error();
	if (reader.rings_.empty())
		return Error{"WORKER_FAILED", "ring buffers", ENOENT, ""};
	return reader;
}

}  // namespace vx
