// The mappings of one worker. See the header.
#include "mappings.h"

#include <algorithm>

#include "headers.h"
#include "steering.h"

namespace vx::nat {

// A mapping outlives its sessions by port_hold: beside those that live as many rest as ended within that time, which with
// the default timers (pings aside) is at most half as many. Never more than there are ports.
uint32_t Mappings::capacity(const Config &config, const PortBlocks &blocks, size_t forwards)
{
	constexpr uint64_t kRestingMax = 4;  // for each session, where timers are short
	const Timeouts &timeouts = config.timeouts;
	const uint64_t shortest = std::min({timeouts.udp, timeouts.tcp_opening, timeouts.tcp_closing});
	const uint64_t held = std::clamp<uint64_t>(timeouts.port_hold, (shortest + 1) / 2, kRestingMax * shortest);
	const uint64_t wanted = config.sessions_max + config.sessions_max * held / shortest;
	const uint64_t ports = uint64_t{blocks.total_blocks()} * blocks.block_size() * kProtocolClasses;
	return static_cast<uint32_t>(std::min(wanted, ports) + forwards);
}

Mappings::Mappings(Arena &arena, const Config &config, PortBlocks &blocks, Subscribers &subscribers, size_t forwards,
		   Stats &stats)
	: config_(config), blocks_(blocks), subscribers_(subscribers), slab_(arena, capacity(config, blocks, forwards)),
	  index_(arena, slab_.capacity()), key_{config.key.words[1], config.key.words[0]},
	  hold_(ticks_for_seconds(config.timeouts.port_hold)), forward_mappings_(arena.take<uint32_t>(forwards)),
	  stats_(stats)
{
}

uint32_t Mappings::find_outside(uint16_t address, uint8_t protocol, uint16_t port) const
{
	if (const auto *forward = blocks_.find_forward(blocks_.address_be(address), protocol, port))
		return forward_mappings_[forward->number] - 1;
	for (uint32_t at = blocks_.mappings_at(address, port); at; at = slab_[at - 1].next_same_port)
		if (slab_[at - 1].protocol == protocol)
			return slab_[at - 1].state == MappingState::live ? at - 1 : kNone;
	return kNone;
}

uint32_t Mappings::find_any(uint32_t subscriber, uint8_t protocol, uint16_t inside_port_be) const
{
	return index_.find(hash(subscriber, protocol, inside_port_be), [&](uint32_t number) {
		const MappingRecord &mapping = slab_[number];
		return mapping.subscriber == subscriber && mapping.inside_port_be == inside_port_be &&
		       mapping.protocol == protocol;
	});
}

uint32_t Mappings::find_inside(uint32_t subscriber, uint8_t protocol, uint16_t inside_port_be) const
{
	const uint32_t number = find_any(subscriber, protocol, inside_port_be);
	return number != kNone && slab_[number].state == MappingState::resting ? kNone : number;
}

Mappings::Made Mappings::find_or_make(uint32_t subscriber, uint8_t protocol, uint16_t inside_port_be, uint64_t now_ns)
{
	const bool shared = config_.mapping == Mapping::endpoint_independent;
	// A forward's mapping is found in either mode: its host always speaks from the forwarded port.
	if (shared || subscribers_[subscriber].permanent) {
		const uint32_t known = find_any(subscriber, protocol, inside_port_be);
		if (known != kNone) {
			if (slab_[known].state == MappingState::resting)
				revive(known);
			return {-1, known};
		}
	}
	if (slab_.full())
		return {VX_DROP_session_table_full, kNone};
	const auto port = subscribers_.take_port(subscriber, protocol, host16(inside_port_be), now_ns);
	if (port.refused >= 0)
		return {port.refused, kNone};
	blocks_.prefetch_port(port.address, port.port);
	const uint32_t number = slab_.take();
	slab_.prefetch_next();
	if (shared)
		index_.insert(hash(subscriber, protocol, inside_port_be), number);
	subscribers_[subscriber].mappings++;
	stats_.mappings_created++;
	uint32_t &head = blocks_.mappings_at(port.address, port.port);
	slab_[number] = {.subscriber = subscriber,
			 .inside_port_be = inside_port_be,
			 .protocol = protocol,
			 .state = MappingState::live,
			 .address = port.address,
			 .public_port = port.port,
			 .next_same_port = head,
			 .holders = 0,
			 .list = kNone,
			 .list_previous = kNone,
			 .resting_since = 0};
	head = number + 1;
	return {-1, number};
}

void Mappings::add_forwards(const std::vector<Forward> &forwards)
{
	for (size_t i = 0; i < forwards.size(); i++) {
		const Forward &forward = forwards[i];
		if (owner_of_subscriber(forward.realm, forward.inside_be, blocks_.workers()) != config_.worker)
			continue;
		const uint32_t subscriber = subscribers_.find_or_add(forward.realm, forward.inside_be);
		require(subscriber != kNone);
		subscribers_[subscriber].permanent = true;
		subscribers_[subscriber].mappings++;
		const uint16_t inside_port_be = host16(forward.inside_port);
		const uint32_t number = slab_.take();
		slab_[number] = {.subscriber = subscriber,
				 .inside_port_be = inside_port_be,
				 .protocol = forward.protocol,
				 .state = MappingState::forward,
				 .address = blocks_.find_address(forward.public_be),
				 .public_port = forward.public_port,
				 .next_same_port = 0,
				 .holders = 0,
				 .list = kNone,
				 .list_previous = kNone,
				 .resting_since = 0};
		forward_mappings_[i] = number + 1;
		// Of two forwards to one inside port its own packets leave by the first.
		if (find_any(subscriber, forward.protocol, inside_port_be) == kNone)
			index_.insert(hash(subscriber, forward.protocol, inside_port_be), number);
	}
}

void Mappings::rest(uint32_t number, Ticks now)
{
	MappingRecord &mapping = slab_[number];
	require(mapping.holders == 0 && mapping.list == kNone);
	if (mapping.state == MappingState::forward)
		return;
	require(mapping.state == MappingState::live);
	mapping.state = MappingState::resting;
	mapping.resting_since = now;
	mapping.list = kNone;
	mapping.list_previous = rest_last_;
	(rest_last_ == kNone ? rest_first_ : slab_[rest_last_].list) = number;
	rest_last_ = number;
}

void Mappings::unlink_resting(uint32_t number)
{
	MappingRecord &mapping = slab_[number];
	(mapping.list_previous == kNone ? rest_first_ : slab_[mapping.list_previous].list) = mapping.list;
	(mapping.list == kNone ? rest_last_ : slab_[mapping.list].list_previous) = mapping.list_previous;
	mapping.list = mapping.list_previous = kNone;
}

void Mappings::revive(uint32_t number)
{
	unlink_resting(number);
	slab_[number].state = MappingState::live;
	stats_.mappings_revived++;
}

bool Mappings::free_rested(Ticks now, uint64_t now_ns, uint32_t budget)
{
	while (rest_first_ != kNone && now - slab_[rest_first_].resting_since >= hold_) {
		if (!budget--)
			return false;
		const uint32_t number = rest_first_, next = slab_[number].list;
		if (next != kNone)
			prefetch_finish(next);
		unlink_resting(number);
		finish(number, now_ns);
	}
	return true;
}

// The lines finish() will touch, and the record after the next.
void Mappings::prefetch_finish(uint32_t number) const
{
	const MappingRecord &mapping = slab_[number];
	blocks_.prefetch_port(mapping.address, mapping.public_port);
	index_.prefetch(hash(mapping.subscriber, mapping.protocol, mapping.inside_port_be));
	subscribers_.prefetch(mapping.subscriber);
	if (mapping.list != kNone)
		slab_.prefetch(mapping.list);
}

void Mappings::finish(uint32_t number, uint64_t now_ns)
{
	const MappingRecord mapping = slab_[number];
	uint32_t *link = &blocks_.mappings_at(mapping.address, mapping.public_port);
	while (*link != number + 1)
		link = &slab_[*link - 1].next_same_port;
	*link = mapping.next_same_port;
	if (config_.mapping == Mapping::endpoint_independent)
		index_.erase(hash(mapping.subscriber, mapping.protocol, mapping.inside_port_be), number);
	slab_.give_back(number);
	subscribers_[mapping.subscriber].mappings--;
	subscribers_.give_back_port(mapping.subscriber, mapping.protocol, mapping.address, mapping.public_port, now_ns);
	subscribers_.release_if_idle(mapping.subscriber);
	stats_.mappings_expired++;
}

}  // namespace vx::nat
