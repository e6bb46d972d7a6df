// Pairing, blocks and ports of inside hosts. See the header.
#include "subscribers.h"

#include <algorithm>

#include "headers.h"

namespace vx::nat {
namespace {

constexpr uint32_t kLowPorts = 1024;

// The place of the n-th set bit.
uint32_t nth_bit(uint64_t word, uint32_t n)
{
	while (n--)
		word &= word - 1;
	return static_cast<uint32_t>(__builtin_ctzll(word));
}

}  // namespace

uint32_t Subscribers::capacity(const Config &config, uint32_t blocks, uint32_t mappings, size_t forwards)
{
	return std::min(blocks, std::max(config.sessions_max * 2, mappings)) + static_cast<uint32_t>(forwards) + 1;
}

Subscribers::Subscribers(Arena &arena, const Config &config, PortBlocks &blocks, uint32_t capacity, Stats &stats)
	: config_(config), blocks_(blocks), slab_(arena, capacity), index_(arena, capacity),
	  records_(arena, config.records), stats_(stats), key_(config.key),
	  random_({config.key.words[0] ^ 0x706f727473u, config.key.words[1]}),
	  exhausted_(arena.take<uint64_t>(size_t{blocks.pools()} * 2))
{
}

uint32_t Subscribers::find(uint32_t realm, uint32_t inside_be) const
{
	return index_.find(hash(realm, inside_be), [&](uint32_t number) {
		return slab_[number].inside_be == inside_be && slab_[number].realm == realm;
	});
}

uint32_t Subscribers::find_or_add(uint32_t realm, uint32_t inside_be)
{
	const uint32_t known = find(realm, inside_be);
	if (known != kNone || slab_.full())
		return known;
	const uint32_t number = slab_.take();
	slab_[number] = Subscriber{};
	slab_[number].realm = realm;
	slab_[number].inside_be = inside_be;
	slab_[number].address = kNoAddress;
	slab_[number].in_use = true;
	slab_[number].incarnation = ++incarnations_;
	index_.insert(hash(realm, inside_be), number);
	return number;
}

void Subscribers::release_if_idle(uint32_t number)
{
	const Subscriber &subscriber = slab_[number];
	if (subscriber.permanent || subscriber.blocks || subscriber.mappings || subscriber.sessions)
		return;
	index_.erase(hash(subscriber.realm, subscriber.inside_be), number);
	slab_.give_back(number);
}

// The free ports of one word of a block that fit.
uint64_t Subscribers::usable(uint32_t block, uint32_t word, const Wanted &wanted) const
{
	uint64_t free = blocks_.free_ports(block, wanted.protocol)[word];
	if (wanted.parity >= 0)
		free &= wanted.parity ? ~kEvenPorts : kEvenPorts;
	const uint32_t first = blocks_.first_port_of_block(block) + word * 64;
	// 1024 is a multiple of 64: a word is on one side of it.
	if (wanted.range == Range::low && first >= kLowPorts)
		return 0;
	return wanted.range == Range::high && first < kLowPorts ? 0 : free;
}

// How many ports of a block fit.
uint32_t Subscribers::count_usable(uint32_t block, const Wanted &wanted) const
{
	const uint32_t first = blocks_.first_port_of_block(block), end = first + blocks_.block_size();
	uint32_t count = 0;
	if (wanted.range != Range::any && first < kLowPorts && end > kLowPorts) {
		for (uint32_t word = 0; word < blocks_.block_size() / 64; word++)
			count += static_cast<uint32_t>(__builtin_popcountll(usable(block, word, wanted)));
		return count;
	}
	if (wanted.range != Range::any && (wanted.range == Range::low) != (first < kLowPorts))
		return 0;
	const auto &free = blocks_.block(block).free[wanted.protocol];
	return wanted.parity >= 0 ? free[wanted.parity] : uint32_t{free[0]} + free[1];
}

// Uniform over all ports that fit: RFC 6056's Algorithm 1, without its retries.
Subscribers::Port Subscribers::pick(const Subscriber &subscriber, const Wanted &wanted, bool own_address)
{
	const auto usable_of = [&](uint32_t block) {
		const bool own = blocks_.address_of_block(block) == subscriber.address;
		return own == own_address ? count_usable(block, wanted) : 0;
	};
	uint32_t count = 0;
	for (uint32_t at = subscriber.first_block; at; at = blocks_.block(at - 1).next)
		count += usable_of(at - 1);
	if (!count)
		return {VX_DROP_no_port, 0, 0};
	uint32_t nth = random_.below(count);
	uint32_t block = subscriber.first_block - 1;
	for (uint32_t here; nth >= (here = usable_of(block)); block = blocks_.block(block).next - 1)
		nth -= here;
	for (uint32_t word = 0;; word++) {
		require(word < blocks_.block_size() / 64);
		const uint64_t free = usable(block, word, wanted);
		const uint32_t here = static_cast<uint32_t>(__builtin_popcountll(free));
		if (nth >= here) {
			nth -= here;
			continue;
		}
		const uint32_t port = word * 64 + nth_bit(free, nth);
		blocks_.take_port(block, wanted.protocol, port);
		return {-1, blocks_.address_of_block(block),
			static_cast<uint16_t>(blocks_.first_port_of_block(block) + port)};
	}
}

Subscribers::Port Subscribers::take_port(uint32_t number, uint8_t protocol, uint16_t inside_port, uint64_t now_ns)
{
	Subscriber &subscriber = slab_[number];
	const bool query = protocol == IPPROTO_ICMP;  // an identifier has neither parity nor range
	Wanted wanted{protocol_class(protocol), Range::high, query ? -1 : inside_port & 1};
	if (query)
		wanted.range = Range::any;
	else if (inside_port < kLowPorts && any_low_ports(subscriber.realm))
		wanted.range = Range::low;
	const auto from_blocks = [&](bool own_address) {
		Port port = pick(subscriber, wanted, own_address);
		if (port.refused < 0 || wanted.parity < 0)
			return port;
		Wanted either = wanted;
		either.parity = -1;
		return pick(subscriber, either, own_address);
	};
	int refused = VX_DROP_no_port;
	// A low port that cannot be kept low becomes any: RFC 4787 REQ-3 prefers that to a refusal.
	for (;;) {
		for (const bool own_address : {true, false}) {
			Port port = from_blocks(own_address);
			if (port.refused >= 0) {
				refused = add_block(number, wanted.range == Range::low, own_address, now_ns);
				if (refused < 0)
					port = from_blocks(own_address);
				if (refused < 0 && port.refused >= 0)  // nothing in it fits: forwards have it all
					release_block(subscriber.first_block - 1, now_ns);
			}
			if (port.refused < 0)
				return port;
			if (config_.pair_strictly)
				break;
		}
		if (wanted.range != Range::low)
			return {refused < 0 ? static_cast<int>(VX_DROP_no_port) : refused, 0, 0};
		wanted.range = Range::any;
	}
}

bool Subscribers::any_low_ports(uint32_t realm) const
{
	for (uint32_t pool = 0; pool < blocks_.pools(); pool++)
		if (blocks_.pool_serves(pool, realm) && blocks_.pool_has_low_ports(pool))
			return true;
	return false;
}

int Subscribers::add_block(uint32_t number, bool low, bool own_address, uint64_t now_ns)
{
	Subscriber &subscriber = slab_[number];
	if (subscriber.blocks >= config_.blocks_per_subscriber)
		return VX_DROP_no_port;
	if (records_.full()) {
		stats_.records_full++;
		return VX_DROP_no_block;
	}
	uint32_t block = kNone;
	if (own_address && subscriber.address != kNoAddress) {
		for (uint32_t pool = 0; pool < blocks_.pools() && block == kNone; pool++) {
			const auto addresses = blocks_.pool_addresses(pool);
			if (blocks_.pool_serves(pool, subscriber.realm) &&
			    std::find(addresses.begin(), addresses.end(), subscriber.address) != addresses.end())
				block = blocks_.grant(pool, subscriber.address, low, config_.worker,
						      static_cast<uint32_t>(random_.next()));
		}
	} else {
		block = grant_anywhere(subscriber, low);
	}
	if (block == kNone)
		return VX_DROP_no_block;
	Block &fresh = blocks_.block(block);
	fresh.subscriber = number;
	fresh.next = subscriber.first_block;
	subscriber.first_block = block + 1;
	with_blocks_ += subscriber.blocks++ == 0;
	if (subscriber.address == kNoAddress)
		subscriber.address = blocks_.address_of_block(block);
	stats_.blocks_granted++;
	// The worker that released it may have looked at the clock later.
	write_record(block, true, std::max(now_ns, fresh.released_ns + 1));
	return -1;
}

// Of two random addresses the emptier one, so that addresses fill evenly; when both are full, the first that is not.
uint32_t Subscribers::grant_anywhere(const Subscriber &subscriber, bool low)
{
	for (uint32_t pool = 0; pool < blocks_.pools(); pool++) {
		const auto addresses = blocks_.pool_addresses(pool);
		uint64_t &exhausted = exhausted_[pool * 2 + low];
		const uint64_t releases = blocks_.releases();
		if (addresses.empty() || exhausted == releases + 1 || !blocks_.pool_serves(pool, subscriber.realm))
			continue;
		const uint64_t dice = random_.next();
		const uint32_t count = static_cast<uint32_t>(addresses.size());
		const uint32_t one = static_cast<uint32_t>((dice & 0xffff) % count);
		const uint32_t two = static_cast<uint32_t>((dice >> 16 & 0xffff) % count);
		const uint32_t start =
			blocks_.free_blocks(addresses[one]) >= blocks_.free_blocks(addresses[two]) ? one : two;
		for (uint32_t i = 0; i < count; i++) {
			const uint16_t address = addresses[(start + i) % count];
			const uint32_t block =
				blocks_.grant(pool, address, low, config_.worker, static_cast<uint32_t>(dice >> 32));
			if (block != kNone)
				return block;
		}
		exhausted = releases + 1;
	}
	return kNone;
}

void Subscribers::give_back_port(uint32_t number, uint8_t protocol, uint16_t address, uint16_t port, uint64_t now_ns)
{
	const uint32_t block = blocks_.block_of_port(address, port);
	require(blocks_.block(block).subscriber == number);
	blocks_.give_back_port(block, protocol_class(protocol), port % blocks_.block_size());
	if (blocks_.block(block).in_use == 0)
		release_block(block, now_ns);
}

void Subscribers::release_block(uint32_t number, uint64_t now_ns)
{
	Block &block = blocks_.block(number);
	if (block.release_waits)
		return;
	if (records_.full()) {
		block.release_waits = true;
		block.waiting = releases_waiting_;
		releases_waiting_ = number + 1;
		return;
	}
	Subscriber &subscriber = slab_[block.subscriber];
	uint32_t *link = &subscriber.first_block;
	while (*link != number + 1)
		link = &blocks_.block(*link - 1).next;
	*link = block.next;
	if (!--subscriber.blocks) {
		subscriber.address = kNoAddress;
		with_blocks_--;
	}
	stats_.blocks_released++;
	write_record(number, false, now_ns);
	blocks_.release(number, now_ns);
}

bool Subscribers::retry_releases(uint64_t now_ns, uint32_t budget)
{
	while (releases_waiting_ && !records_.full()) {
		if (!budget--)
			return false;
		const uint32_t number = releases_waiting_ - 1;
		Block &block = blocks_.block(number);
		releases_waiting_ = block.waiting;
		block.release_waits = false;
		const uint32_t owner = block.subscriber;
		if (block.in_use == 0)
			release_block(number, now_ns);
		release_if_idle(owner);
	}
	return true;
}

void Subscribers::write_record(uint32_t block, bool granted, uint64_t now_ns)
{
	const Subscriber &subscriber = slab_[blocks_.block(block).subscriber];
	const uint16_t first = blocks_.first_port_of_block(block);
	records_.write({.time_ns = now_ns,
			.realm = subscriber.realm,
			.inside_be = subscriber.inside_be,
			.public_be = blocks_.address_be(blocks_.address_of_block(block)),
			.remote_be = 0,
			.first_port = first,
			.last_port = static_cast<uint16_t>(first + blocks_.block_size() - 1),
			.inside_port = 0,
			.remote_port = 0,
			.protocol = 0,
			.event = static_cast<uint8_t>(granted ? VX_NAT_BLOCK_GRANTED : VX_NAT_BLOCK_RELEASED),
			.pad = {}});
}

}  // namespace vx::nat
