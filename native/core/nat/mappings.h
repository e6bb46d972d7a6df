// Which public port stands for which inside port. Pure; the worker's thread.
//
// Found from inside by (subscriber, protocol, port), where mapping is endpoint-independent, and from outside by
// (address, protocol, port), in the array PortBlocks keeps, of which each port's mappings of several protocols are a
// chain. A mapping that ends rests: it keeps its port for `port_hold`, and the same inside tuple gets it back
// meanwhile.
#pragma once

#include "config.h"
#include "hash_index.h"
#include "port_blocks.h"
#include "subscribers.h"
#include "tables.h"

namespace vx::nat {

class Mappings {
public:
	static uint32_t capacity(const Config &config, const PortBlocks &blocks, size_t forwards);
	Mappings(Arena &arena, const Config &config, PortBlocks &blocks, Subscribers &subscribers, size_t forwards,
		 Stats &stats);

	// A live one; a resting one is not found from outside.
	uint32_t find_outside(uint16_t address, uint8_t protocol, uint16_t port) const;
	uint32_t find_inside(uint32_t subscriber, uint8_t protocol, uint16_t inside_port_be) const;

	struct Made {
		int refused;  // -1: made, found or revived; else enum vx_drop
		uint32_t number;
	};
	Made find_or_make(uint32_t subscriber, uint8_t protocol, uint16_t inside_port_be, uint64_t now_ns);
	// The mappings of the static forwards whose hosts are this worker's; called once, before any packet.
	void add_forwards(const std::vector<Forward> &forwards);

	// Its last session is gone.
	void rest(uint32_t mapping, Ticks now);
	// Frees ports that have rested long enough, at most `budget` of them; false: some are left.
	bool free_rested(Ticks now, uint64_t now_ns, uint32_t budget);

	MappingRecord &operator[](uint32_t number) { return slab_[number]; }
	const MappingRecord &operator[](uint32_t number) const { return slab_[number]; }
	uint32_t count() const { return slab_.used(); }
	uint32_t top() const { return slab_.top(); }
	void prefetch(uint32_t number) const { slab_.prefetch(number); }
	void prefetch_find(uint32_t subscriber, uint8_t protocol, uint16_t inside_port_be) const
	{
		index_.prefetch(hash(subscriber, protocol, inside_port_be));
	}

private:
	uint64_t hash(uint32_t subscriber, uint8_t protocol, uint16_t inside_port_be) const
	{
		return hash_words(key_, subscriber, uint32_t{protocol} << 16 | inside_port_be);
	}
	uint32_t find_any(uint32_t subscriber, uint8_t protocol, uint16_t inside_port_be) const;
	void revive(uint32_t number);
	void unlink_resting(uint32_t number);
	void prefetch_finish(uint32_t number) const;
	void finish(uint32_t number, uint64_t now_ns);

	const Config &config_;
	PortBlocks &blocks_;
	Subscribers &subscribers_;
	Slab<MappingRecord, &MappingRecord::list> slab_;
	HashIndex index_;
	Key key_;
	Ticks hold_;
	uint32_t rest_first_ = kNone, rest_last_ = kNone;
	uint32_t *forward_mappings_;  // by the forward's number in the configuration; + 1
	Stats &stats_;
};

}  // namespace vx::nat
