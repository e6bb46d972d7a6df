// From a hash to the numbers of records that may have it: open addressing in cache lines. Pure; the worker's thread.
//
// A bucket is one cache line: twelve one-byte tags, compared at once, twelve record numbers, and how many records
// passed by because it was full. A lookup goes on to the next bucket only where some did, so that one line answers
// nearly always, misses included. (The shape is that of F14, Bronson and Shi 2019.) Sized for two thirds full, it costs
// eight bytes a record. The keys are in the records; the caller compares.
#pragma once

#include <cstdint>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "memory.h"

namespace vx::nat {

class HashIndex {
public:
	HashIndex(Arena &arena, uint32_t capacity)
		: bucket_count_(capacity / kFill + 2), buckets_(arena.take<Bucket>(bucket_count_))
	{
	}

	void prefetch(uint64_t hash) const { __builtin_prefetch(&buckets_[home(hash)]); }

	// The number for which `same(number)` holds, or kNone.
	template <typename Same>
	uint32_t find(uint64_t hash, Same &&same) const
	{
		for (uint32_t at = home(hash);; at = next(at)) {
			const Bucket &bucket = buckets_[at];
			for (uint32_t hits = bucket.matches(tag(hash)); hits; hits &= hits - 1) {
				const uint32_t number = bucket.numbers[__builtin_ctz(hits)];
				if (same(number)) [[likely]]
					return number;
			}
			if (!bucket.passed_by) [[likely]]
				return kNone;
		}
	}

	// The first candidate of the home bucket, only to prefetch its record; kNone: none.
	uint32_t likely(uint64_t hash) const
	{
		const Bucket &bucket = buckets_[home(hash)];
		const uint32_t hits = bucket.matches(tag(hash));
		return hits ? bucket.numbers[__builtin_ctz(hits)] : kNone;
	}

	// The key must not be there yet; the capacity must not be exceeded.
	void insert(uint64_t hash, uint32_t number)
	{
		for (uint32_t at = home(hash);; at = next(at)) {
			Bucket &bucket = buckets_[at];
			if (const uint32_t free = bucket.matches(0)) {
				const int place = __builtin_ctz(free);
				bucket.tags[place] = tag(hash);
				bucket.numbers[place] = number;
				return;
			}
			bucket.passed_by++;
			require(bucket.passed_by != 0);
		}
	}

	void erase(uint64_t hash, uint32_t number)
	{
		for (uint32_t at = home(hash);; at = next(at)) {
			Bucket &bucket = buckets_[at];
			for (uint32_t hits = bucket.matches(tag(hash)); hits; hits &= hits - 1) {
				const int place = __builtin_ctz(hits);
				if (bucket.numbers[place] == number) {
					bucket.tags[place] = 0;
					return;
				}
			}
			require(bucket.passed_by != 0);  // else the record was never in
			bucket.passed_by--;
		}
	}

private:
	static constexpr uint32_t kPlaces = 12;
	static constexpr uint32_t kFill = 8;  // records a bucket, when the table is full

	struct alignas(kCacheLine) Bucket {
		uint8_t tags[kPlaces];  // 0: free
		uint32_t passed_by;
		uint32_t numbers[kPlaces];

		uint32_t matches(uint8_t wanted) const
		{
#ifdef __SSE2__
			const __m128i line = _mm_load_si128(reinterpret_cast<const __m128i *>(tags));
			const __m128i equal = _mm_cmpeq_epi8(line, _mm_set1_epi8(static_cast<char>(wanted)));
			return static_cast<uint32_t>(_mm_movemask_epi8(equal)) & ((1u << kPlaces) - 1);
#else
			uint32_t hits = 0;
			for (uint32_t i = 0; i < kPlaces; i++)
				hits |= static_cast<uint32_t>(tags[i] == wanted) << i;
			return hits;
#endif
		}
	};
	static_assert(sizeof(Bucket) == kCacheLine);

	static uint8_t tag(uint64_t hash) { return static_cast<uint8_t>(hash | 0x80); }
	uint32_t home(uint64_t hash) const
	{
		return static_cast<uint32_t>((hash >> 32) * bucket_count_ >> 32);
	}
	uint32_t next(uint32_t at) const { return at + 1 == bucket_count_ ? 0 : at + 1; }

	uint32_t bucket_count_;
	Bucket *buckets_;
};

}  // namespace vx::nat
