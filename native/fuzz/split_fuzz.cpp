// Any bytes as an IPv4 packet to be fragmented (the first two are the MTU): either it is refused, or its pieces fit, are
// well formed, and put together are the packet again. libFuzzer's thread; scripts/test-native runs it for a bounded time.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "../core/ipv4_fragments.h"

namespace {

void require(bool holds)
{
	if (!holds)
		abort();
}

uint32_t load16(const uint8_t *at)
{
	return static_cast<uint32_t>(at[0] << 8 | at[1]);
}

// RFC 1071, byte by byte: not the implementation under test.
bool sums_to_zero(const uint8_t *header, size_t length)
{
	uint32_t sum = 0;
	for (size_t i = 0; i < length; i++)
		sum += i % 2 ? header[i] : header[i] * 256u;
	while (sum > 0xffff)
		sum = (sum >> 16) + (sum & 0xffff);
	return sum == 0xffff;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	const uint32_t mtu = load16(data);
	const size_t length = size - 2;
	const std::unique_ptr<uint8_t[]> packet(new uint8_t[length]);
	memcpy(packet.get(), data + 2, length);
	vx::Ipv4Fragments fragments({packet.get(), length}, mtu);
	if (!fragments.possible())
		return 0;
	const uint32_t header = (packet[0] & 15u) * 4, payload = load16(&packet[2]) - header;
	const uint32_t first_offset = load16(&packet[6]) & 0x1fff;
	// What next() promises to write at most.
	const std::unique_ptr<uint8_t[]> piece(new uint8_t[mtu]);
	uint32_t pieces = 0, done = 0;
	while (const uint32_t written = fragments.next(piece.get())) {
		const uint32_t own_header = (piece[0] & 15u) * 4, own = written - own_header;
		require(written <= mtu && written == load16(&piece[2]));
		require(own_header >= 20 && own_header <= header && own > 0 && done + own <= payload);
		require(sums_to_zero(piece.get(), own_header));
		require((load16(&piece[6]) & 0x1fff) == ((first_offset + done / 8) & 0x1fff));
		require(!memcmp(&piece[own_header], &packet[header + done], own));
		done += own;
		const bool last = done == payload;
		require(last || own % 8 == 0);
		require(bool(load16(&piece[6]) & 0x2000) == (!last || load16(&packet[6]) & 0x2000));
		require(!memcmp(&piece[4], &packet[4], 2) && !memcmp(&piece[8], &packet[8], 2) &&
			!memcmp(&piece[12], &packet[12], 8));
		pieces++;
	}
	require(done == payload && pieces == fragments.count());
	return 0;
}
