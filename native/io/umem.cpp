// The memory of the AF_XDP sockets. Used by the worker's thread.
#include "umem.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

namespace vx {

Result<Umem> Umem::map(int map_fd)
{
	Umem umem;
	bpf_map_info info{};
	uint32_t length = sizeof info;
	if (bpf_obj_get_info_by_fd(map_fd, &info, &length))
		return Error{"WORKER_FAILED", "read the map umem", errno, ""};
	const uint32_t frames = umem.frames_ = info.max_entries;
	void *memory = mmap(nullptr, umem.bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, map_fd, 0);
	if (memory == MAP_FAILED)
		return Error{"WORKER_FAILED", "mmap(UMEM)", errno, std::to_string(umem.bytes()) + " bytes"};
	umem.memory_ = static_cast<uint8_t *>(memory);
	umem.free_.reserve(frames);
	for (uint32_t i = frames; i-- > 0;)
		umem.free_.push_back(uint64_t{i} * VX_FRAME_BYTES);
	return umem;
}

Umem::Umem(Umem &&other) noexcept
	: memory_(std::exchange(other.memory_, nullptr)), frames_(other.frames_), free_(std::move(other.free_))
{
}

Umem::~Umem()
{
	if (memory_)
		munmap(memory_, bytes());
}

uint64_t Umem::take()
{
	if (free_.empty())
		abort();
	const uint64_t address = free_.back();
	free_.pop_back();
	return address;
}

void Umem::put(uint64_t address)
{
	if (address >= bytes() || free_.size() == frames_)
		abort();
	free_.push_back(address & ~uint64_t{VX_FRAME_BYTES - 1});
}

}  // namespace vx
