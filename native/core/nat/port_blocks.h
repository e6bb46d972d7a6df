// The public side that all workers share: pool addresses, the blocks their ports are granted in, static forwards.
//
// Written by several workers' threads at once, without a lock; read also by whoever steers: `owners` is the caller's, so
// that it may be the map port_owners, which XDP reads.
//
// A block is `block_size` ports of one address, for all protocols together, and belongs to one subscriber and so to one
// worker. Which blocks are free is one atomic bitmap an address; whoever clears a bit has the block. The owner is
// stored before any packet with its ports can leave, so that a reply always finds it. Everything else of a block is its
// owner's alone: the acquire and release of its bit carry it from one owner to the next.
//
// No block rests by itself: it is released when the last of its mappings has rested, so every port of it has.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "../../../bpf/abi/abi.h"
#include "config.h"
#include "memory.h"

namespace vx::nat {

inline constexpr uint64_t kEvenPorts = 0x5555555555555555u;  // of a word of 64
inline constexpr uint16_t kNoAddress = UINT16_MAX;
inline constexpr uint32_t kNoWorker = UINT32_MAX;

// TCP, UDP and ICMP each have the ports of a block to themselves.
inline constexpr uint32_t kProtocolClasses = 3;
inline uint32_t protocol_class(uint8_t protocol)
{
	return protocol == 6 ? 0 : protocol == 17 ? 1 : 2;
}

struct Block {
	uint32_t subscriber;
	uint32_t next;    // of the subscriber; number + 1
	uint32_t in_use;  // mappings, resting ones too
	uint32_t waiting; // its release waits for room in the records: next of those, number + 1
	bool granted;
	bool release_waits;
	uint16_t free[kProtocolClasses][2];  // even and odd ports
	uint64_t released_ns;  // the last time, as its record says; the next grant is later
};

class PortBlocks {
public:
	static size_t bytes_needed(const PoolConfig &config);
	// How many addresses there are at most, of pools and of forwards: the length of `owners`.
	static uint32_t addresses_most(const PoolConfig &config);
	// `memory` and `owners` are zeroed and outlive this. owners[address].worker[port / block_size()] is the worker
	// that has the block, + 1, or 0; it is written before the block's first packet can leave.
	PortBlocks(const PoolConfig &config, std::span<std::byte> memory, std::span<vx_port_owners> owners);
	PortBlocks(const PortBlocks &) = delete;

	uint32_t workers() const { return workers_; }
	uint32_t block_size() const { return block_size_; }
	uint32_t blocks_per_address() const { return blocks_per_address_; }
	uint32_t addresses() const { return address_count_; }
	uint32_t address_be(uint16_t address) const { return addresses_[address]; }
	// kNoAddress: not one of ours.
	uint16_t find_address(uint32_t address_be) const;

	// The worker that owns a public port now; kNoWorker: nobody.
	uint32_t owner(uint16_t address, uint8_t protocol, uint16_t port) const;

	struct ForwardPlace {
		uint32_t worker;
		uint32_t number;  // in the configuration's list
	};
	// nullptr: no static forward there.
	const ForwardPlace *find_forward(uint32_t address_be, uint8_t protocol, uint16_t port) const;

	// The pools a realm may use, by number.
	bool pool_serves(uint32_t pool, uint32_t realm) const;
	uint32_t pools() const { return pool_count_; }
	std::span<const uint16_t> pool_addresses(uint32_t pool) const;

	// A free block of the address within the pool's range, for `worker`; kNone: there is none. `low`: only of ports
	// below 1024; else only of those above. `turn` is random: which one is tried first.
	uint32_t grant(uint32_t pool, uint16_t address, bool low, uint32_t worker, uint32_t turn);
	void release(uint32_t block, uint64_t now_ns);
	bool pool_has_low_ports(uint32_t pool) const { return pools_[pool].first_low != pools_[pool].end_low; }

