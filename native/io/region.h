// Memory straight from the kernel. Asked for by whoever makes NAT tables or room for packets, on the starting thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "result.h"

namespace vx {

// What the kernel says it can give without taking from anybody, in bytes; where it says nothing, no end of it.
uint64_t memory_available();

// When its pages are made: all at start, large ones where the kernel has them, or each when it is first touched.
enum class Pages { at_start, as_touched };

// Zeroed.
class Region {
public:
	static Result<Region> make(size_t bytes, Pages pages);
	Region() = default;
	Region(Region &&other) noexcept;
	Region &operator=(Region &&other) noexcept;
	~Region();
	std::span<std::byte> bytes() const { return {static_cast<std::byte *>(memory_), size_}; }

private:
	void *memory_ = nullptr;
	size_t size_ = 0;
};

}  // namespace vx
