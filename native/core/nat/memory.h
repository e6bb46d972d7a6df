// What the NAT engine lives in: one region the caller gives it at start, carved once. Pure; the worker's thread.
//
// The caller chooses pages, NUMA node and pre-faulting; the engine never asks for memory again. The region must be
// zeroed: every table here is valid, and empty, as zeroes, so that starting touches nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

namespace vx::nat {

inline constexpr uint32_t kNone = UINT32_MAX;
inline constexpr size_t kCacheLine = 64;

// An invariant, also in production: going on with a broken table would hand one subscriber's packets to another.
inline void require(bool holds)
{
	if (!holds) [[unlikely]]
		abort();
}

class Arena {
public:
	Arena() = default;  // measures only
	explicit Arena(std::span<std::byte> region) : base_(region.data()), size_(region.size())
	{
		require(reinterpret_cast<uintptr_t>(base_) % kCacheLine == 0);
	}

	template <typename T>
	T *take(size_t count)
	{
		used_ = (used_ + kCacheLine - 1) / kCacheLine * kCacheLine;
		std::byte *at = base_ ? base_ + used_ : nullptr;
		used_ += count * sizeof(T);
		require(!base_ || used_ <= size_);
		return reinterpret_cast<T *>(at);
	}

	size_t used() const { return used_; }

private:
	std::byte *base_ = nullptr;
	size_t size_ = 0;
	size_t used_ = 0;
};

// Records of one kind by number. `link` is the record's field that chains free ones.
template <typename T, uint32_t T::*link>
class Slab {
public:
	Slab(Arena &arena, uint32_t capacity) : items_(arena.take<T>(capacity)), capacity_(capacity) {}

	bool full() const { return used_ == capacity_; }
	uint32_t used() const { return used_; }
	uint32_t capacity() const { return capacity_; }
	uint32_t top() const { return top_; }  // numbers handed out so far are below

	uint32_t take()
	{
		require(!full());
		used_++;
		if (free_ == kNone)
			return top_++;
		const uint32_t number = free_;
		free_ = items_[number].*link;
		return number;
	}

	void give_back(uint32_t number)
	{
		items_[number] = T{};
		items_[number].*link = free_;
		free_ = number;
		used_--;
	}

	T *data() { return items_; }
	T &operator[](uint32_t number) { return items_[number]; }
	const T &operator[](uint32_t number) const { return items_[number]; }

	void prefetch(uint32_t number) const { __builtin_prefetch(&items_[number]); }
	void prefetch_next() const { __builtin_prefetch(&items_[free_ == kNone ? top_ : free_]); }

private:
	T *items_;
	uint32_t capacity_;
	uint32_t top_ = 0;
	uint32_t used_ = 0;
	uint32_t free_ = kNone;
};

}  // namespace vx::nat
