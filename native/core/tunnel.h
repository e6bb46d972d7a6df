// How a packet gets back to an inside host: what is learned from those that came from it, and the headers it is sent
// in. Also the answer to an ARP request, which takes the same way. Pure; the worker's thread.
//
// A tunnel is learned from every packet of a host (contract: the last one counts), so it is small enough to lie beside
// the subscriber. What an answer looks like, from the packet it is learned from:
//
//   outer Ethernet   to the MAC it came from, from ours; its VLAN tags, as they were
//   IPv4 or IPv6     to its source address, from ours. TTL 64, no DF, DSCP 0, ECN as inside (RFC 6040, normal mode)
//   UDP              to the VXLAN port. The source port tells flows apart (RFC 7348 section 5). The checksum is 0 over
//                    IPv4 and computed over IPv6, where receivers refuse 0 unless told otherwise (RFC 6935)
//   VXLAN            the subscriber's VNI
//   inner Ethernet   to the MAC the packet came from, from the MAC it was sent to
//
// Plain Ethernet inside has the first line only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "../../bpf/abi/abi.h"

namespace vx {

struct Tunnel {
	vx_addr peer;
	uint8_t peer_mac[6];
	uint8_t inner_to[6];    // where the host sent it
	uint8_t inner_from[6];  // where it came from
	uint8_t pad[2];
	vx_tag tags[2];  // outermost first

	void learn(const vx_translate &received);
};
static_assert(sizeof(Tunnel) == 44 && alignof(Tunnel) <= 4);

// Our end of it.
struct TunnelHost {
	bool vxlan;     // false: plain Ethernet
	vx_addr local;  // of the peers' family
	uint8_t mac[6];
	uint16_t port;
};

inline constexpr uint16_t kEtherTypeIpv4 = 0x0800, kEtherTypeArp = 0x0806;

// Of all headers in front of the inner packet: the room it needs, and what the frame is longer by.
uint32_t encapsulation_bytes(const Tunnel &tunnel, const TunnelHost &host);
// What an interface of that MTU leaves the inner packet, for its Ethernet header and tags do not count against it; 0: nothing.
uint32_t inner_mtu(uint32_t mtu, const TunnelHost &host);

// False: nothing was learned yet, or it came by another address family than our end has.
bool reachable(const Tunnel &tunnel, const TunnelHost &host);

// The same for all packets of a flow, and for all pieces of a datagram; of an IPv4 packet with `length` bytes there.
uint32_t inner_flow_hash(const uint8_t *ip, uint32_t length);

// Writes the headers in front of `ip`, an IPv4 packet (or, by its EtherType, an ARP message) of `ip_length` bytes, and
// returns where the frame begins; nullptr: the peer is of another address family than our end.
uint8_t *encapsulate(uint8_t *ip, uint32_t ip_length, uint32_t realm, const Tunnel &tunnel, const TunnelHost &host,
		     uint32_t flow_hash, uint16_t outer_id, uint16_t ethertype = kEtherTypeIpv4);

inline constexpr uint32_t kArpBytes = 28;  // for IPv4 over Ethernet: RFC 826

struct ArpRequest {
	uint8_t sender_mac[6];
	uint32_t sender_be;  // 0: a probe (RFC 5227)
	uint32_t target_be;
};

// nullopt: too short, not a request for an IPv4 address on Ethernet, an announcement (which asks nothing), or from a
// MAC that nobody can have.
std::optional<ArpRequest> read_arp_request(std::span<const uint8_t> arp);
// Writes kArpBytes that say `mac` has the address; to be sent by encapsulate() with kEtherTypeArp, to plain Ethernet
// outside too.
void arp_reply(uint8_t *arp, const ArpRequest &request, const uint8_t mac[6]);

}  // namespace vx
