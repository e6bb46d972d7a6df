// The sessions of one worker. See the header.
#include "sessions.h"

#include "checksums.h"

namespace vx::nat {

Sessions::Sessions(Arena &arena, const Config &config, const PortBlocks &blocks, Subscribers &subscribers,
		   Mappings &mappings, Stats &stats)
	: blocks_(blocks), subscribers_(subscribers), records_(subscribers.records()), recorded_(config.record_sessions),
	  mappings_(mappings), slab_(arena, config.sessions_max),
	  inside_(arena, config.sessions_max), outside_(arena, config.sessions_max),
	  remotes_(arena, config.filtering == Filtering::address_dependent ? config.sessions_max : 0, config.key),
	  wheel_(arena, slab_.data()), key_(config.key), udp_(ticks_for_seconds(config.timeouts.udp)),
	  icmp_(ticks_for_seconds(config.timeouts.icmp)), tcp_opening_(ticks_for_seconds(config.timeouts.tcp_opening)),
	  tcp_established_(ticks_for_seconds(config.timeouts.tcp_established)),
	  tcp_closing_(ticks_for_seconds(config.timeouts.tcp_closing)), stats_(stats)
{
	// All sessions of a mapping may end at once.
	require(!recorded_ || config.records >= std::min(config.sessions_per_subscriber, config.sessions_max));
}

uint32_t Sessions::find(const InsideKey &key, uint64_t hash) const
{
	return inside_.find(hash, [&](uint32_t number) {
		const Session &session = slab_[number];
		return session.inside_be == key.inside_be && session.remote_be == key.remote_be &&
		       session.inside_port_be == key.inside_port_be && session.remote_port_be == key.remote_port_be &&
		       session.realm == key.realm && session.protocol == key.protocol;
	});
}

uint32_t Sessions::find(const OutsideKey &key, uint64_t hash) const
{
	return outside_.find(hash, [&](uint32_t number) {
		const Session &session = slab_[number];
		return session.public_be == key.public_be && session.remote_be == key.remote_be &&
		       session.public_port_be == key.public_port_be && session.remote_port_be == key.remote_port_be &&
		       session.protocol == key.protocol;
	});
}

InsideKey Sessions::inside_key(const Session &session) const
{
	return {session.realm, session.inside_be, session.remote_be, session.inside_port_be, session.remote_port_be,
		session.protocol};
}

OutsideKey Sessions::outside_key(const Session &session) const
{
	return {session.public_be, session.remote_be, session.public_port_be, session.remote_port_be, session.protocol};
}

uint32_t Sessions::add(uint32_t mapping_number, const Remote &remote, bool from_inside, Ticks now, uint64_t now_ns)
{
	const uint32_t number = slab_.take();
	MappingRecord &mapping = mappings_[mapping_number];
	Subscriber &subscriber = subscribers_[mapping.subscriber];
	const uint32_t public_be = blocks_.address_be(mapping.address);
	const uint16_t public_port_be = host16(mapping.public_port);
	const uint64_t outside_hash =
		hash(OutsideKey{public_be, remote.address_be, public_port_be, remote.port_be, mapping.protocol});
	outside_.prefetch(outside_hash);
	const uint16_t address_delta = delta_of_address(subscriber.inside_be, public_be);
	const uint16_t port_delta = delta_of_word(mapping.inside_port_be, public_port_be);
	Session &session = slab_[number];
	session = {.realm = subscriber.realm,
		   .inside_be = subscriber.inside_be,
		   .remote_be = remote.address_be,
		   .public_be = public_be,
		   .inside_port_be = mapping.inside_port_be,
		   .remote_port_be = remote.port_be,
		   .public_port_be = public_port_be,
		   .protocol = mapping.protocol,
		   .tcp = mapping.protocol == IPPROTO_TCP ? TcpState::opening : TcpState::none,
		   .address_delta = address_delta,
		   // ICMP has no pseudo-header.
		   .transport_delta = mapping.protocol == IPPROTO_ICMP ? port_delta : sum_of(address_delta, port_delta),
		   .last_seen = now,
		   .subscriber = mapping.subscriber,
		   .mapping = mapping_number,
		   .created = now,
		   .timer_next = 0,
		   .timer_previous = 0,
		   .mapping_next = mapping.list,
		   .mapping_previous = kNone,
		   .timer_slot = 0,
		   .flags = static_cast<uint16_t>(kSessionLive | (remote.is_pool_address ? kSessionToPool : 0))};
	if (mapping.list != kNone)
		slab_[mapping.list].mapping_previous = number;
	mapping.list = number;
	if (from_inside)
		hold_mapping(session);
	subscriber.sessions++;
	inside_.insert(hash(inside_key(session)), number);
	remotes_.add(mapping_number, remote.address_be);
	wheel_.arm(number, now, timeout(session));
	outside_.insert(outside_hash, number);
	stats_.sessions_created++;
	record(session, VX_NAT_SESSION_CREATED, now_ns);
	return number;
}

void Sessions::record(const Session &session, vx_nat_event event, uint64_t now_ns)
{
	if (!recorded_) [[likely]]
		return;
	records_.write({.time_ns = now_ns,
			.realm = session.realm,
			.inside_be = session.inside_be,
			.public_be = session.public_be,
			.remote_be = session.remote_be,
			.first_port = host16(session.public_port_be),
			.last_port = host16(session.public_port_be),
			.inside_port = host16(session.inside_port_be),
			.remote_port = host16(session.remote_port_be),
			.protocol = session.protocol,
			.event = static_cast<uint8_t>(event),
			.pad = {}});
}

// Whether there is room for its end, and for those that go with it.
bool Sessions::can_be_recorded(uint32_t number) const
{
	if (!recorded_) [[likely]]
		return true;
	const Session &session = slab_[number];
	const MappingRecord &mapping = mappings_[session.mapping];
	const uint32_t held = session.flags & kSessionHolds ? 1 : 0;
	const bool alone = mapping.holders > held || mapping.state == MappingState::forward;
	const uint64_t room = records_.room();
	uint64_t needed = alone;
	for (uint32_t other = alone ? kNone : mapping.list; other != kNone && needed <= room; needed++)
		other = slab_[other].mapping_next;
	return needed <= room;
}

void Sessions::hold_mapping(Session &session)
{
	session.flags |= kSessionHolds;
	mappings_[session.mapping].holders++;
}

Ticks Sessions::timeout(const Session &session) const
{
	switch (session.tcp) {
	case TcpState::none:
		return session.protocol == IPPROTO_UDP ? udp_ : icmp_;
	case TcpState::opening:
		return tcp_opening_;
	case TcpState::established:
	case TcpState::fin_inside:
	case TcpState::fin_outside:
		return tcp_established_;
	case TcpState::closing:
	case TcpState::reset:
		return tcp_closing_;
	}
	require(false);
	return 0;
}

void Sessions::shorten(uint32_t number, Ticks was, Ticks now)
{
	Session &session = slab_[number];
	const Ticks idle = now - session.last_seen, limit = timeout(session);
	const Ticks left = std::min(limit, was > idle ? was - idle : 0);
	session.last_seen = now - (limit - left);
	wheel_.disarm(number);
	wheel_.arm(number, now, left);
}

void Sessions::prefetch_removal(uint32_t number) const
{
	const Session &session = slab_[number];
	inside_.prefetch(hash(inside_key(session)));
	outside_.prefetch(hash(outside_key(session)));
	mappings_.prefetch(session.mapping);
	subscribers_.prefetch(session.subscriber);
}

bool Sessions::expire(Ticks now, uint64_t now_ns, uint32_t budget)
{
	constexpr uint32_t kBatch = 16;
	uint32_t due[kBatch];
	bool strangers_went = false, unrecorded = false;
	while (budget && !unrecorded) {
		uint32_t count = 0;
		for (uint32_t number; count < kBatch && budget && (number = wheel_.pop(now)) != kNone; budget--) {
			const Session &session = slab_[number];
			const Ticks idle = now - session.last_seen, limit = timeout(session);
			if (idle < limit) {
				wheel_.arm(number, now, limit - idle);
				continue;
			}
			prefetch_removal(number);
			due[count++] = number;
		}
		if (!count)
			return budget > 0;
		for (uint32_t i = 0; i < count; i++) {
			if (!(slab_[due[i]].flags & kSessionLive))
				continue;  // it went with its mapping
			unrecorded |= !can_be_recorded(due[i]);
			if (unrecorded || (!budget && strangers_went)) {
				wheel_.arm(due[i], now, 0);
				continue;
			}
			const uint32_t strangers = remove(due[i], now, now_ns);
			budget -= std::min(budget, strangers);
			strangers_went |= strangers != 0;
		}
	}
	return unrecorded;
}

void Sessions::unlink_from_mapping(uint32_t number)
{
	const Session &session = slab_[number];
	if (session.mapping_previous == kNone)
		mappings_[session.mapping].list = session.mapping_next;
	else
		slab_[session.mapping_previous].mapping_next = session.mapping_next;
	if (session.mapping_next != kNone)
		slab_[session.mapping_next].mapping_previous = session.mapping_previous;
}

// All but the mapping's list and the mapping's own end.
void Sessions::forget(uint32_t number, uint64_t now_ns)
{
	const Session &session = slab_[number];
	record(session, VX_NAT_SESSION_ENDED, now_ns);
	inside_.erase(hash(inside_key(session)), number);
	outside_.erase(hash(outside_key(session)), number);
	remotes_.remove(session.mapping, session.remote_be);
	wheel_.disarm(number);
	subscribers_[session.subscriber].sessions--;
	slab_.give_back(number);
}

// A mapping lives as long as a session used from inside: remotes alone keep nothing open (RFC 4787 REQ-6). Returns how
// many of theirs went with it.
uint32_t Sessions::remove(uint32_t number, Ticks now, uint64_t now_ns)
{
	stats_.sessions_expired++;
	const uint32_t mapping_number = slab_[number].mapping;
	MappingRecord &mapping = mappings_[mapping_number];
	const bool held = slab_[number].flags & kSessionHolds;
	unlink_from_mapping(number);
	forget(number, now_ns);
	if (held)
		mapping.holders--;
	if (mapping.holders || mapping.state == MappingState::forward)
		return 0;
	uint32_t strangers = 0;
	for (; mapping.list != kNone; strangers++) {
		const uint32_t other = mapping.list;
		unlink_from_mapping(other);
		forget(other, now_ns);
	}
	stats_.sessions_expired += strangers;
	mappings_.rest(mapping_number, now);
	return strangers;
}

}  // namespace vx::nat
