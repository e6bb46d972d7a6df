// What the NAT engine is told at start. Plain values: validation and defaults are the control plane's. Pure.
//
// Addresses are as they lie in a packet (_be); ports too where so named. A realm is what keeps equal inside addresses
// apart: a VNI, or kPlainRealm for plain Ethernet inside.
#pragma once

#include <cstdint>
#include <vector>

#include "random.h"

namespace vx::nat {

inline constexpr uint32_t kPlainRealm = 1u << 24;  // above every VNI
inline constexpr uint32_t kPortsPerBlockMin = 64;
inline constexpr uint32_t kPortsPerBlockMax = 8192;
inline constexpr uint32_t kWorkersMax = 254;
inline constexpr uint32_t kMssThatFits = UINT32_MAX;

enum class Mapping : uint8_t { endpoint_independent, address_and_port_dependent };
enum class Filtering : uint8_t { endpoint_independent, address_dependent, address_and_port_dependent };
enum class Midstream : uint8_t { create, drop };

struct RealmRange {
	uint32_t first, last;
};

struct Pool {
	std::vector<uint32_t> addresses_be;
	uint16_t first_port, last_port;
	std::vector<RealmRange> realms;  // empty: any
};

struct Forward {
	uint32_t public_be;
	uint16_t public_port;
	uint8_t protocol;  // TCP or UDP
	uint32_t realm;
	uint32_t inside_be;
	uint16_t inside_port;
};

struct Prefix {
	uint32_t address_be;
	uint8_t length;
};

struct Gateway {
	uint32_t realm;
	uint32_t address_be;
};

// What all workers share: PortBlocks.
struct PoolConfig {
	std::vector<Pool> pools;
	std::vector<Forward> forwards;
	uint32_t block_size = 128;  // a power of two
	uint32_t workers = 1;
};

struct Timeouts {  // seconds
	uint32_t tcp_established = 7440;
	uint32_t tcp_opening = 240;  // RFC 7857 section 2.1: opening and closing have a timer each
	uint32_t tcp_closing = 240;
	uint32_t udp = 300;
	uint32_t icmp = 60;
	uint32_t port_hold = 120;
	uint32_t fragments = 28;  // a later fragment waits for its first, and a first is remembered
	uint32_t unsolicited_syn = 6;  // before it is answered: RFC 5382 REQ-4
};

struct Config {
	uint32_t worker = 0;
	Key key{};
	Mapping mapping = Mapping::endpoint_independent;
	Filtering filtering = Filtering::address_and_port_dependent;
	Midstream midstream = Midstream::create;
	bool pair_strictly = true;  // paired; false: paired-else-any
	bool hairpin = true;
	bool icmp_inside = true;
	bool icmp_outside = false;
	uint32_t blocks_per_subscriber = 8;
	uint32_t sessions_per_subscriber = 2000;
	uint32_t new_sessions_per_second = 200;
	uint32_t sessions_max = 1000000;  // this worker's
	uint32_t mtu_inside = 1500;       // at start, of the inner packet
	uint32_t mtu_outside = 1500;
	uint32_t mss_clamp = 0;  // 0: off; kMssThatFits: the inside MTU, whatever it is by then
	Timeouts timeouts;
	std::vector<Prefix> exclude;
	std::vector<Gateway> gateways;
	// Fragments that wait for their first one: datagrams, of them from one source (or those that hash like it),
	// frames.
	uint32_t datagrams_waiting = 4096;
	uint32_t datagrams_waiting_per_source = 64;
	uint32_t fragments_waiting = 8192;
	uint32_t datagrams_known = 16384;
	uint32_t icmp_per_second = 1000;  // our own, each side
	uint32_t icmp_per_second_subscriber = 50;
	uint32_t records = 65536;  // not yet durable; with records of sessions room for all of a subscriber
	bool record_sessions = false;
};

}  // namespace vx::nat
