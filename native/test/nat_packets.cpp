// Packets for the NAT tests. Checksums are summed byte by byte in network order, by the RFCs and not by core/.
#include "nat_packets.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

namespace vx::nat::test {
namespace {

uint32_t sum(const uint8_t *bytes, size_t length, uint32_t start = 0)
{
	for (size_t i = 0; i < length; i++)
		start += i % 2 ? bytes[i] : static_cast<uint32_t>(bytes[i]) << 8;
	while (start > 0xffff)
		start = (start >> 16) + (start & 0xffff);
	return start;
}

void put(Bytes &packet, size_t at, uint32_t value)
{
	packet[at] = static_cast<uint8_t>(value >> 8);
	packet[at + 1] = static_cast<uint8_t>(value);
}

size_t header_of(const uint8_t *ip)
{
	return (ip[0] & 15) * 4u;
}

uint32_t pseudo_sum(const uint8_t *ip, size_t transport_length)
{
	uint32_t start = sum(ip + 12, 8);
	start += ip[9];
	return start + static_cast<uint32_t>(transport_length);
}

size_t checksum_place(uint8_t protocol)
{
	return protocol == IPPROTO_TCP ? 16 : protocol == IPPROTO_UDP ? 6 : 2;
}

bool is_error(uint8_t type)
{
	return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

Bytes packet_of(uint8_t protocol, uint32_t from_be, uint32_t to_be, const Bytes &transport, const Ip &ip)
{
	const size_t header = 20 + ip.options.size();
	Bytes packet(header);
	packet[0] = static_cast<uint8_t>(0x40 | header / 4);
	put(packet, 4, ip.id);
	packet[6] = ip.dont_fragment ? 0x40 : 0;
	packet[8] = ip.ttl;
	packet[9] = protocol;
	memcpy(&packet[12], &from_be, 4);
	memcpy(&packet[16], &to_be, 4);
	std::copy(ip.options.begin(), ip.options.end(), packet.begin() + 20);
	packet.insert(packet.end(), transport.begin(), transport.end());
	put(packet, 2, static_cast<uint32_t>(packet.size()));
	fix_checksums(packet);
	return packet;
}

void fill(Bytes &bytes, size_t from)
{
	for (size_t i = from; i < bytes.size(); i++)
		bytes[i] = static_cast<uint8_t>(i * 7 ^ i >> 3);
}

// What is wrong with the transport part of the packet at `ip`, whose `there` bytes may be fewer than its length says.
std::string wrong_transport(const uint8_t *ip, size_t there, bool quoted)
{
	const size_t header = header_of(ip), total = static_cast<size_t>(ip[2] << 8 | ip[3]);
	const uint8_t protocol = ip[9], *l4 = ip + header;
	if (total > there)
		return quoted ? "" : "longer than it is";
	const size_t length = total - header;
	if ((ip[6] & 0x3f) || ip[7])
		return "";  // a fragment: the checksum is over more than this
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_ICMP)
		return "";
	const size_t place = checksum_place(protocol);
	if (place + 2 > length)
		return "transport header cut short";
	if (protocol == IPPROTO_UDP && l4[6] == 0 && l4[7] == 0)
		return "";
	const uint32_t start = protocol == IPPROTO_ICMP ? 0 : pseudo_sum(ip, length);
	if (sum(l4, length, start) != 0xffff)
		return quoted ? "quoted transport checksum" : "transport checksum";
	if (protocol == IPPROTO_ICMP && is_error(l4[0]) && !quoted) {
		const uint8_t *inner = l4 + 8;
		if (length < 8 + 28 || sum(inner, header_of(inner)) != 0xffff)
			return "quoted IP checksum";
		return wrong_transport(inner, length - 8, true);
	}
	return "";
}

}  // namespace

uint32_t address(const char *text)
{
	in_addr parsed{};
	if (inet_pton(AF_INET, text, &parsed) != 1)
		abort();
	return parsed.s_addr;
}

std::string text(uint32_t address_be)
{
	char buffer[INET_ADDRSTRLEN];
	inet_ntop(AF_INET, &address_be, buffer, sizeof buffer);
	return buffer;
}

Endpoint endpoint(const char *text)
{
	const std::string whole = text;
	const size_t colon = whole.find(':');
	return {address(whole.substr(0, colon).c_str()), static_cast<uint16_t>(std::stoi(whole.substr(colon + 1)))};
}

std::string text(const Endpoint &endpoint)
{
	return text(endpoint.address_be) + ":" + std::to_string(endpoint.port);
}

void leave_checksum_to_hardware(Bytes &packet)
{
	const size_t header = header_of(packet.data());
	put(packet, header + checksum_place(packet[9]), sum(nullptr, 0, pseudo_sum(packet.data(), packet.size() - header)));
}

void fix_checksums(Bytes &packet)
{
	const size_t header = header_of(packet.data());
	put(packet, 10, 0);
	put(packet, 10, ~sum(packet.data(), header) & 0xffff);
	const uint8_t protocol = packet[9];
	const size_t place = header + checksum_place(protocol);
	if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_ICMP) ||
	    place + 2 > packet.size())
		return;
	put(packet, place, 0);
	const size_t length = packet.size() - header;
	const uint32_t start = protocol == IPPROTO_ICMP ? 0 : pseudo_sum(packet.data(), length);
	const uint32_t checksum = ~sum(&packet[header], length, start) & 0xffff;
	put(packet, place, checksum == 0 && protocol == IPPROTO_UDP ? 0xffff : checksum);
}

