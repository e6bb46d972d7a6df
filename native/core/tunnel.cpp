// The way back to an inside host. See the header.
#include "tunnel.h"

#include <algorithm>
#include <cstring>

#include "address.h"
#include "checksum.h"
#include "frame.h"
#include "ip.h"
#include "nat/steering.h"
#include "nat/tables.h"

namespace vx {
namespace {

constexpr uint32_t kTagBytes = 4, kUdpBytes = 8, kVxlanBytes = 8;
constexpr uint8_t kHops = 64;
constexpr uint16_t kEtherTypeIpv6 = 0x86dd;
constexpr uint16_t kSourcePortFirst = 49152;  // RFC 7348 section 5: the dynamic ones, 2^14 of them

static_assert(sizeof(Tunnel) <= sizeof(nat::Subscriber::way));

bool is_ipv4(const TunnelHost &host)
{
	return is_mapped(host.local);
}

// Of all headers in front of the inner packet, what counts against the interface's MTU: all but the outer Ethernet header
// and its tags.
uint32_t encapsulation_mtu_bytes(const TunnelHost &host)
{
	if (!host.vxlan)
		return 0;
	return (is_ipv4(host) ? kIpv4HeaderBytes : kIpv6HeaderBytes) + kUdpBytes + kVxlanBytes + kEthernetBytes;
}

uint32_t tag_bytes(const Tunnel &tunnel)
{
	return !tunnel.tags[0].protocol_be ? 0 : tunnel.tags[1].protocol_be ? 2 * kTagBytes : kTagBytes;
}

void write_outer_ethernet(uint8_t *at, const Tunnel &tunnel, const TunnelHost &host, uint16_t ethertype)
{
	memcpy(at, tunnel.peer_mac, 6);
	memcpy(at + 6, host.mac, 6);
	memcpy(at + 12, tunnel.tags, tag_bytes(tunnel));
	store16_be(at + 12 + tag_bytes(tunnel), ethertype);
}

// A host may have sent to everyone, as with an ARP request: no frame comes from there, so it comes from us.
void write_inner_ethernet(uint8_t *at, const Tunnel &tunnel, const TunnelHost &host, uint16_t ethertype)
{
	memcpy(at, tunnel.inner_from, 6);
	memcpy(at + 6, tunnel.inner_to[0] & 1 ? host.mac : tunnel.inner_to, 6);
	store16_be(at + 12, ethertype);
}

void write_vxlan(uint8_t *at, uint32_t vni)
{
	memset(at, 0, kVxlanBytes);
	at[0] = 0x08;
	store16_be(at + 4, static_cast<uint16_t>(vni >> 8));
	at[6] = static_cast<uint8_t>(vni);
}

// `length` bytes of UDP, its header first.
void write_udp(uint8_t *at, uint32_t length, const TunnelHost &host, uint32_t flow_hash)
{
	store16_be(at, static_cast<uint16_t>(kSourcePortFirst + (flow_hash >> 18)));
	store16_be(at + 2, host.port);
	store16_be(at + 4, static_cast<uint16_t>(length));
	store16_be(at + 6, 0);
}

void write_ipv4(uint8_t *at, uint32_t length, const Tunnel &tunnel, const TunnelHost &host, uint8_t ecn, uint16_t id)
{
	memset(at, 0, kIpv4HeaderBytes);
	at[0] = 0x45;
	at[1] = ecn;
	store16_be(at + 2, static_cast<uint16_t>(kIpv4HeaderBytes + length));
	store16_be(at + 4, id);
	at[8] = kHops;
	at[9] = IPPROTO_UDP;
	memcpy(at + 12, host.local.bytes + 12, 4);
	memcpy(at + 16, tunnel.peer.bytes + 12, 4);
	const uint16_t checksum = internet_checksum(at, kIpv4HeaderBytes);
	memcpy(at + 10, &checksum, 2);
}

void write_ipv6(uint8_t *at, uint32_t length, const Tunnel &tunnel, const TunnelHost &host, uint8_t ecn)
{
	memset(at, 0, kIpv6HeaderBytes);
	at[0] = 0x60;
	at[1] = static_cast<uint8_t>(ecn << 4);
	store16_be(at + 4, static_cast<uint16_t>(length));
	at[6] = IPPROTO_UDP;
	at[7] = kHops;
	memcpy(at + 8, host.local.bytes, 16);
	memcpy(at + 24, tunnel.peer.bytes, 16);
	// RFC 8200 section 8.1: addresses, length, next header, then UDP.
	uint8_t tail[8] = {};
	store16_be(tail + 2, static_cast<uint16_t>(length));
	tail[7] = IPPROTO_UDP;
	uint8_t *udp = at + kIpv6HeaderBytes;
	uint16_t checksum = static_cast<uint16_t>(
		~fold(sum_words(at + 8, 32) + sum_words(tail, sizeof tail) + sum_words(udp, length)));
	if (!checksum)
		checksum = 0xffff;
	memcpy(udp + 6, &checksum, 2);
}

}  // namespace

void Tunnel::learn(const vx_translate &received)
{
	peer = received.peer;
	memcpy(peer_mac, received.peer_mac, 6);
	memcpy(inner_to, received.inner_macs, 6);
	memcpy(inner_from, received.inner_macs + 6, 6);
	memcpy(tags, received.tags, sizeof tags);
}

uint32_t inner_mtu(uint32_t mtu, const TunnelHost &host)
{
	const uint32_t headers = encapsulation_mtu_bytes(host);
	return std::max(mtu, headers) - headers;
}

bool reachable(const Tunnel &tunnel, const TunnelHost &host)
{
	static constexpr uint8_t kNobody[6] = {};
	return memcmp(tunnel.peer_mac, kNobody, sizeof kNobody) &&
	       (!host.vxlan || is_mapped(tunnel.peer) == is_ipv4(host));
}

uint32_t encapsulation_bytes(const Tunnel &tunnel, const TunnelHost &host)
{
	return kEthernetBytes + tag_bytes(tunnel) + encapsulation_mtu_bytes(host);
}

uint32_t inner_flow_hash(const uint8_t *ip, uint32_t length)
{
	uint32_t source_be, destination_be, ports = 0;
	memcpy(&source_be, ip + 12, 4);
	memcpy(&destination_be, ip + 16, 4);
	const uint8_t protocol = ip[9];
	const uint32_t header = (ip[0] & 15u) * 4;
	const bool whole = !(load16_be(ip + 6) & 0x3fff);
	if (whole && (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) && header + 4 <= length)
		memcpy(&ports, ip + header, 4);
	return nat::spread(source_be ^ nat::spread(destination_be ^ nat::spread(ports ^ protocol)));
}

uint8_t *encapsulate(uint8_t *ip, uint32_t ip_length, uint32_t realm, const Tunnel &tunnel, const TunnelHost &host,
		     uint32_t flow_hash, uint16_t outer_id, uint16_t ethertype)
{
	uint8_t *frame = ip - encapsulation_bytes(tunnel, host);
	if (!host.vxlan) {
		write_outer_ethernet(frame, tunnel, host, ethertype);
		return frame;
	}
	if (is_ipv4(host) != is_mapped(tunnel.peer))
		return nullptr;
	const uint8_t ecn = ethertype == kEtherTypeIpv4 ? ip[1] & 3 : 0;
	uint8_t *inner = ip - kEthernetBytes, *udp = inner - kVxlanBytes - kUdpBytes;
	const uint32_t udp_length = kUdpBytes + kVxlanBytes + kEthernetBytes + ip_length;
	write_inner_ethernet(inner, tunnel, host, ethertype);
	write_vxlan(inner - kVxlanBytes, realm);
	write_udp(udp, udp_length, host, flow_hash);
	if (is_ipv4(host))
		write_ipv4(udp - kIpv4HeaderBytes, udp_length, tunnel, host, ecn, outer_id);
	else
		write_ipv6(udp - kIpv6HeaderBytes, udp_length, tunnel, host, ecn);
	write_outer_ethernet(frame, tunnel, host, is_ipv4(host) ? kEtherTypeIpv4 : kEtherTypeIpv6);
	return frame;
}

std::optional<ArpRequest> read_arp_request(std::span<const uint8_t> arp)
{
	// Ethernet, IPv4, the lengths of their addresses, request.
	static constexpr uint8_t head[8] = {0, 1, 8, 0, 6, 4, 0, 1};
	if (arp.size() < kArpBytes || memcmp(arp.data(), head, sizeof head))
		return std::nullopt;
	ArpRequest request;
	memcpy(request.sender_mac, &arp[8], 6);
	memcpy(&request.sender_be, &arp[14], 4);
	memcpy(&request.target_be, &arp[24], 4);
	static constexpr uint8_t none[6] = {};
	if (request.sender_mac[0] & 1 || !memcmp(request.sender_mac, none, 6) || request.sender_be == request.target_be)
		return std::nullopt;
	return request;
}

void arp_reply(uint8_t *arp, const ArpRequest &request, const uint8_t mac[6])
{
	static constexpr uint8_t head[8] = {0, 1, 8, 0, 6, 4, 0, 2};
	memcpy(arp, head, sizeof head);
	memcpy(arp + 8, mac, 6);
	memcpy(arp + 14, &request.target_be, 4);
	memcpy(arp + 18, request.sender_mac, 6);
	memcpy(arp + 24, &request.sender_be, 4);
}

}  // namespace vx
