// Any bytes as a capture (the first one chooses the configuration), replayed: it ends, with an error or without; the ledger
// balances to the packet; and what leaves is as many whole packets as the counters say, none above the MTU. So both
// programs run here too, on the host. With source NAT frames arrive outside that are addressed to the outside interface. libFuzzer's thread; scripts/test-native runs it for a bounded time.
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

// Small and short-lived, so that a few packets exhaust it.
vx::SourceNat source_nat()
{
	const uint32_t first = htonl(0xcb007101), second = htonl(0xcb007102);
	vx::SourceNat nat;
	nat.pools.pools = {{{first}, 1024, 1151, {}}, {{second}, 512, 1087, {{100, 200}, {vx::nat::kPlainRealm, vx::nat::kPlainRealm}}}};
	nat.pools.block_size = 64;
	nat.pools.forwards = {{first, 8080, IPPROTO_TCP, 100, htonl(0x0a000009), 80},
			      {first, 8080, IPPROTO_UDP, vx::nat::kPlainRealm, htonl(0x0a000009), 80}};
	nat.engine.filtering = vx::nat::Filtering::endpoint_independent;
	nat.engine.pair_strictly = false;
	nat.engine.icmp_outside = true;
	nat.engine.blocks_per_subscriber = 2;
	nat.engine.sessions_per_subscriber = 8;
	nat.engine.sessions_max = 32;
	nat.engine.mss_clamp = 1200;
	nat.engine.timeouts = {.tcp_established = 8,
			       .tcp_opening = 3,
			       .tcp_closing = 3,
			       .udp = 3,
			       .icmp = 2,
			       .port_hold = 2,
			       .fragments = 3,
			       .unsolicited_syn = 2};
	nat.engine.exclude = {{htonl(0xac100000), 12}};
	nat.engine.gateways = {{100, htonl(0x0a000001)}, {vx::nat::kPlainRealm, htonl(0x0a000001)}};
	nat.engine.records = 64;
	return nat;
}

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
	if ((choice & 192) == 192)
		plan.datapath.source_nat = source_nat();
	return plan;
}

void require_packet(std::span<const uint8_t> frame)
{
	size_t at = 12;
	while (at <= 16 && frame.size() > at + 4 && (frame[at] == 0x81 || frame[at] == 0x88))
		at += 4;
	const bool is_arp = frame.size() == at + 2 + vx::kArpBytes && frame[at] == 0x08 && frame[at + 1] == 0x06;
	const bool is4 = frame.size() >= at + 22 && frame[at] == 0x08 && frame[at + 1] == 0x00;
	const bool is6 = frame.size() >= at + 42 && frame[at] == 0x86 && frame[at + 1] == 0xdd;
	const uint8_t *ip = &frame[at + 2];
	require(is_arp || is4 || is6);
	if (is_arp)
		return;
	require(frame.size() <= at + 2 + 1500 && vx::ip_version(ip) == (is4 ? 4 : 6));
	require(vx::ip_length(ip) == frame.size() - at - 2);
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
	const vx::ReplayPlan plan = plan_of(data[0]);
	uint64_t packets = 0, frames = 0;
	auto replay = vx::Replay::open(plan, [&](vx_direction, uint64_t, std::span<const uint8_t> frame) {
		require_packet(frame);
		frames++;
	});
	require(static_cast<bool>(replay));
	for (vx::CapturedPacket packet{};;) {
		auto more = (*reader)->next(packet);
		if (!more)
			require(!more.error().detail.empty());
		if (!more || !*more)
			break;
		packets++;
		const bool outside = plan.datapath.source_nat && packet.bytes.size() > 5 && packet.bytes[5] == 2;
		(*replay)->receive(outside ? VX_OUTSIDE : VX_INSIDE, packet.time_ns, packet.bytes);
	}
	(*replay)->finish();
	const auto *slots = reinterpret_cast<const vx_slot *>((*replay)->counters().data());
	uint64_t all_received = 0, left = 0;
	for (const vx_direction direction : {VX_INSIDE, VX_OUTSIDE}) {
		uint64_t received = 0, fates = 0;
		for (uint32_t i = 0; i < VX_SLOTS_MAX; i++) {
			const vx_counters &counters = slots[i].direction[direction];
			received += counters.received;
			left += counters.forwarded + counters.fragments_extra + counters.originated;
			fates += counters.forwarded + counters.passed;
			for (const uint64_t dropped : counters.dropped)
				fates += dropped;
		}
		require(received == fates);
		all_received += received;
	}
	require(all_received == packets && frames == left);
	return 0;
}
