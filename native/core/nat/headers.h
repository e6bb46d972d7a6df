// Reads the headers of one inner IPv4 packet: where things are, and whether they are there. Pure; the worker's thread.
//
// Ports are as they lie in memory. For an ICMP query both are the identifier: which of them is a port depends on the
// direction, and only the caller knows that.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <cstring>

#include "packet.h"

namespace vx::nat {

inline constexpr uint16_t kDontFragment = 0x4000;
inline constexpr uint16_t kMoreFragments = 0x2000;
inline constexpr uint16_t kOffsetMask = 0x1fff;

inline constexpr uint8_t kIcmpEchoReply = 0, kIcmpUnreachable = 3, kIcmpQuench = 4, kIcmpEcho = 8,
			 kIcmpTimeExceeded = 11, kIcmpParameter = 12;

template <typename T>
inline T load(const uint8_t *at)
{
	T value;
	memcpy(&value, at, sizeof value);
	return value;
}

template <typename T>
inline void store(uint8_t *at, T value)
{
	memcpy(at, &value, sizeof value);
}

enum class Piece : uint8_t { whole, first, later };

struct Headers {
	uint8_t *ip;
	uint8_t *l4;
	uint32_t length;     // of the IP packet
	uint32_t l4_length;  // of what follows the IP header in this packet
	uint32_t source_be;
	uint32_t destination_be;
	uint16_t source_port_be;
	uint16_t destination_port_be;
	uint16_t fragment;  // the flags and offset field
	uint8_t protocol;
	Piece piece;

	bool dont_fragment() const { return fragment & kDontFragment; }
	// RFC 6864: only of these may the identification not repeat.
	bool atomic() const { return (fragment & (kDontFragment | kMoreFragments | kOffsetMask)) == kDontFragment; }
	uint8_t icmp_type() const { return l4[0]; }
	bool is_icmp_error() const
	{
		return protocol == IPPROTO_ICMP && (l4[0] == kIcmpUnreachable || l4[0] == kIcmpQuench ||
						    l4[0] == kIcmpTimeExceeded || l4[0] == kIcmpParameter);
	}
	bool is_icmp_query(uint8_t type) const { return protocol == IPPROTO_ICMP && l4[0] == type; }
};

inline uint16_t host16(uint16_t value_be)
{
	return __builtin_bswap16(value_be);
}

inline uint32_t transport_bytes_min(uint8_t protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return 20;  // a first fragment that ends before the checksum could not be translated
	case IPPROTO_UDP:
	case IPPROTO_ICMP:
		return 8;
	default:
		return 0;
	}
}

inline bool has_ports(uint8_t protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

// -1: fine; else enum vx_drop.
inline int read_headers(const Packet &packet, Headers &h)
{
	uint8_t *ip = packet.ip;
	if (packet.length < 20 || ip[0] >> 4 != 4)
		return VX_DROP_malformed_inner;
	const uint32_t header = (ip[0] & 15u) * 4;
	h.length = host16(load<uint16_t>(ip + 2));
	if (header < 20 || h.length < header)
		return VX_DROP_malformed_inner;
	if (h.length > packet.length)
		return VX_DROP_truncated;
	h.ip = ip;
	h.l4 = ip + header;
	h.l4_length = h.length - header;
	h.source_be = load<uint32_t>(ip + 12);
	h.destination_be = load<uint32_t>(ip + 16);
	h.fragment = host16(load<uint16_t>(ip + 6));
	h.protocol = ip[9];
	h.piece = h.fragment & kOffsetMask ? Piece::later : h.fragment & kMoreFragments ? Piece::first : Piece::whole;
	if (h.piece == Piece::later)
		// Beyond what a datagram can be, or over the header that the first one was judged by (RFC 1858).
		return (h.fragment & kOffsetMask) * 8 + h.l4_length > 65535 ||
				       (h.fragment & kOffsetMask) * 8u < transport_bytes_min(h.protocol)
			       ? VX_DROP_malformed_inner
			       : -1;
	if (h.l4_length < transport_bytes_min(h.protocol))
		return VX_DROP_malformed_inner;
	if (has_ports(h.protocol)) {
		h.source_port_be = load<uint16_t>(h.l4);
		h.destination_port_be = load<uint16_t>(h.l4 + 2);
		if (h.protocol == IPPROTO_TCP && ((h.l4[12] >> 4) < 5 || (h.l4[12] >> 4) * 4u > h.l4_length))
			return VX_DROP_malformed_inner;
		const uint16_t udp = host16(load<uint16_t>(h.l4 + 4));
		if (h.protocol == IPPROTO_UDP && (udp < 8 || (h.piece == Piece::whole && udp > h.l4_length)))
			return VX_DROP_malformed_inner;
	} else if (h.protocol == IPPROTO_ICMP) {
		h.source_port_be = h.destination_port_be = load<uint16_t>(h.l4 + 4);
	}
	return -1;
}

}  // namespace vx::nat
