// Reads BPF ring buffers. Used by the exception worker.
#include "ring_reader.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <sys/epoll.h>

#include <cerrno>
#include <utility>

namespace vx {

// A negative answer ends the visit of this ring, after the record.
int RingReader::visit_record(void *context, void *bytes, size_t length)
{
	auto *turn = static_cast<Turn *>(context);
	turn->visit(static_cast<const uint8_t *>(bytes), length);
	return --turn->left ? 0 : -EAGAIN;
}

bool RingReader::consume(uint32_t most)
{
	bool more = false;
	for (const auto &ring : rings_) {
		turn_->left = most;
		more |= ring_buffer__consume(ring.get()) < 0;
	}
	return more;
}

Result<void> RingReader::add(Fd map)
{
	epoll_event readable{.events = EPOLLIN, .data = {}};
	std::unique_ptr<ring_buffer, Free> ring(ring_buffer__new(map.get(), visit_record, turn_.get(), nullptr));
	if (!ring)
		return Error{"WORKER_FAILED", "ring_buffer__new", errno, ""};
	if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, map.get(), &readable))
		return Error{"WORKER_FAILED", "epoll_ctl", errno, "ring buffer"};
	rings_.push_back(std::move(ring));
	maps_.push_back(std::move(map));
	return {};
}

Result<RingReader> RingReader::open(int map_fd, Visit visit)
{
	RingReader reader;
	reader.turn_ = std::make_unique<Turn>(Turn{std::move(visit)});
	reader.epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
	bpf_map_info info{};
	uint32_t length = sizeof info;
	if (!reader.epoll_ || bpf_obj_get_info_by_fd(map_fd, &info, &length))
		return Error{"WORKER_FAILED", "open ring buffer", errno, ""};
	if (info.type == BPF_MAP_TYPE_RINGBUF) {
		if (auto added = reader.add(Fd(fcntl(map_fd, F_DUPFD_CLOEXEC, 0))); !added)
			return added.error();
		return reader;
	}
	for (uint32_t cpu = 0; cpu < info.max_entries; cpu++) {
		uint32_t id = 0;
		if (bpf_map_lookup_elem(map_fd, &cpu, &id))
			continue;  // no buffer was made for that CPU
		Fd ring(bpf_map_get_fd_by_id(id));
		if (!ring)
			return Error{"WORKER_FAILED", "bpf_map_get_fd_by_id", errno, info.name};
		if (auto added = reader.add(std::move(ring)); !added)
			return added.error();
	}
	if (reader.rings_.empty())
		return Error{"WORKER_FAILED", "ring buffers", ENOENT, info.name};
	return reader;
}

}  // namespace vx
