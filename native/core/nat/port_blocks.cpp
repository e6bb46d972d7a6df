// Pool addresses, port blocks, static forwards. See the header for who may call what.
#include "port_blocks.h"

#include <algorithm>
#include <new>

#include "steering.h"

namespace vx::nat {
namespace {

constexpr uint32_t kPorts = 65536;
constexpr uint32_t kLowPorts = 1024;

uint32_t table_size(size_t entries)
{
	uint32_t size = 16;
	while (size < entries * 2)
		size *= 2;
	return size;
}

uint64_t forward_key(uint32_t address_be, uint8_t protocol, uint16_t port)
{
	return uint64_t{1} << 56 | uint64_t{protocol} << 48 | uint64_t{address_be} << 16 | port;
}

uint32_t forward_hash(uint64_t key)
{
	return spread(static_cast<uint32_t>(key) ^ spread(static_cast<uint32_t>(key >> 32)));
}

size_t address_limit(const PoolConfig &config)
{
	size_t count = config.forwards.size();
	for (const Pool &pool : config.pools)
		count += pool.addresses_be.size();
	return count;
}

}  // namespace

size_t PortBlocks::bytes_needed(const PoolConfig &config)
{
	PortBlocks measured(config, {}, {});
	Arena arena;
	return measured.carve(config, arena);
}

uint32_t PortBlocks::addresses_most(const PoolConfig &config)
{
	return static_cast<uint32_t>(address_limit(config));
}

PortBlocks::PortBlocks(const PoolConfig &config, std::span<std::byte> memory, std::span<vx_port_owners> owners)
	: workers_(config.workers), block_size_(config.block_size), blocks_per_address_(kPorts / config.block_size),
	  free_words_((blocks_per_address_ + 63) / 64), block_words_(config.block_size / 64), owners_(owners)
{
	require(block_size_ >= kPortsPerBlockMin && block_size_ <= kPortsPerBlockMax &&
		(block_size_ & (block_size_ - 1)) == 0);
	require(workers_ >= 1 && workers_ <= kWorkersMax);
	if (memory.empty())
		return;  // only to measure
	Arena arena(memory);
	carve(config, arena);
	require(owners_.size() >= address_count_max_);
	for (const Pool &pool : config.pools)
		add_pool(pool, pools_[pool_count_++]);
	add_forwards(config);
}

size_t PortBlocks::carve(const PoolConfig &config, Arena &arena)
{
	address_count_max_ = static_cast<uint32_t>(address_limit(config));
	require(address_count_max_ < kNoAddress);
	address_table_size_ = table_size(address_count_max_);
	forward_table_size_ = table_size(config.forwards.size());
	size_t realms = 0;
	for (const Pool &pool : config.pools)
		realms += pool.realms.size();
	addresses_ = arena.take<uint32_t>(address_count_max_);
	address_table_ = arena.take<AddressEntry>(address_table_size_);
	forward_table_ = arena.take<ForwardEntry>(forward_table_size_);
	pools_ = arena.take<PoolPlace>(config.pools.size());
	pool_addresses_ = arena.take<uint16_t>(address_count_max_);
	realms_ = arena.take<RealmRange>(realms);
	free_ = arena.take<std::atomic<uint64_t>>(size_t{address_count_max_} * free_words_);
	blocks_ = arena.take<Block>(block_count());
	free_ports_ = arena.take<uint64_t>(block_count() * kProtocolClasses * block_words_);
	masked_ = arena.take<uint64_t>(size_t{address_count_max_} * (kPorts / 64));
	mappings_ = arena.take<uint32_t>(size_t{address_count_max_} * kPorts);
	return arena.used();
}

uint16_t PortBlocks::find_address(uint32_t address_be) const
{
	for (uint32_t at = spread(address_be);; at++) {
		const AddressEntry &entry = address_table_[at & (address_table_size_ - 1)];
		if (!entry.number)
			return kNoAddress;
		if (entry.address_be == address_be)
			return static_cast<uint16_t>(entry.number - 1);
	}
}

uint16_t PortBlocks::add_address(uint32_t address_be)
{
	const uint16_t known = find_address(address_be);
	if (known != kNoAddress)
		return known;
	const uint32_t number = address_count_++;
	addresses_[number] = address_be;
	masked_[size_t{number} * (kPorts / 64)] = 1;  // port 0 means none
	uint32_t at = spread(address_be);
	while (address_table_[at & (address_table_size_ - 1)].number)
		at++;
	address_table_[at & (address_table_size_ - 1)] = {address_be, number + 1};
	return static_cast<uint16_t>(number);
}

void PortBlocks::add_pool(const Pool &pool, PoolPlace &place)
{
	// Whole blocks within the range: partial ones are lost.
	const uint32_t first = (pool.first_port + block_size_ - 1) / block_size_;
	const uint32_t end = (pool.last_port + 1u) / block_size_;
	const uint32_t low = (kLowPorts + block_size_ - 1) / block_size_;
	place = {pool_address_count_, static_cast<uint32_t>(pool.addresses_be.size()),
		 realm_count_,        static_cast<uint32_t>(pool.realms.size()),
		 std::min(first, low), std::min(std::max(first, low), std::max(end, first)), 0, 0};
	place.first_low = first;
	place.end_low = std::max(first, std::min(end, low));
	place.first_high = std::max(first, low);
	place.end_high = std::max(place.first_high, end);
	for (const RealmRange &range : pool.realms)
		realms_[realm_count_++] = range;
	for (const uint32_t address_be : pool.addresses_be) {
		const uint16_t address = add_address(address_be);
		pool_addresses_[pool_address_count_++] = address;
		for (uint32_t block = first; block < end; block++) {
			const uint64_t bit = uint64_t{1} << block % 64;
			if (!(free_bits(address)[block / 64].fetch_or(bit, std::memory_order_relaxed) & bit))
				total_blocks_++;
		}
	}
}

void PortBlocks::add_forwards(const PoolConfig &config)
{
	uint32_t number = 0;
	for (const Forward &forward : config.forwards) {
		const uint16_t address = add_address(forward.public_be);
		masked_[size_t{address} * (kPorts / 64) + forward.public_port / 64] |= uint64_t{1}
										      << forward.public_port % 64;
		const uint64_t key = forward_key(forward.public_be, forward.protocol, forward.public_port);
		uint32_t at = forward_hash(key);
		while (forward_table_[at & (forward_table_size_ - 1)].key) {
			require(forward_table_[at & (forward_table_size_ - 1)].key != key);
			at++;
		}
		const uint32_t worker = owner_of_subscriber(forward.realm, forward.inside_be, workers_);
		forward_table_[at & (forward_table_size_ - 1)] = {key, {worker, number++}};
	}
}

const PortBlocks::ForwardPlace *PortBlocks::find_forward(uint32_t address_be, uint8_t protocol, uint16_t port) const
{
	const uint64_t key = forward_key(address_be, protocol, port);
	for (uint32_t at = forward_hash(key);; at++) {
		const ForwardEntry &entry = forward_table_[at & (forward_table_size_ - 1)];
		if (entry.key == key)
			return &entry.place;
		if (!entry.key)
			return nullptr;
	}
}

uint32_t PortBlocks::owner(uint16_t address, uint8_t protocol, uint16_t port) const
{
	if (const ForwardPlace *forward = find_forward(addresses_[address], protocol, port))
		return forward->worker;
	const uint8_t owner = owner_of(address, port / block_size_).load(std::memory_order_acquire);
	return owner ? owner - 1u : kNoWorker;
}

bool PortBlocks::pool_serves(uint32_t pool, uint32_t realm) const
{
	const PoolPlace &place = pools_[pool];
	for (uint32_t i = 0; i < place.realm_count; i++) {
		const RealmRange &range = realms_[place.first_realm + i];
		if (range.first <= realm && realm <= range.last)
			return true;
	}
	return place.realm_count == 0;
}

std::span<const uint16_t> PortBlocks::pool_addresses(uint32_t pool) const
{
	return {pool_addresses_ + pools_[pool].first_address, pools_[pool].address_count};
}

// Clears one set bit of [first, end), the search starting at a random place and going round once.
uint32_t PortBlocks::take_free(uint16_t address, uint32_t first, uint32_t end, uint32_t turn)
{
	if (first >= end)
		return kNone;
	std::atomic<uint64_t> *words = free_bits(address);
	const uint32_t start = first + turn % (end - first);
	const uint32_t rounds[2][2] = {{start, end}, {first, start}};
	for (const auto &round : rounds)
		for (uint32_t block = round[0]; block < round[1];) {
			uint64_t word = words[block / 64].load(std::memory_order_relaxed) >> block % 64;
			if (!word) {
				block = (block / 64 + 1) * 64;
				continue;
			}
			block += static_cast<uint32_t>(__builtin_ctzll(word));
			if (block >= round[1])
				break;
			const uint64_t bit = uint64_t{1} << block % 64;
			if (words[block / 64].fetch_and(~bit, std::memory_order_acquire) & bit)
				return block;
		}
	return kNone;
}

uint32_t PortBlocks::grant(uint32_t pool, uint16_t address, bool low, uint32_t worker, uint32_t turn)
{
	const PoolPlace &place = pools_[pool];
	const uint32_t block = low ? take_free(address, place.first_low, place.end_low, turn)
				   : take_free(address, place.first_high, place.end_high, turn);
	if (block == kNone)
		return kNone;
	const uint32_t number = address * blocks_per_address_ + block;
	require(!blocks_[number].granted && owner_of(address, block).load(std::memory_order_relaxed) == 0);
	blocks_[number] = {.subscriber = kNone,
			   .next = 0,
			   .in_use = 0,
			   .waiting = 0,
			   .granted = true,
			   .release_waits = false,
			   .free = {},
			   .released_ns = blocks_[number].released_ns};
	const uint64_t *masked = masked_ + size_t{address} * (kPorts / 64) + size_t{block} * block_words_;
	for (uint32_t protocol = 0; protocol < kProtocolClasses; protocol++)
		for (uint32_t i = 0; i < block_words_; i++) {
			const uint64_t word = free_words_of(number, protocol)[i] = ~masked[i];
			blocks_[number].free[protocol][0] += static_cast<uint16_t>(__builtin_popcountll(word & kEvenPorts));
			blocks_[number].free[protocol][1] += static_cast<uint16_t>(__builtin_popcountll(word & ~kEvenPorts));
		}
	owner_of(address, block).store(static_cast<uint8_t>(worker + 1), std::memory_order_release);
	return number;
}

void PortBlocks::release(uint32_t block, uint64_t now_ns)
{
	require(blocks_[block].granted && blocks_[block].in_use == 0);
	blocks_[block] = {};
	blocks_[block].released_ns = now_ns;
	const uint32_t within = block % blocks_per_address_;
	owner_of(address_of_block(block), within).store(0, std::memory_order_release);
	const uint64_t bit = uint64_t{1} << within % 64;
	const uint64_t before =
		free_bits(address_of_block(block))[within / 64].fetch_or(bit, std::memory_order_release);
	require(!(before & bit));
	releases_.fetch_add(1, std::memory_order_release);
}

uint32_t PortBlocks::free_blocks(uint16_t address) const
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < free_words_; i++)
		count += static_cast<uint32_t>(
			__builtin_popcountll(free_[size_t{address} * free_words_ + i].load(std::memory_order_relaxed)));
	return count;
}

std::span<const uint64_t> PortBlocks::free_ports(uint32_t block, uint32_t protocol_class) const
{
	return {free_words_of(block, protocol_class), block_words_};
}

void PortBlocks::take_port(uint32_t number, uint32_t protocol_class, uint32_t port_in_block)
{
	Block &block = blocks_[number];
	uint64_t &word = free_words_of(number, protocol_class)[port_in_block / 64];
	const uint64_t bit = uint64_t{1} << port_in_block % 64;
	require(word & bit);
	word &= ~bit;
	block.free[protocol_class][port_in_block & 1]--;
	block.in_use++;
}

void PortBlocks::give_back_port(uint32_t number, uint32_t protocol_class, uint32_t port_in_block)
{
	Block &block = blocks_[number];
	uint64_t &word = free_words_of(number, protocol_class)[port_in_block / 64];
	const uint64_t bit = uint64_t{1} << port_in_block % 64;
	require(!(word & bit) && block.in_use > 0);
	word |= bit;
	block.free[protocol_class][port_in_block & 1]++;
	block.in_use--;
}

}  // namespace vx::nat
