// The packet an ICMP error quotes: found, checked, translated. Pure; the worker's thread.
//
// What is quoted may be short: eight bytes behind the IP header are enough (RFC 792), so a TCP checksum is often not
// there. What follows it (RFC 4884 extensions) is left as it is. The quoted transport checksum is not verified (RFC
// 5508 REQ-3), but changed along, so that whoever compares it with what it sent finds it right.
#pragma once

#include "checksums.h"

namespace vx::nat {

struct Quote {
	uint8_t *ip;
	uint8_t *l4;
	uint32_t l4_length;  // as far as quoted
	uint32_t source_be;
	uint32_t destination_be;
	uint16_t source_port_be;  // ICMP queries: both are the identifier
	uint16_t destination_port_be;
	uint8_t protocol;
};

// -1: fine; else enum vx_drop. `h` is an ICMP error.
inline int read_quote(const Headers &h, Quote &quote)
{
	if (h.piece != Piece::whole || h.l4_length < 8 + 20 + 8)
		return VX_DROP_malformed_inner;
	if (fold(sum_words(h.l4, h.l4_length)) != 0xffff)
		return VX_DROP_bad_checksum;
	const uint8_t *ip = h.l4 + 8;
	const uint32_t room = h.l4_length - 8, header = (ip[0] & 15u) * 4;
	if (ip[0] >> 4 != 4 || header < 20 || header + 8 > room)
		return VX_DROP_malformed_inner;
	if (fold(sum_words(ip, header)) != 0xffff)
		return VX_DROP_bad_checksum;
	if (host16(load<uint16_t>(ip + 6)) & kOffsetMask)
		return VX_DROP_no_session;  // without ports it is nobody's
	quote.ip = h.l4 + 8;
	quote.l4 = quote.ip + header;
	quote.l4_length = room - header;
	quote.source_be = load<uint32_t>(ip + 12);
	quote.destination_be = load<uint32_t>(ip + 16);
	quote.protocol = ip[9];
	if (has_ports(quote.protocol)) {
		quote.source_port_be = load<uint16_t>(quote.l4);
		quote.destination_port_be = load<uint16_t>(quote.l4 + 2);
		return -1;
	}
	if (quote.protocol != IPPROTO_ICMP || (quote.l4[0] != kIcmpEcho && quote.l4[0] != kIcmpEchoReply))
		return VX_DROP_no_session;
	quote.source_port_be = quote.destination_port_be = load<uint16_t>(quote.l4 + 4);
	return -1;
}

// Gives the quoted packet another source or destination.
inline void rewrite_quote(const Quote &quote, bool source, uint32_t address_be, uint16_t port_be)
{
	const uint32_t old_address = source ? quote.source_be : quote.destination_be;
	const uint16_t old_port = source ? quote.source_port_be : quote.destination_port_be;
	const uint16_t address_delta = delta_of_address(old_address, address_be);
	const uint16_t port_delta = delta_of_word(old_port, port_be);
	store(quote.ip + (source ? 12 : 16), address_be);
	apply(quote.ip + 10, address_delta);
	const bool query = quote.protocol == IPPROTO_ICMP;
	store(quote.l4 + (query ? 4 : source ? 0 : 2), port_be);
	apply_transport(quote.protocol, quote.l4, quote.l4_length,
			query ? port_delta : sum_of(address_delta, port_delta));
}

}  // namespace vx::nat
