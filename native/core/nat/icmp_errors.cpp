// ICMP errors 3, 4, 11 and 12, which concern a session but are not part of it: the packet they quote tells whose they
// are, and is translated back, so that who sent it recognises it (RFC 5508 section 4). They neither refresh nor end
// anything. Part of the engine; see engine.h.
#include "engine.h"
#include "steering.h"

namespace vx::nat {
namespace {

// The message changed all over: its checksum, verified before, is taken anew.
void finish(const Headers &h, uint64_t ip_delta, bool decrement)
{
	if (decrement) {
		const uint16_t before = load<uint16_t>(h.ip + 8);
		h.ip[8]--;
		ip_delta += delta_of_word(before, load<uint16_t>(h.ip + 8));
	}
	apply(h.ip + 10, ip_delta);
	store<uint16_t>(h.l4 + 2, 0);
	store(h.l4 + 2, internet_checksum(h.l4, h.l4_length));
}

}  // namespace

// The mapping the quoted packet, which was on its way to an inside host, came by.
uint32_t Engine::mapping_of_quote(const Packet &packet, const Quote &quote) const
{
	const bool query = quote.protocol == IPPROTO_ICMP;
	const InsideKey key{packet.realm,
			    quote.destination_be,
			    quote.source_be,
			    quote.destination_port_be,
			    query ? uint16_t{0} : quote.source_port_be,
			    quote.protocol};
	const uint32_t session = sessions_.find(key, sessions_.hash(key));
	if (session != kNone)
		return sessions_[session].mapping;
	const uint32_t subscriber = subscribers_.find(packet.realm, quote.destination_be);
	if (subscriber == kNone)
		return kNone;
	return mappings_.find_inside(subscriber, quote.protocol, quote.destination_port_be);
}

Verdict Engine::error_from_inside(Packet &packet, Headers &h)
{
	Quote quote;
	const int refused = read_quote(h, quote);
	if (refused >= 0)
		return drop(static_cast<vx_drop>(refused));
	// Whoever sent it, a host or a router before it, it concerns the host the quoted packet was for.
	const uint32_t worker = owner_of_subscriber(packet.realm, quote.destination_be, blocks_.workers());
	if (worker != config_.worker)
		return {.action = Action::hand_over, .worker = static_cast<uint8_t>(worker)};
	if (h.ip[8] <= 1)
		return drop(VX_DROP_ttl_expired);
	if (quote.source_be != h.destination_be ||
	    (quote.protocol == IPPROTO_ICMP && quote.l4[0] != kIcmpEchoReply))
		return drop(VX_DROP_no_session);
	const uint32_t number = mapping_of_quote(packet, quote);
	if (number == kNone)
		return drop(VX_DROP_no_session);
	const bool to_pool = blocks_.find_address(h.destination_be) != kNoAddress;
	if (to_pool && !config_.hairpin)
		return drop(VX_DROP_hairpin_off);
	const MappingRecord &mapping = mappings_[number];
	Verdict verdict{.action = Action::forward, .to = Side::outside, .subscriber = mapping.subscriber};
	if (!to_pool && !pass_mtu(packet, h, Side::outside, {}, nullptr, verdict))
		return verdict;
	const uint32_t public_be = blocks_.address_be(mapping.address);
	rewrite_quote(quote, false, public_be, host16(mapping.public_port));
	store(h.ip + 12, public_be);
	finish(h, delta_of_address(h.source_be, public_be), true);
	stats_.translated_out++;
	if (!to_pool)
		return verdict;
	h.source_be = public_be;
	return hairpin(packet, h);
}

Verdict Engine::error_from_outside(Packet &packet, Headers &h, uint16_t address)
{
	Quote quote;
	const int refused = read_quote(h, quote);
	if (refused >= 0)
		return drop(static_cast<vx_drop>(refused));
	const bool query = quote.protocol == IPPROTO_ICMP;
	if (quote.source_be != h.destination_be || (query && quote.l4[0] != kIcmpEcho))
		return drop(VX_DROP_no_session);
	const uint16_t port = host16(quote.source_port_be);
	Verdict elsewhere;
	if (is_elsewhere(packet, address, quote.protocol, port, elsewhere))
		return elsewhere;
	const uint32_t number = mappings_.find_outside(address, quote.protocol, port);
	if (number == kNone)
		return drop(VX_DROP_no_session);
	if (config_.mapping == Mapping::address_and_port_dependent) {
		const OutsideKey key{quote.source_be, quote.destination_be, quote.source_port_be,
				     query ? uint16_t{0} : quote.destination_port_be, quote.protocol};
		if (sessions_.find(key, sessions_.hash(key)) == kNone)
			return drop(VX_DROP_no_session);
	}
	const bool hairpinned = packet.stage == Stage::hairpin;
	if (!hairpinned && h.ip[8] <= 1)
		return drop(VX_DROP_ttl_expired);
	const MappingRecord &mapping = mappings_[number];
	const Subscriber &subscriber = subscribers_[mapping.subscriber];
	if (!subscriber.heard)
		return drop(VX_DROP_no_subscriber);
	Verdict verdict{.action = Action::forward, .to = Side::inside, .subscriber = mapping.subscriber};
	if (!pass_mtu(packet, h, Side::inside, {}, nullptr, verdict))
		return verdict;
	rewrite_quote(quote, true, subscriber.inside_be, mapping.inside_port_be);
	store(h.ip + 16, subscriber.inside_be);
	finish(h, delta_of_address(h.destination_be, subscriber.inside_be), !hairpinned);
	stats_.translated_in++;
	return verdict;
}

}  // namespace vx::nat
