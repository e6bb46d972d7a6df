// The memory of the AF_XDP sockets and its free frames. See umem.h.
#include "umem.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace vx {
namespace {

constexpr size_t kFetchMost = 256;

void move_last(std::vector<uint64_t> &from, std::vector<uint64_t> &to, size_t most)
{
	const auto count = static_cast<ptrdiff_t>(std::min(most, from.size()));
	to.insert(to.end(), from.end() - count, from.end());
	from.resize(from.size() - static_cast<size_t>(count));
}

}  // namespace

Result<std::unique_ptr<Umem>> Umem::map(int map_fd)
{
	std::unique_ptr<Umem> umem(new Umem);
	bpf_map_info info{};
	uint32_t length = sizeof info;
	if (bpf_obj_get_info_by_fd(map_fd, &info, &length))
		return Error{"WORKER_FAILED", "read the map umem", errno, ""};
	const uint32_t frames = umem->frames_ = info.max_entries;
	void *memory = mmap(nullptr, umem->bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, map_fd, 0);
	if (memory == MAP_FAILED)
		return Error{"WORKER_FAILED", "mmap(UMEM)", errno, std::to_string(umem->bytes()) + " bytes"};
	umem->memory_ = static_cast<uint8_t *>(memory);
	umem->store_.reserve(frames);
	for (uint32_t i = frames; i-- > 0;)
		umem->store_.push_back(uint64_t{i} * VX_FRAME_BYTES);
	return umem;
}

Umem::~Umem()
{
	if (memory_)
		munmap(memory_, bytes());
}

void Umem::fetch(std::vector<uint64_t> &own, size_t most)
{
	if (visited_.test_and_set(std::memory_order_acquire))
		return;
	move_last(store_, own, most);
	visited_.clear(std::memory_order_release);
}

void Umem::bring(std::vector<uint64_t> &own, size_t most)
{
	if (visited_.test_and_set(std::memory_order_acquire))
		return;
	move_last(own, store_, most);
	visited_.clear(std::memory_order_release);
}

Frames::Frames(Umem &umem, uint32_t keep_most) : umem_(umem), keep_most_(keep_most)
{
	own_.reserve(umem.frames());
}

void Frames::fetch()
{
	umem_.fetch(own_, kFetchMost);
}

uint64_t Frames::take()
{
	if (own_.empty())
		abort();
	const uint64_t address = own_.back();
	own_.pop_back();
	return address;
}

void Frames::put(uint64_t address)
{
	if (address >= umem_.bytes() || own_.size() == umem_.frames())
		abort();
	own_.push_back(address & ~uint64_t{VX_FRAME_BYTES - 1});
}

}  // namespace vx
