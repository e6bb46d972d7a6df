// See region.h.
#include "region.h"

#include <sys/mman.h>

#include <cerrno>
#include <fstream>
#include <string>
#include <utility>

namespace vx {

uint64_t memory_available()
{
	std::ifstream facts("/proc/meminfo");
	std::string name, rest;
	uint64_t kibibytes = 0;

	while (facts >> name >> kibibytes && std::getline(facts, rest))
		if (name == "MemAvailable:")
			return kibibytes * 1024;
	return UINT64_MAX;
}

Result<Region> Region::make(size_t bytes, Pages pages)
{
	Region region;
	void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return Error{"WORKER_FAILED", "mmap(NAT tables)", errno, std::to_string(bytes) + " bytes"};
	region.memory_ = memory;
	region.size_ = bytes;
	if (pages == Pages::as_touched)
		return region;
	madvise(memory, bytes, MADV_HUGEPAGE);
	if (madvise(memory, bytes, MADV_POPULATE_WRITE))
		return Error{"WORKER_FAILED", "touch the memory of the NAT tables", errno, std::to_string(bytes) + " bytes"};
	return region;
}

Region::Region(Region &&other) noexcept
{
	*this = std::move(other);
}

Region &Region::operator=(Region &&other) noexcept
{
	std::swap(memory_, other.memory_);
	std::swap(size_, other.size_);
	return *this;
}

Region::~Region()
{
	if (memory_)
		munmap(memory_, size_);
}

}  // namespace vx