Bytes udp(const Endpoint &from, const Endpoint &to, size_t payload, const Ip &ip)
{
	Bytes transport(8 + payload);
	put(transport, 0, from.port);
	put(transport, 2, to.port);
	put(transport, 4, static_cast<uint32_t>(transport.size()));
	fill(transport, 8);
	return packet_of(IPPROTO_UDP, from.address_be, to.address_be, transport, ip);
}

Bytes udp_without_checksum(const Endpoint &from, const Endpoint &to, size_t payload, const Ip &ip)
{
	Bytes packet = udp(from, to, payload, ip);
	put(packet, header_of(packet.data()) + 6, 0);
	return packet;
}

Bytes tcp(const Endpoint &from, const Endpoint &to, uint8_t flags, size_t payload, const Ip &ip, const Bytes &options)
{
	Bytes transport(20 + options.size() + payload);
	put(transport, 0, from.port);
	put(transport, 2, to.port);
	transport[12] = static_cast<uint8_t>((20 + options.size()) / 4 << 4);
	transport[13] = flags;
	put(transport, 14, 4096);
	std::copy(options.begin(), options.end(), transport.begin() + 20);
	fill(transport, 20 + options.size());
	return packet_of(IPPROTO_TCP, from.address_be, to.address_be, transport, ip);
}

Bytes echo_request(const Endpoint &from, uint32_t to_be, size_t payload, const Ip &ip)
{
	Bytes transport(8 + payload);
	transport[0] = 8;
	put(transport, 4, from.port);
	put(transport, 6, 1);
	fill(transport, 8);
	return packet_of(IPPROTO_ICMP, from.address_be, to_be, transport, ip);
}

Bytes echo_reply(uint32_t from_be, const Endpoint &to, size_t payload, const Ip &ip)
{
	Bytes packet = echo_request({from_be, to.port}, to.address_be, payload, ip);
	packet[header_of(packet.data())] = 0;
	fix_checksums(packet);
	return packet;
}

Bytes icmp_error(uint32_t from_be, uint32_t to_be, uint8_t type, uint8_t code, const Bytes &quoted, size_t length,
		 const Bytes &extension)
{
	Bytes transport(8);
	transport[0] = type;
	transport[1] = code;
	const size_t take = std::min(length, quoted.size());
	transport.insert(transport.end(), quoted.begin(), quoted.begin() + static_cast<long>(take));
	if (!extension.empty()) {  // RFC 4884: the quote in 32-bit words, padded to at least 128 bytes
		transport.resize(8 + std::max<size_t>(128, (take + 3) / 4 * 4));
		transport[5] = static_cast<uint8_t>((transport.size() - 8) / 4);
		transport.insert(transport.end(), extension.begin(), extension.end());
	}
	return packet_of(IPPROTO_ICMP, from_be, to_be, transport, {});
}

