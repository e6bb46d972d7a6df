// Packets for the NAT tests, and what is right about a packet, told without the engine's own arithmetic. No kernel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vx::nat::test {

using Bytes = std::vector<uint8_t>;

struct Ip {
	uint8_t ttl = 64;
	bool dont_fragment = true;
	uint16_t id = 0x1234;
	Bytes options = {};
};

constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;

uint32_t address(const char *text);           // as it lies in memory
std::string text(uint32_t address_be);

struct Endpoint {
	uint32_t address_be = 0;
	uint16_t port = 0;
	bool operator==(const Endpoint &) const = default;
};
Endpoint endpoint(const char *text);  // "10.0.0.5:5000"
std::string text(const Endpoint &endpoint);

Bytes udp(const Endpoint &from, const Endpoint &to, size_t payload = 20, const Ip &ip = {});
Bytes udp_without_checksum(const Endpoint &from, const Endpoint &to, size_t payload = 20, const Ip &ip = {});
Bytes tcp(const Endpoint &from, const Endpoint &to, uint8_t flags, size_t payload = 0, const Ip &ip = {},
	  const Bytes &options = {});
// The identifier is the port of `from` (request) or of `to` (reply).
Bytes echo_request(const Endpoint &from, uint32_t to_be, size_t payload = 32, const Ip &ip = {});
Bytes echo_reply(uint32_t from_be, const Endpoint &to, size_t payload = 32, const Ip &ip = {});
// An error about `quoted`, of which `length` bytes are quoted.
Bytes icmp_error(uint32_t from_be, uint32_t to_be, uint8_t type, uint8_t code, const Bytes &quoted, size_t length = 576,
		 const Bytes &extension = {});
Bytes other(uint8_t protocol, uint32_t from_be, uint32_t to_be);

// The packet in pieces of at most `size` payload bytes (a multiple of eight), first one first.
std::vector<Bytes> in_pieces(const Bytes &whole, size_t size);
// Empty when they are not the pieces of one datagram.
Bytes put_together(std::vector<Bytes> pieces);

uint8_t protocol_of(const Bytes &packet);
uint16_t word(const Bytes &packet, size_t at);  // big-endian
uint32_t source_of(const Bytes &packet);
uint32_t destination_of(const Bytes &packet);
Endpoint from_of(const Bytes &packet);  // ICMP queries: the identifier as port
Endpoint to_of(const Bytes &packet);
Bytes payload_of(const Bytes &packet);  // behind the transport header
Bytes quoted_by(const Bytes &error);    // from the quoted IP header on
void fix_checksums(Bytes &packet);
// As a sender leaves it whose interface is to sum it up: the sum of the pseudo-header.
void leave_checksum_to_hardware(Bytes &packet);

// Empty when every length and checksum of a whole packet is right, those of a quoted packet too; else what is not.
std::string wrong_with(const Bytes &packet);

}  // namespace vx::nat::test
