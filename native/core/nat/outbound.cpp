// Packets from inside: sessions are opened here, sources translated, hairpin begun. Part of the engine; see engine.h.
#include "checksums.h"
#include "engine.h"
#include "steering.h"
#include "tcp_state.h"

namespace vx::nat {

Verdict Engine::outbound(Packet &packet, Headers &h, uint64_t hash)
{
	if (h.is_icmp_error() && !excluded(h.destination_be))
		return error_from_inside(packet, h);
	const uint32_t worker = owner_of_subscriber(packet.realm, h.source_be, blocks_.workers());
	if (worker != config_.worker)
		return {.action = Action::hand_over, .worker = static_cast<uint8_t>(worker)};
	if (h.ip[8] <= 1) [[unlikely]] {
		const uint32_t number = subscribers_.find(packet.realm, h.source_be);
		Subscriber *subscriber = number == kNone ? nullptr : &subscribers_[number];
		replies_.answer(packet, h, Side::inside, ttl_exceeded(our_address(packet.realm, subscriber)),
				subscriber, now_ns_);
		return drop(VX_DROP_ttl_expired);
	}
	if (hash) [[likely]] {
		const uint16_t remote_port_be = h.protocol == IPPROTO_ICMP ? uint16_t{0} : h.destination_port_be;
		const uint32_t number = sessions_.find(InsideKey{packet.realm, h.source_be, h.destination_be,
								 h.source_port_be, remote_port_be, h.protocol},
						       hash);
		if (number != kNone) [[likely]]
			return send_out(packet, h, number);
	}
	return open_from_inside(packet, h, hash);
}

Verdict Engine::open_from_inside(Packet &packet, Headers &h, uint64_t hash)
{
	stats_.misses++;
	if (!is_host(h.source_be) || blocks_.find_address(h.source_be) != kNoAddress)
		return drop(VX_DROP_filtered);
	if (excluded(h.destination_be))
		return send_untranslated(packet, h);
	if (!hash)
		return drop(VX_DROP_protocol);
	const bool to_pool = blocks_.find_address(h.destination_be) != kNoAddress;
	if (to_pool && !config_.hairpin)
		return drop(VX_DROP_hairpin_off);
	if (h.protocol == IPPROTO_TCP && !(h.l4[13] & kTcpSyn) && config_.midstream == Midstream::drop)
		return drop(VX_DROP_no_session);
	if (sessions_.full())
		return refuse_inside(packet, h, VX_DROP_session_table_full);
	const uint32_t number = subscribers_.find_or_add(packet.realm, h.source_be);
	if (number == kNone)
		return refuse_inside(packet, h, VX_DROP_session_table_full);
	Subscriber &subscriber = subscribers_[number];
	if (Verdict verdict; !to_pool && !pass_mtu(packet, h, Side::outside,
						   too_big(our_address(packet.realm, &subscriber), mtu_outside()),
						   &subscriber, verdict)) {
		subscribers_.release_if_idle(number);
		return verdict;
	}
	const auto refuse = [&](int reason) {
		const Verdict verdict = refuse_inside(packet, h, static_cast<vx_drop>(reason));
		subscribers_.release_if_idle(number);
		return verdict;
	};
	if (subscriber.sessions >= config_.sessions_per_subscriber)
		return refuse(VX_DROP_subscriber_limit);
	if (!session_rate_.allows(subscriber.sessions_due_ns, now_ns_))
		return refuse(VX_DROP_session_rate);
	sessions_.prefetch_add();
	// Refused ones count too: to look for a port in vain is more work than to find one.
	session_rate_.charge(subscriber.sessions_due_ns, now_ns_);
	const auto mapping = mappings_.find_or_make(number, h.protocol, h.source_port_be, now_ns_);
	if (mapping.refused >= 0)
		return refuse(mapping.refused);
	subscriber.heard = true;
	const uint16_t remote_port_be = h.protocol == IPPROTO_ICMP ? uint16_t{0} : h.destination_port_be;
	return send_out(packet, h,
			sessions_.add(mapping.number, {h.destination_be, remote_port_be, to_pool}, true, now_, now_ns_));
}

// RFC 5508 REQ-8 and RFC 6888 REQ-11: who is refused for lack of something is told.
Verdict Engine::refuse_inside(const Packet &packet, const Headers &h, vx_drop reason)
{
	const uint32_t number = subscribers_.find(packet.realm, h.source_be);
	Subscriber *subscriber = number == kNone ? nullptr : &subscribers_[number];
	replies_.answer(packet, h, Side::inside, prohibited(our_address(packet.realm, subscriber)), subscriber,
			now_ns_);
	return drop(reason);
}

Verdict Engine::send_out(Packet &packet, Headers &h, uint32_t number)
{
	Session &session = sessions_[number];
	Verdict verdict{.action = Action::forward, .to = Side::outside, .subscriber = session.subscriber,
			.sender = session.subscriber};
	const bool to_pool = session.flags & kSessionToPool;
	if (!to_pool && h.length > mtu_outside()) [[unlikely]] {
		Subscriber &subscriber = subscribers_[session.subscriber];
		if (!pass_mtu(packet, h, Side::outside,
			      too_big(our_address(packet.realm, &subscriber), mtu_outside()), &subscriber,
			      verdict))
			return verdict;
	}
	complete_left_checksum(h);
	if (h.protocol == IPPROTO_TCP)
		follow_tcp(number, h, true);
	// What answers a stranger, or ends the connection, keeps nothing alive.
	if (session.tcp != TcpState::closing && session.tcp != TcpState::reset)
		sessions_.used_from_inside(session, now_);
	uint64_t delta = session.address_delta;
	if (!h.atomic()) {
		const uint16_t before = load<uint16_t>(h.ip + 4);
		const uint16_t after = ids_.next(session.public_be, session.remote_be, session.protocol);
		store(h.ip + 4, after);
		delta += delta_of_word(before, after);
	}
	const uint16_t ttl = load<uint16_t>(h.ip + 8);
	h.ip[8]--;
	delta += delta_of_word(ttl, load<uint16_t>(h.ip + 8));
	store(h.ip + 12, session.public_be);
	apply(h.ip + 10, delta);
	store(h.l4 + (h.protocol == IPPROTO_ICMP ? 4 : 0), session.public_port_be);
	apply_transport(h.protocol, h.l4, h.l4_length, session.transport_delta);
	stats_.translated_out++;
	if (!to_pool) [[likely]]
		return verdict;
	h.source_be = session.public_be;
	h.source_port_be = session.public_port_be;
	verdict = hairpin(packet, h);
	verdict.sender = session.subscriber;
	return verdict;
}

// The second half: from here on the packet is like one from outside, but that its TTL has been seen to.
Verdict Engine::hairpin(Packet &packet, Headers &h)
{
	packet.stage = Stage::hairpin;
	stats_.hairpinned++;
	return inbound(packet, h, flow_hash(packet, h));
}

Verdict Engine::send_untranslated(Packet &packet, Headers &h)
{
	Verdict verdict{.action = Action::forward, .to = Side::outside};
	const uint32_t number = subscribers_.find(packet.realm, h.source_be);
	Subscriber *subscriber = number == kNone ? nullptr : &subscribers_[number];
	if (subscriber)
		subscriber->heard = true;
	if (!pass_mtu(packet, h, Side::outside, too_big(our_address(packet.realm, subscriber), mtu_outside()),
		      subscriber, verdict))
		return verdict;
	verdict.subscriber = verdict.sender = number;
	complete_left_checksum(h);
	const uint16_t before = load<uint16_t>(h.ip + 8);
	h.ip[8]--;
	apply(h.ip + 10, delta_of_word(before, load<uint16_t>(h.ip + 8)));
	return verdict;
}

bool Engine::excluded(uint32_t destination_be) const
{
	for (const Prefix &prefix : config_.exclude) {
		const uint32_t mask = prefix.length ? UINT32_MAX << (32 - prefix.length) : 0;
		if (((destination_be ^ prefix.address_be) & __builtin_bswap32(mask)) == 0)
			return true;
	}
	return false;
}

// Who our own ICMP inside comes from: the realm's gateway, else a pool address, the subscriber's if it has one.
uint32_t Engine::our_address(uint32_t realm, const Subscriber *subscriber) const
{
	const auto gateway = std::lower_bound(config_.gateways.begin(), config_.gateways.end(), realm,
					      [](const Gateway &a, uint32_t b) { return a.realm < b; });
	if (gateway != config_.gateways.end() && gateway->realm == realm)
		return gateway->address_be;
	if (subscriber && subscriber->address != kNoAddress)
		return blocks_.address_be(subscriber->address);
	for (uint32_t pool = 0; pool < blocks_.pools(); pool++)
		if (blocks_.pool_serves(pool, realm) && !blocks_.pool_addresses(pool).empty())
			return blocks_.address_be(blocks_.pool_addresses(pool)[0]);
	return blocks_.addresses() ? blocks_.address_be(0) : 0;
}

}  // namespace vx::nat
