// Packets for public endpoints, from outside or by hairpin: found, filtered, translated back. Part of the engine; see
// engine.h.
#include "checksums.h"
#include "engine.h"
#include "steering.h"
#include "tcp_state.h"

namespace vx::nat {

Verdict Engine::inbound(Packet &packet, Headers &h, uint64_t hash)
{
	const uint16_t address = blocks_.find_address(h.destination_be);
	if (address == kNoAddress)
		return {.action = Action::pass};
	if (h.is_icmp_error())
		return error_from_outside(packet, h, address);
	// Of an echo request the identifier is the stranger's: no port of ours.
	if (!hash)
		return drop(h.protocol == IPPROTO_ICMP && h.icmp_type() == kIcmpEcho ? VX_DROP_no_session
										     : VX_DROP_protocol);
	Verdict elsewhere;
	if (is_elsewhere(packet, address, h.protocol, host16(h.destination_port_be), elsewhere))
		return elsewhere.action == Action::drop ? refuse_outside(packet, h, VX_DROP_no_session) : elsewhere;
	const uint16_t remote_port_be = h.protocol == IPPROTO_ICMP ? uint16_t{0} : h.source_port_be;
	const uint32_t number = sessions_.find(
		OutsideKey{h.destination_be, h.source_be, h.destination_port_be, remote_port_be, h.protocol}, hash);
	if (number != kNone) [[likely]]
		return send_in(packet, h, number);
	return open_from_outside(packet, h, address);
}

// True: the port is another worker's, or nobody's; the verdict says which.
bool Engine::is_elsewhere(Packet &packet, uint16_t address, uint8_t protocol, uint16_t port, Verdict &verdict)
{
	if (blocks_.workers() == 1)
		return false;
	const uint32_t worker = blocks_.owner(address, protocol, port);
	if (worker == config_.worker)
		return false;
	// Told once already: the block has changed hands meanwhile.
	if (worker == kNoWorker || packet.stage == Stage::to_owner) {
		verdict = drop(VX_DROP_no_session);
		return true;
	}
	if (packet.stage != Stage::hairpin)
		packet.stage = Stage::to_owner;
	verdict = {.action = Action::hand_over, .worker = static_cast<uint8_t>(worker)};
	return true;
}

bool Engine::admits(uint32_t mapping, uint32_t remote_be) const
{
	if (mappings_[mapping].state == MappingState::forward)
		return true;
	switch (config_.filtering) {
	case Filtering::endpoint_independent:
		return true;
	case Filtering::address_dependent:
		return sessions_.knows_address(mapping, remote_be);
	case Filtering::address_and_port_dependent:
		return false;  // that would have been a session
	}
	return false;
}

Verdict Engine::open_from_outside(Packet &packet, Headers &h, uint16_t address)
{
	stats_.misses++;
	const uint32_t mapping = mappings_.find_outside(address, h.protocol, host16(h.destination_port_be));
	if (mapping == kNone)
		return refuse_outside(packet, h, VX_DROP_no_session);
	const bool hairpinned = packet.stage == Stage::hairpin;
	const bool from_pool = blocks_.find_address(h.source_be) != kNoAddress;
	if (!admits(mapping, h.source_be) || (from_pool && !hairpinned) || !is_host(h.source_be))
		return refuse_outside(packet, h, VX_DROP_filtered);
	if (h.protocol == IPPROTO_TCP && (h.l4[13] & (kTcpSyn | kTcpAck | kTcpRst)) != kTcpSyn)
		return drop(VX_DROP_no_session);
	const uint16_t remote_port_be = h.protocol == IPPROTO_ICMP ? uint16_t{0} : h.source_port_be;
	const uint32_t number = mappings_[mapping].subscriber;
	Subscriber &subscriber = subscribers_[number];
	// The inside host could not tell this remote from one it knows by another public port.
	const InsideKey inside{subscriber.realm, subscriber.inside_be, h.source_be, mappings_[mapping].inside_port_be,
			       remote_port_be, h.protocol};
	if (sessions_.find(inside, sessions_.hash(inside)) != kNone)
		return drop(VX_DROP_filtered);
	if (!subscriber.heard)
		return drop(VX_DROP_no_subscriber);
	if (sessions_.full())
		return drop(VX_DROP_session_table_full);
	// Strangers have a rate of their own, and leave an eighth of the sessions: they must not silence the host.
	if (subscriber.sessions >= config_.sessions_per_subscriber - config_.sessions_per_subscriber / 8)
		return drop(VX_DROP_subscriber_limit);
	if (!session_rate_.take(subscriber.strangers_due_ns, now_ns_))
		return drop(VX_DROP_session_rate);
	return send_in(packet, h, sessions_.add(mapping, {h.source_be, remote_port_be, from_pool}, false, now_, now_ns_));
}

// Silence, but for a SYN: that may be answered later, where answers outside are wanted at all.
Verdict Engine::refuse_outside(const Packet &packet, const Headers &h, vx_drop reason)
{
	if (config_.icmp_outside && packet.stage != Stage::hairpin && h.protocol == IPPROTO_TCP &&
	    (h.l4[13] & (kTcpSyn | kTcpAck | kTcpRst)) == kTcpSyn && is_host(h.source_be))
		syns_.remember(h, now_);
	return drop(reason);
}

void Engine::answer_unsolicited()
{
	while (const UnsolicitedSyn *syn = syns_.take_due(now_)) {
		const uint8_t *ip = syn->quote, *l4 = ip + (ip[0] & 15) * 4;
		const OutsideKey key{load<uint32_t>(ip + 16), load<uint32_t>(ip + 12), load<uint16_t>(l4 + 2),
				     load<uint16_t>(l4), IPPROTO_TCP};
		const uint16_t address = blocks_.find_address(key.public_be);
		const uint32_t worker = blocks_.owner(address, IPPROTO_TCP, host16(key.public_port_be));
		// Where another worker has the port by now, only that one could tell whether it was asked for.
		if (worker != kNoWorker && worker != config_.worker)
			continue;
		if (sessions_.find(key, sessions_.hash(key)) == kNone)
			replies_.answer_quote({syn->quote, syn->length}, port_unreachable(key.public_be), now_ns_);
	}
}

Verdict Engine::send_in(Packet &packet, Headers &h, uint32_t number)
{
	Session &session = sessions_[number];
	Verdict verdict{.action = Action::forward, .to = Side::inside, .subscriber = session.subscriber};
	const bool hairpinned = packet.stage == Stage::hairpin;
	uint64_t delta = static_cast<uint16_t>(~session.address_delta);
	if (!hairpinned) {
		if (session.flags & kSessionToPool)
			return drop(VX_DROP_filtered);  // a pool address that comes from outside is forged
		if (h.ip[8] <= 1) [[unlikely]] {
			replies_.answer(packet, h, Side::outside, ttl_exceeded(session.public_be), nullptr, now_ns_);
			return drop(VX_DROP_ttl_expired);
		}
		if (!pass_mtu(packet, h, Side::inside, too_big(session.public_be, mtu_inside()), nullptr,
			      verdict))
			return verdict;
		const uint16_t before = load<uint16_t>(h.ip + 8);
		h.ip[8]--;
		delta += delta_of_word(before, load<uint16_t>(h.ip + 8));
	}
	complete_left_checksum(h);
	if (h.protocol == IPPROTO_TCP)
		follow_tcp(number, h, false);
	store(h.ip + 16, session.inside_be);
	apply(h.ip + 10, delta);
	store(h.l4 + (h.protocol == IPPROTO_ICMP ? 4 : 2), session.inside_port_be);
	apply_transport(h.protocol, h.l4, h.l4_length, static_cast<uint16_t>(~session.transport_delta));
	stats_.translated_in++;
	return verdict;
}

}  // namespace vx::nat