Bytes other(uint8_t protocol, uint32_t from_be, uint32_t to_be)
{
	return packet_of(protocol, from_be, to_be, Bytes(24, 0x5a), {});
}

std::vector<Bytes> in_pieces(const Bytes &whole, size_t size)
{
	const size_t header = header_of(whole.data());
	std::vector<Bytes> pieces;
	for (size_t at = header; at < whole.size(); at += size) {
		const size_t length = std::min(size, whole.size() - at);
		Bytes piece(whole.begin(), whole.begin() + static_cast<long>(header));
		piece.insert(piece.end(), whole.begin() + static_cast<long>(at),
			     whole.begin() + static_cast<long>(at + length));
		put(piece, 2, static_cast<uint32_t>(piece.size()));
		put(piece, 6, static_cast<uint32_t>((at - header) / 8) | (at + length < whole.size() ? 0x2000 : 0));
		put(piece, 10, 0);
		put(piece, 10, ~sum(piece.data(), header) & 0xffff);
		pieces.push_back(piece);
	}
	return pieces;
}

Bytes put_together(std::vector<Bytes> pieces)
{
	std::sort(pieces.begin(), pieces.end(),
		  [](const Bytes &a, const Bytes &b) { return (word(a, 6) & 0x1fff) < (word(b, 6) & 0x1fff); });
	Bytes whole;
	for (const Bytes &piece : pieces) {
		const size_t header = header_of(piece.data());
		if (sum(piece.data(), header) != 0xffff)
			return {};
		if (whole.empty()) {
			whole = piece;
			continue;
		}
		const bool same = source_of(piece) == source_of(whole) &&
				  destination_of(piece) == destination_of(whole) && word(piece, 4) == word(whole, 4) &&
				  piece[9] == whole[9] && piece[8] == whole[8];
		if (!same || (word(piece, 6) & 0x1fff) * 8u != whole.size() - header_of(whole.data()))
			return {};
		whole.insert(whole.end(), piece.begin() + static_cast<long>(header), piece.end());
	}
	if (whole.empty() || (word(pieces.back(), 6) & 0x2000))
		return {};
	put(whole, 2, static_cast<uint32_t>(whole.size()));
	put(whole, 6, 0);
	put(whole, 10, 0);
	put(whole, 10, ~sum(whole.data(), header_of(whole.data())) & 0xffff);
	return whole;
}

uint8_t protocol_of(const Bytes &packet)
{
	return packet[9];
}

uint16_t word(const Bytes &packet, size_t at)
{
	return static_cast<uint16_t>(packet[at] << 8 | packet[at + 1]);
}

uint32_t source_of(const Bytes &packet)
{
	uint32_t value;
	memcpy(&value, &packet[12], 4);
	return value;
}

uint32_t destination_of(const Bytes &packet)
{
	uint32_t value;
	memcpy(&value, &packet[16], 4);
	return value;
}

Endpoint from_of(const Bytes &packet)
{
	const size_t l4 = header_of(packet.data());
	return {source_of(packet), word(packet, l4 + (packet[9] == IPPROTO_ICMP ? 4 : 0))};
}

Endpoint to_of(const Bytes &packet)
{
	const size_t l4 = header_of(packet.data());
	return {destination_of(packet), word(packet, l4 + (packet[9] == IPPROTO_ICMP ? 4 : 2))};
}

Bytes payload_of(const Bytes &packet)
{
	const size_t l4 = header_of(packet.data());
	const size_t header = packet[9] == IPPROTO_TCP ? (packet[l4 + 12] >> 4) * 4u : 8;
	return {packet.begin() + static_cast<long>(l4 + header), packet.end()};
}

Bytes quoted_by(const Bytes &error)
{
	return {error.begin() + static_cast<long>(header_of(error.data()) + 8), error.end()};
}

std::string wrong_with(const Bytes &packet)
{
	if (packet.size() < 20 || packet[0] >> 4 != 4)
		return "no IPv4 header";
	if (word(packet, 2) != packet.size())
		return "total length";
	if (sum(packet.data(), header_of(packet.data())) != 0xffff)
		return "IP checksum";
	if (word(packet, 6) & 0x3fff)
		return "a fragment";
	return wrong_transport(packet.data(), packet.size(), false);
}

}  // namespace vx::nat::test
