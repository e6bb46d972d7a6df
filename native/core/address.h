// Addresses as the ABI carries them: IPv6, or IPv4 mapped into ::ffff:0:0/96; and as people read them. Pure; any thread.
#pragma once

#include <arpa/inet.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

#include "../../bpf/abi/abi.h"

namespace vx {

inline vx_addr mapped(const uint8_t ipv4[4])
{
	vx_addr address{};
	address.bytes[10] = address.bytes[11] = 0xff;
	memcpy(address.bytes + 12, ipv4, 4);
	return address;
}

inline bool is_mapped(const vx_addr &address)
{
	static constexpr uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	return !memcmp(address.bytes, prefix, sizeof prefix);
}

inline bool is_multicast(const vx_addr &address)
{
	return is_mapped(address) ? address.bytes[12] >> 4 == 0xe : address.bytes[0] == 0xff;
}

// The MAC that a group's packets go to, without asking anybody.
inline void multicast_mac(const vx_addr &group, uint8_t mac[6])
{
	if (is_mapped(group)) {  // RFC 1112 section 6.4
		const uint8_t prefix[3] = {0x01, 0x00, 0x5e};
		memcpy(mac, prefix, sizeof prefix);
		memcpy(mac + 3, group.bytes + 13, 3);
		mac[3] &= 0x7f;
	} else {  // RFC 2464 section 7
		mac[0] = mac[1] = 0x33;
		memcpy(mac + 2, group.bytes + 12, 4);
	}
}

inline std::string address_text(const vx_addr &address)
{
	char text[INET6_ADDRSTRLEN];
	const bool ipv4 = is_mapped(address);
	inet_ntop(ipv4 ? AF_INET : AF_INET6, ipv4 ? address.bytes + 12 : address.bytes, text, sizeof text);
	return text;
}

inline std::string mac_text(const uint8_t mac[6])
{
	char text[18];
	snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return text;
}

struct AddressHash {
	size_t operator()(const vx_addr &address) const
	{
		uint64_t words[2];
		memcpy(words, address.bytes, sizeof words);
		const uint64_t hash = (words[0] ^ (words[1] * 0x9e3779b97f4a7c15ULL)) * 0xff51afd7ed558ccdULL;
		return hash ^ (hash >> 32);
	}
};

struct SameAddress {
	bool operator()(const vx_addr &a, const vx_addr &b) const { return !memcmp(&a, &b, sizeof a); }
};

}  // namespace vx
