// Any bytes as a capture (the first one chooses the configuration), replayed: it ends, with an error or without; the ledger
// balances to the packet; and what leaves is as many whole IP packets as the counters say, none above the MTU. So the whole
// inside program runs here too, on the host. libFuzzer's thread; scripts/test-native runs it for a bounded time.
#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "../core/ip.h"
#include "../replay/capture.h"
#include "../replay/replay.h"

namespace {

void require(bool holds)
{
	if (!holds)
		abort();
}

class Memory : public vx::ByteSource {
public:
	Memory(const uint8_t *data, size_t size) : data_(data), left_(size) {}
	size_t read(uint8_t *into, size_t size) override
	{
		const size_t count = std::min(size, left_);
		memcpy(into, data_, count);
		data_ += count;
		left_ -= count;
		return count;
	}

private:
	const uint8_t *data_;
	size_t left_;
};

vx::ReplayPlan plan_of(uint8_t choice)
{
	vx::ReplayPlan plan;
	plan.datapath.plain_ethernet = choice & 1;
	plan.datapath.vxlan_port = 4789;
	plan.datapath.match_source = plan.datapath.match_destination = true;
	plan.datapath.clear_dont_fragment = choice & 2;
	plan.datapath.forward_ipv6 = choice & 4;
	plan.datapath.decrement_ttl = choice & 8;
	if (choice & 16)
		plan.datapath.vni_ranges = {{100, 199}};
	if (choice & 32) { // 10.0.0.0/8
		plan.allowlist.emplace();
		plan.allowlist->prefix4 = {8, 0, 0, 0, 10, 0, 0, 0};
	}
	if (choice & 64)
		for (const uint8_t protocol : {uint8_t{IPPROTO_TCP}, uint8_t{IPPROTO_UDP}})
			plan.rules.push_back({{htons(31765), protocol, 0}, {htonl(0xac1e525f), htons(8081), 0}});
	if (choice & 128)
		plan.datapath.next_hop_mac = {2, 0, 0, 0, 10, 11};
	return plan;
}

void require_packet(std::span<const uint8_t> frame)
{
	const bool is4 = frame.size() >= 34 && frame[12] == 0x08 && frame[13] == 0x00;
	const bool is6 = frame.size() >= 54 && frame[12] == 0x86 && frame[13] == 0xdd;
	require((is4 || is6) && frame.size() <= 1514);
	require(vx::ip_version(&frame[14]) == (is4 ? 4 : 6));
	require(vx::ip_length(&frame[14]) == frame.size() - 14);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	Memory memory(data + 1, size - 1);
	auto reader = vx::CaptureReader::open(memory);
	if (!reader) {
		require(!reader.error().detail.empty());
		return 0;
	}
	uint64_t packets = 0, frames = 0;
	vx::Replay replay(plan_of(data[0]), [&](std::span<const uint8_t> frame) {
		require_packet(frame);
		frames++;
	});
	for (vx::CapturedPacket packet{};;) {
		auto more = (*reader)->next(packet);
		if (!more)
			require(!more.error().detail.empty());
		if (!more || !*more)
			break;
		packets++;
		replay.receive(packet.time_ns, packet.bytes);
	}
	replay.finish();
	const auto *slots = reinterpret_cast<const vx_slot *>(replay.counters().data());
	uint64_t received = 0, fates = 0, forwarded = 0, extra = 0;
	for (uint32_t i = 0; i < VX_SLOTS_MAX; i++) {
		const vx_counters &inside = slots[i].direction[VX_INSIDE];
		received += inside.received;
		forwarded += inside.forwarded;
		extra += inside.fragments_extra;
		fates += inside.forwarded + inside.passed;
		for (const uint64_t dropped : inside.dropped)
			fates += dropped;
	}
	require(received == packets && fates == packets && frames == forwarded + extra);
	return 0;
}