	Block &block(uint32_t number) { return blocks_[number]; }
	uint16_t address_of_block(uint32_t number) const { return static_cast<uint16_t>(number / blocks_per_address_); }
	uint16_t first_port_of_block(uint32_t number) const
	{
		return static_cast<uint16_t>(number % blocks_per_address_ * block_size_);
	}
	uint32_t block_of_port(uint16_t address, uint16_t port) const
	{
		return address * blocks_per_address_ + port / block_size_;
	}
	uint32_t total_blocks() const { return total_blocks_; }  // that can be granted at all
	uint32_t free_blocks(uint16_t address) const;
	// How many blocks were released so far, by any worker: what was taken when this is read is taken until it
	// changes.
	uint64_t releases() const { return releases_.load(std::memory_order_acquire); }

	// Of a granted block, its owner's alone: bit i is set while port i is free for the protocol.
	std::span<const uint64_t> free_ports(uint32_t block, uint32_t protocol_class) const;
	void take_port(uint32_t block, uint32_t protocol_class, uint32_t port_in_block);
	void give_back_port(uint32_t block, uint32_t protocol_class, uint32_t port_in_block);
	// Head of the mappings that have the port, number + 1; 0: none.
	uint32_t &mappings_at(uint16_t address, uint16_t port) { return mappings_[address * 65536u + port]; }
	void prefetch_port(uint16_t address, uint16_t port) const
	{
		__builtin_prefetch(&mappings_[address * 65536u + port]);
	}

private:
	struct PoolPlace {
		uint32_t first_address, address_count;          // in pool_addresses_
		uint32_t first_realm, realm_count;              // in realms_; none: any
		uint32_t first_low, end_low, first_high, end_high;  // blocks
	};
	struct ForwardEntry {
		uint64_t key;  // 0: free
		ForwardPlace place;
	};
	struct AddressEntry {
		uint32_t address_be;
		uint32_t number;  // + 1; 0: free
	};

	size_t carve(const PoolConfig &config, Arena &arena);
	void add_pool(const Pool &pool, PoolPlace &place);
	uint16_t add_address(uint32_t address_be);
	void add_forwards(const PoolConfig &config);
	size_t block_count() const { return size_t{address_count_max_} * blocks_per_address_; }
	std::atomic_ref<uint8_t> owner_of(uint16_t address, uint32_t block) const
	{
		return std::atomic_ref<uint8_t>(owners_[address].worker[block]);
	}
	uint64_t *free_words_of(uint32_t block, uint32_t protocol_class) const
	{
		return free_ports_ + (size_t{block} * kProtocolClasses + protocol_class) * block_words_;
	}
	std::atomic<uint64_t> *free_bits(uint16_t address) { return free_ + size_t{address} * free_words_; }
	uint32_t take_free(uint16_t address, uint32_t first, uint32_t end, uint32_t turn);

	uint32_t workers_, block_size_, blocks_per_address_;
	uint32_t free_words_;         // of an address's bitmap of blocks
	uint32_t block_words_;        // of a block's bitmap of ports
	uint32_t address_count_max_ = 0, address_count_ = 0;
	uint32_t pool_count_ = 0, total_blocks_ = 0, pool_address_count_ = 0, realm_count_ = 0;
	uint32_t address_table_size_ = 0, forward_table_size_ = 0;

	uint32_t *addresses_ = nullptr;
	AddressEntry *address_table_ = nullptr;
	ForwardEntry *forward_table_ = nullptr;
	PoolPlace *pools_ = nullptr;
	uint16_t *pool_addresses_ = nullptr;
	RealmRange *realms_ = nullptr;
	std::atomic<uint64_t> *free_ = nullptr;
	std::span<vx_port_owners> owners_;
	Block *blocks_ = nullptr;
	uint64_t *free_ports_ = nullptr;
	uint64_t *masked_ = nullptr;  // ports never allocated: forwards', 0
	uint32_t *mappings_ = nullptr;
	alignas(kCacheLine) std::atomic<uint64_t> releases_{0};
};

}  // namespace vx::nat
