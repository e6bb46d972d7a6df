// The inside hosts of one worker: pairing, blocks, limits. Pure; the worker's thread.
//
// A subscriber exists while it has a block, or for ever when a forward leads to it. Its blocks come from the shared
// PortBlocks; each grant and release leaves a record, and waits when the records are full.
#pragma once

#include "log_records.h"
#include "config.h"
#include "hash_index.h"
#include "memory.h"
#include "port_blocks.h"
#include "stats.h"
#include "tables.h"

namespace vx::nat {

class Subscribers {
public:
	// `mappings`: how many there may be of them.
	static uint32_t capacity(const Config &config, uint32_t blocks, uint32_t mappings, size_t forwards);
	Subscribers(Arena &arena, const Config &config, PortBlocks &blocks, uint32_t capacity, Stats &stats);

	uint32_t find(uint32_t realm, uint32_t inside_be) const;
	// kNone: no room.
	uint32_t find_or_add(uint32_t realm, uint32_t inside_be);
	// Forgets it when nothing is left of it.
	void release_if_idle(uint32_t subscriber);

	struct Port {
		int refused;  // -1: granted; else enum vx_drop
		uint16_t address;
		uint16_t port;
	};
	// A port of the subscriber's blocks, of a new block when none has one.
	Port take_port(uint32_t subscriber, uint8_t protocol, uint16_t inside_port, uint64_t now_ns);
	// The subscriber stays, until release_if_idle.
	void give_back_port(uint32_t subscriber, uint8_t protocol, uint16_t address, uint16_t port, uint64_t now_ns);

	// Blocks whose release waited for room in the records, at most `budget` of them. False: there are more, and room.
	bool retry_releases(uint64_t now_ns, uint32_t budget);

	Subscriber &operator[](uint32_t subscriber) { return slab_[subscriber]; }
	const Subscriber &operator[](uint32_t subscriber) const { return slab_[subscriber]; }
	void prefetch(uint32_t number) const { slab_.prefetch(number); }
	void prefetch_find(uint32_t realm, uint32_t inside_be) const { index_.prefetch(hash(realm, inside_be)); }
	// The subscriber most likely to be it; kNone: there is none.
	uint32_t prefetch_record(uint32_t realm, uint32_t inside_be) const
	{
		const uint32_t number = index_.likely(hash(realm, inside_be));
		if (number != kNone)
			slab_.prefetch(number);
		return number;
	}
	uint32_t count() const { return slab_.used(); }
	uint32_t with_blocks() const { return with_blocks_; }
	uint32_t top() const { return slab_.top(); }
	LogRecords &records() { return records_; }
	const LogRecords &records() const { return records_; }

private:
	enum class Range : uint8_t { any, low, high };
	struct Wanted {
		uint32_t protocol;
		Range range;
		int parity;  // 0, 1; -1: either
	};
	uint64_t hash(uint32_t realm, uint32_t inside_be) const { return hash_words(key_, realm, inside_be); }
	// A port of the blocks the subscriber has, on its own address or on others; 0: none.
	Port pick(const Subscriber &subscriber, const Wanted &wanted, bool own_address);
	uint64_t usable(uint32_t block, uint32_t word, const Wanted &wanted) const;
	uint32_t count_usable(uint32_t block, const Wanted &wanted) const;
	// -1: granted; else enum vx_drop.
	int add_block(uint32_t number, bool low, bool own_address, uint64_t now_ns);
	uint32_t grant_anywhere(const Subscriber &subscriber, bool low);
	bool any_low_ports(uint32_t realm) const;
	void write_record(uint32_t block, bool granted, uint64_t now_ns);
	void release_block(uint32_t block, uint64_t now_ns);

	const Config &config_;
	PortBlocks &blocks_;
	Slab<Subscriber, &Subscriber::free_next> slab_;
	HashIndex index_;
	LogRecords records_;
	Stats &stats_;
	Key key_;
	Random random_;
	uint32_t with_blocks_ = 0;
	uint32_t incarnations_ = 0;
	// By pool and range: PortBlocks::releases() + 1 when no address had a block left. While nothing is released
	// since, nobody need look again: a full pool of thousands of addresses would cost every refused packet dearly.
	uint64_t *exhausted_;
	uint32_t releases_waiting_ = 0;  // block number + 1
};

}  // namespace vx::nat
