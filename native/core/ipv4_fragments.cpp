// Splits one IPv4 packet into fragments. Pure; called by worker 0 on its thread.
#include "ipv4_fragments.h"

#include <algorithm>
#include <cstring>

#include "checksum.h"

namespace vx {
namespace {

constexpr uint16_t kDontFragment = 0x4000;
constexpr uint16_t kMoreFragments = 0x2000;
constexpr uint16_t kOffsetMask = 0x1fff;

void store16(uint8_t *at, uint32_t value)
{
	at[0] = static_cast<uint8_t>(value >> 8);
	at[1] = static_cast<uint8_t>(value);
}

uint32_t payload_room(uint32_t mtu, uint32_t header)
{
	return mtu > header ? (mtu - header) & ~7u : 0;
}

}  // namespace

Ipv4Fragments::Ipv4Fragments(std::span<const uint8_t> packet, uint32_t mtu) : packet_(packet), mtu_(mtu)
{
	if (packet.size() < kIpv4HeaderBytes || packet[0] >> 4 != 4)
		return;
	first_header_length_ = (packet[0] & 0x0f) * 4u;
	const uint32_t total = load16_be(&packet[2]);
	flags_and_offset_ = load16_be(&packet[6]);
	if (first_header_length_ < kIpv4HeaderBytes || total <= first_header_length_ || total > packet.size())
		return;
	payload_length_ = total - first_header_length_;
	// Only the last fragment of a datagram may end off an eight-byte boundary.
	if ((flags_and_offset_ & kMoreFragments) && payload_length_ % 8)
		return;
	if (flags_and_offset_ & kDontFragment)
		return;
	make_later_header();
	const uint32_t first_room = payload_room(mtu, first_header_length_);
	const uint32_t later_room = payload_room(mtu, later_header_length_);
	if (first_room == 0 || later_room == 0)
		return;
	uint32_t header = first_header_length_;
	uint32_t left = payload_length_;
	for (count_ = 1; header + left > mtu; count_++) {
		left -= payload_room(mtu, header);
		header = later_header_length_;
	}
}

void Ipv4Fragments::make_later_header()
{
	memcpy(later_header_, packet_.data(), kIpv4HeaderBytes);
	uint32_t out = kIpv4HeaderBytes;
	uint32_t in = kIpv4HeaderBytes;
	while (in < first_header_length_) {
		const uint8_t option = packet_[in];
		if (option == 0)
			break;
		if (option == 1) {
			in++;
			continue;
		}
		if (in + 1 >= first_header_length_)
			break;
		const uint32_t length = packet_[in + 1];
		if (length < 2 || in + length > first_header_length_)
			break;
		if (option & 0x80) {
			memcpy(later_header_ + out, &packet_[in], length);
			out += length;
		}
		in += length;
	}
	while (out % 4)
		later_header_[out++] = 0;
	later_header_length_ = out;
	later_header_[0] = static_cast<uint8_t>(0x40 | out / 4);
}

uint32_t Ipv4Fragments::next(uint8_t *out)
{
	if (count_ == 0 || sent_ == payload_length_)
		return 0;
	const bool first = sent_ == 0;
	const uint32_t header = first ? first_header_length_ : later_header_length_;
	const uint32_t left = payload_length_ - sent_;
	// The last piece may end anywhere, so it may use the bytes below the eight-byte step.
	const uint32_t length = header + left <= mtu_ ? left : payload_room(mtu_, header);
	memcpy(out, first ? packet_.data() : later_header_, header);
	memcpy(out + header, packet_.data() + first_header_length_ + sent_, length);
	const bool last = length == left;
	const uint32_t offset = (flags_and_offset_ & kOffsetMask) + sent_ / 8;
	const uint16_t more = last ? flags_and_offset_ & kMoreFragments : kMoreFragments;
	store16(out + 2, header + length);
	store16(out + 6, more | (offset & kOffsetMask));
	store16(out + 10, 0);
	const uint16_t checksum = internet_checksum(out, header);
	memcpy(out + 10, &checksum, 2);
	sent_ += length;
	return header + length;
}

}  // namespace vx
