// What is read of IP headers without parsing them further. Pure; any thread.
#pragma once

#include <cstdint>

namespace vx {

inline constexpr uint32_t kIpv4HeaderBytes = 20;  // without options
inline constexpr uint32_t kIpv4HeaderBytesMax = 60;
inline constexpr uint32_t kIpv6HeaderBytes = 40;

inline uint16_t load16_be(const uint8_t *at)
{
	return static_cast<uint16_t>(at[0] << 8 | at[1]);
}

inline void store16_be(uint8_t *at, uint16_t value)
{
	at[0] = static_cast<uint8_t>(value >> 8);
	at[1] = static_cast<uint8_t>(value);
}

inline uint8_t ip_version(const uint8_t *ip)
{
	return ip[0] >> 4;
}

// The header's word for it, which is less than the frame holds when Ethernet padded it.
inline uint32_t ip_length(const uint8_t *ip)
{
	return ip_version(ip) == 4 ? load16_be(ip + 2) : kIpv6HeaderBytes + load16_be(ip + 4);
}

// The EtherType of the frame an IP packet is in.
inline uint16_t ethertype_for(const uint8_t *ip)
{
	return ip_version(ip) == 4 ? 0x0800 : 0x86dd;
}

}  // namespace vx
