// Reads BPF ring buffers. Used by the exception worker.
#include "ring_reader.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <utility>

namespace vx {
namespace {

int visit_record(void *context, void *bytes, size_t length)
{
	(*static_cast<RingReader::Visit *>(context))(static_cast<const uint8_t *>(bytes), length);
	return 0;
}

}  // namespace

Result<void> RingReader::add(int ring_fd)
{
	if (ring_) {
		const int err = ring_buffer__add(ring_.get(), ring_fd, visit_record, visit_.get());
		return err ? Result<void>(Error{"WORKER_FAILED", "ring_buffer__add", -err, ""}) : Result<void>();
	}
	ring_.reset(ring_buffer__new(ring_fd, visit_record, visit_.get(), nullptr));
	return ring_ ? Result<void>() : Result<void>(Error{"WORKER_FAILED", "ring_buffer__new", errno, ""});
}

Result<RingReader> RingReader::open(int map_fd, Visit visit)
{
	RingReader reader;
	reader.visit_ = std::make_unique<Visit>(std::move(visit));
	bpf_map_info info{};
	uint32_t length = sizeof info;
	if (bpf_obj_get_info_by_fd(map_fd, &info, &length))
		return Error{"WORKER_FAILED", "BPF_OBJ_GET_INFO_BY_FD", errno, "ring buffer"};
	if (info.type == BPF_MAP_TYPE_RINGBUF) {
		if (auto added = reader.add(map_fd); !added)
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
		if (auto added = reader.add(ring.get()); !added)
			return added.error();
		reader.inner_.push_back(std::move(ring));
	}
	if (!reader.ring_)
		return Error{"WORKER_FAILED", "ring buffers", ENOENT, info.name};
	return reader;
}

}  // namespace vx
