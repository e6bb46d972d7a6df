// What the inside program keeps between packets and where it writes beside the frame: caches under pressure, drop samples,
// latency samples, worker 0's socket and ring. BPF_PROG_TEST_RUN, root.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>

#include "xdp_bed.h"
#include "xdp_words.h"

namespace vx::test {
namespace {

constexpr size_t kEthernet = 14;
constexpr uint32_t kSamplesMax = 4096;  // more than the ring holds
constexpr size_t kInner = 50, kInnerIp = kInner + kEthernet, kInnerUdp = kInnerIp + 20;  // in frame() below

void put16(Bytes &bytes, size_t at, size_t value)
{
	bytes[at] = static_cast<uint8_t>(value >> 8);
	bytes[at + 1] = static_cast<uint8_t>(value);
}

// Ethernet, IPv4, UDP, VXLAN, Ethernet, IPv4 and UDP without checksums; the rest counts up.
Bytes frame(uint32_t source, uint32_t destination, uint16_t port, size_t payload = 10)
{
	Bytes bytes(kInnerUdp + 8 + payload);
	for (size_t i = kInnerUdp + 8; i < bytes.size(); i++)
		bytes[i] = static_cast<uint8_t>(i);
	bytes[12] = 8;
	bytes[14] = bytes[kInnerIp] = 0x45;
	bytes[23] = bytes[kInnerIp + 9] = 17;
	bytes[22] = bytes[kInnerIp + 8] = 64;
	put16(bytes, 16, bytes.size() - 14);
	put16(bytes, 36, 4789);
	put16(bytes, 38, bytes.size() - 34);
	bytes[42] = 8;
	put16(bytes, kInner + 12, 0x0800);
	put16(bytes, kInnerIp + 2, 28 + payload);
	const uint32_t addresses[] = {htonl(source), htonl(destination)};
	memcpy(&bytes[kInnerIp + 12], addresses, 8);
	put16(bytes, kInnerUdp, 4000);
	put16(bytes, kInnerUdp + 2, port);
	put16(bytes, kInnerUdp + 4, 8 + payload);
	return bytes;
}

class XdpState : public testing::Test {
protected:
	void SetUp() override { load(""); }

	void load(const std::string &knobs)
	{
		bed_.load(knobs);
		bed_.apply({"interface", "inside", "02:00:00:00:00:01", "3400"});
		bed_.apply({"interface", "outside", "02:00:00:00:00:02", "3400"});
		bed_.apply({"route", "0.0.0.0/0", "gateway", "198.51.100.1"});
		bed_.apply({"neighbour", "198.51.100.1", "valid", "02:00:00:00:00:03"});
	}

	XdpBed &bed_ = XdpBed::instance();
};

constexpr uint32_t kNet = 0x0a000000;

// Every answer depends on the address alone, so that a cache that mixes two up is seen at once.
bool is_listed(uint32_t address)
{
	return address * 2654435761u >> 31;
}

TEST_F(XdpState, MoreAddressesThanTheCacheHoldsAreNeverTakenForOneAnother)
{
	constexpr uint32_t kAddresses = VX_NEIGHBOURS_MAX - 2;
	AllowlistTables tables;
	bed_.apply({"route", "10.0.0.0/8", "onlink"});
	for (uint32_t i = 0; i < kAddresses; i++) {
		const uint32_t address_be = htonl(kNet + i);
		vx_addr key{};
		key.bytes[10] = key.bytes[11] = 0xff;
		memcpy(key.bytes + 12, &address_be, 4);
		vx_neighbour neighbour{};
		neighbour.state = VX_NEIGHBOUR_VALID;
		memcpy(neighbour.mac + 2, &address_be, 4);
		ASSERT_EQ(bpf_map_update_elem(bed_.map("neighbours"), &key, &neighbour, 0), 0);
		const auto *bytes = reinterpret_cast<const uint8_t *>(&address_be);
		if (is_listed(kNet + i))
			tables.exact4.insert(tables.exact4.end(), bytes, bytes + 4);
	}
	ASSERT_TRUE(bed_.datapath().set_allowlist(&tables));
	const uint32_t seed = std::random_device{}();
	std::mt19937 random(seed);
	uint64_t forwarded = 0, misses = 0;
	constexpr uint32_t kPackets = 60000;
	for (uint32_t i = 0; i < kPackets; i++) {
		const uint32_t source = kNet + random() % kAddresses, destination = kNet + random() % kAddresses;
		const Outcome outcome = bed_.run(frame(source, destination, 9));
		const bool allowed = is_listed(source) || is_listed(destination);
		ASSERT_EQ(outcome.action, allowed ? XDP_REDIRECT : XDP_DROP) << "seed " << seed << " packet " << i;
		if (outcome.counts.contains("cache_misses"))
			misses += outcome.counts.at("cache_misses");
		if (!allowed)
			continue;
		const uint32_t mac_be = htonl(destination);
		ASSERT_EQ(memcmp(outcome.out.data() + 2, &mac_be, 4), 0) << "seed " << seed << " packet " << i;
		forwarded++;
	}
	EXPECT_GT(forwarded, kPackets / 2u);
	EXPECT_GT(misses, uint64_t{kAddresses});  // the cache was indeed too small
}

TEST_F(XdpState, MorePortsThanTheCacheHoldsAreNeverTakenForOneAnother)
{
	std::vector<Rule> rules;
	for (uint32_t port = 1; port < 8192; port++)
		if (is_listed(port)) {
			Rule rule{};
			rule.key.protocol = IPPROTO_UDP;
			rule.key.port_be = htons(static_cast<uint16_t>(port));
			rule.value.address_be = htonl(0xac100000 + port);
			rule.value.port_be = htons(static_cast<uint16_t>(port + 8192));
			rules.push_back(rule);
		}
	ASSERT_TRUE(bed_.datapath().set_rules(rules));
	const uint32_t seed = std::random_device{}();
	std::mt19937 random(seed);
	for (uint32_t i = 0; i < 60000; i++) {
		const uint32_t port = 1 + random() % 8191;
		const Outcome outcome = bed_.run(frame(kNet + 1, kNet + 2, static_cast<uint16_t>(port)));
		ASSERT_EQ(outcome.action, XDP_REDIRECT);
		const uint32_t to = htonl(is_listed(port) ? 0xac100000 + port : kNet + 2);
		const uint16_t to_port = htons(static_cast<uint16_t>(is_listed(port) ? port + 8192 : port));
		ASSERT_EQ(memcmp(&outcome.out[kEthernet + 16], &to, 4), 0) << "seed " << seed << " packet " << i;
		ASSERT_EQ(memcmp(&outcome.out[kEthernet + 22], &to_port, 2), 0) << "seed " << seed << " packet " << i;
	}
}

struct Samples {
	std::vector<vx_sample> seen;
	Result<RingReader> ring;

	explicit Samples(XdpBed &bed)
		: ring(RingReader::open(bed.map("packet_ringbuf"), [this](const uint8_t *bytes, size_t length) {
			  EXPECT_EQ(length, sizeof(vx_sample));
			  memcpy(&seen.emplace_back(), bytes, std::min(length, sizeof(vx_sample)));
		  }))
	{
		EXPECT_TRUE(ring);
		take();
	}
	std::vector<vx_sample> take()
	{
		ring->consume(kSamplesMax);
		return std::exchange(seen, {});
	}
};

void watch(XdpBed &bed, uint32_t round, uint32_t most)
{
	bed.datapath().control()->sample_most = most;
	bed.datapath().control()->sample_round = round;
}

TEST_F(XdpState, NoDropIsSampledWhileNobodyWatches)
{
	Samples samples(bed_);
	bed_.apply({"allow"});
	const Bytes packet = frame(kNet + 1, kNet + 2, 9);
	watch(bed_, 0, 100);
	for (int i = 0; i < 2000; i++)
		ASSERT_FALSE(bed_.run(packet).counts.contains("sampled"));
	EXPECT_TRUE(samples.take().empty());
}

TEST_F(XdpState, InEveryRoundTheFirstDropsOfEachReasonAreSampled)
{
	Samples samples(bed_);
	bed_.apply({"allow"});
	const Bytes small = frame(kNet + 1, kNet + 2, 9, 3), large = frame(kNet + 1, kNet + 2, 9, 500);
	Bytes flagless = small;
	flagless[42] = 0;
	for (uint32_t round = 1; round < 4; round++) {
		watch(bed_, round, 2);
		for (const Bytes &one : {small, large, small, small, flagless})
			ASSERT_EQ(bed_.run(one).action, XDP_DROP);
		const std::vector<vx_sample> seen = samples.take();
		ASSERT_EQ(seen.size(), 3u);
		const struct {
			const Bytes &frame;
			vx_drop drop;
		} expected[] = {{small, VX_DROP_not_allowed}, {large, VX_DROP_not_allowed}, {flagless, VX_DROP_vxlan_flags}};
		for (size_t i = 0; i < 3; i++) {
			const vx_sample &sample = seen[i];
			const size_t captured = std::min<size_t>(expected[i].frame.size(), VX_SAMPLE_BYTES);
			EXPECT_EQ(sample.drop, expected[i].drop);
			EXPECT_EQ(sample.direction, VX_INSIDE);
			EXPECT_EQ(sample.form, VX_SAMPLE_RECEIVED);
			EXPECT_EQ(sample.length, expected[i].frame.size());
			EXPECT_EQ(sample.captured, captured);
			EXPECT_EQ(memcmp(sample.bytes, expected[i].frame.data(), captured), 0);
			EXPECT_GE(sample.time_ns, i ? seen[i - 1].time_ns : 1);
		}
	}
	watch(bed_, 0, 0);
}

TEST_F(XdpState, ADropOfADecapsulatedPacketIsSampledAsItWouldHaveLeft)
{
	Samples samples(bed_);
	// The worker should resolve its neighbour, but there is no ring to hand it over.
	bed_.apply({"route", "198.18.0.0/15", "onlink"});
	bed_.apply({"ring", "none"});
	watch(bed_, 1, 1);
	const Bytes packet = frame(kNet + 1, 0xc6120001, 9);
	const Outcome outcome = bed_.run(packet);
	ASSERT_EQ(outcome.action, XDP_DROP);
	const std::vector<vx_sample> seen = samples.take();
	ASSERT_EQ(seen.size(), 1u);
	EXPECT_EQ(seen[0].drop, VX_DROP_redirect_error);
	EXPECT_EQ(seen[0].form, VX_SAMPLE_LEAVING);
	EXPECT_EQ(seen[0].length, packet.size() - kInner);
	EXPECT_EQ(memcmp(seen[0].bytes + kEthernet, &packet[kInnerIp], packet.size() - kInnerIp), 0);
	watch(bed_, 0, 0);
}

TEST_F(XdpState, AFullSampleRingLosesSamplesAndNoCount)
{
	Samples samples(bed_);
	bed_.apply({"allow"});
	const Bytes packet = frame(kNet + 1, kNet + 2, 9);
	const uint64_t room = VX_RING_BYTES / (sizeof(vx_sample) + BPF_RINGBUF_HDR_SZ);
	watch(bed_, 1, UINT32_MAX);
	for (uint64_t i = 0; i < room + 10; i++) {
		const Outcome outcome = bed_.run(packet);
		ASSERT_EQ(outcome.action, XDP_DROP);
		ASSERT_EQ(outcome.counts.at("not_allowed"), 1u);
		ASSERT_EQ(outcome.counts.contains("sampled"), i < room) << i;
	}
	watch(bed_, 0, 0);
	EXPECT_EQ(samples.take().size(), room);
}

TEST_F(XdpState, OnePacketIn1024IsTimed)
{
	bed_.slot().direction[VX_INSIDE].received = 1;
	const Bytes packet = frame(kNet + 1, kNet + 2, 9);
	std::vector<uint64_t> timed;
	for (uint64_t i = 1; i <= 3000; i++) {
		bed_.slot().latency_start_ns = 0;
		ASSERT_EQ(bed_.run(packet).action, XDP_REDIRECT);
		if (bed_.slot().latency_start_ns)
			timed.push_back(i);
	}
	EXPECT_EQ(timed, (std::vector<uint64_t>{1024, 2048}));
}

TEST_F(XdpState, ADroppedPacketIsNotTimed)
{
	bed_.apply({"allow"});
	bed_.slot().direction[VX_INSIDE].received = 0;
	bed_.slot().latency_start_ns = 0;
	EXPECT_EQ(bed_.run(frame(kNet + 1, kNet + 2, 9)).action, XDP_DROP);
	EXPECT_EQ(bed_.slot().latency_start_ns, 0u);
}

TEST_F(XdpState, AnExceptionGoesToTheQueuesSocketWithItsReasonInFrontOfTheFrame)
{
	bed_.apply({"neighbour", "198.51.100.1", "resolving"});
	bed_.apply({"rule", "udp", "9", "172.30.0.1", "80"});
	bed_.apply({"socket"});
	const Bytes packet = frame(kNet + 1, kNet + 2, 9);
	const Outcome outcome = bed_.run(packet);
	EXPECT_EQ(outcome.action, XDP_REDIRECT);
	EXPECT_TRUE(outcome.records.empty());
	EXPECT_EQ(outcome.counts.at("to_worker"), 1u);
	EXPECT_FALSE(outcome.counts.contains("redirected"));
	vx_exception exception{};
	ASSERT_EQ(outcome.out.size(), sizeof exception + packet.size() - kInner);
	memcpy(&exception, outcome.out.data(), sizeof exception);
	EXPECT_EQ(exception.magic, VX_EXCEPTION_MAGIC);
	EXPECT_EQ(exception.length, packet.size() - kInner);
	EXPECT_EQ(exception.reason, VX_EXCEPTION_NEIGHBOUR);
	EXPECT_EQ(exception.original_destination_be, htonl(kNet + 2));
	EXPECT_EQ(exception.new_destination_be, 0u);
	const uint32_t target_be = ipv4_from("172.30.0.1");
	EXPECT_EQ(memcmp(&outcome.out[sizeof exception + kEthernet + 16], &target_be, 4), 0);
	EXPECT_EQ(memcmp(&outcome.out[sizeof exception + kEthernet + 28], &packet[kInnerUdp + 8], 10), 0);
}

TEST_F(XdpState, TheRingTakesPacketsUntilItIsFullAndThenDropsThemByName)
{
	bed_.apply({"neighbour", "198.51.100.1", "resolving"});
	const Bytes packet = frame(kNet + 1, kNet + 2, 9, 1400);
	uint64_t taken = 0;
	Outcome outcome = bed_.run(packet, XdpBed::Rings::leave);
	for (; outcome.counts.contains("to_worker") && taken < 10000; taken++)
		outcome = bed_.run(packet, XdpBed::Rings::leave);
	EXPECT_EQ(outcome.counts.at("ring_full"), 1u);
	EXPECT_GE(taken, uint64_t{VX_RING_BYTES / 4096});
	EXPECT_EQ(bed_.run(packet).records.size(), taken);  // dropped itself, then the ring is read
	EXPECT_EQ(bed_.run(packet).records.size(), 1u);
}

// It may sleep on the CPU that receives, and then not get to run between the packets of a poll.
TEST_F(XdpState, AWorkerThatSleepsIsWokenByOneRecordAndNotByThoseThatComeBeforeItRuns)
{
	bed_.apply({"neighbour", "198.51.100.1", "resolving"});
	const Fd epoll(epoll_create1(EPOLL_CLOEXEC));
	epoll_event edge{.events = EPOLLIN | EPOLLET, .data = {}};
	ASSERT_EQ(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, bed_.datapath().exception_rings()[0], &edge), 0);
	const auto wakes = [&](int timeout_ms) {
		bed_.run(frame(kNet + 1, kNet + 2, 9), XdpBed::Rings::leave);
		epoll_event event;
		return epoll_wait(epoll.get(), &event, 1, timeout_ms) == 1;
	};
	uint32_t &sleeps = bed_.datapath().control()->worker_sleeps[0];
	EXPECT_FALSE(wakes(0)) << "it did not sleep";
	sleeps = 1;
	EXPECT_TRUE(wakes(1000));
	for (int i = 0; i < 10; i++)
		EXPECT_FALSE(wakes(0)) << "it was woken before";
	sleeps = 1;  // again, after what came meanwhile
	EXPECT_TRUE(wakes(1000));
	bed_.run(frame(kNet + 1, kNet + 2, 9));  // and reads what they were
}

TEST_F(XdpState, TheLargestFrameATestRunTakesLeavesWhole)
{
	const Bytes packet = frame(kNet + 1, kNet + 2, 9, 3300);
	const Outcome outcome = bed_.run(packet);
	ASSERT_EQ(outcome.action, XDP_REDIRECT);
	EXPECT_EQ(outcome.out.size(), packet.size() - kInner);
	EXPECT_TRUE(std::equal(packet.begin() + kInnerIp, packet.end(), outcome.out.begin() + kEthernet));
}

TEST_F(XdpState, PacketsOfEverySizeComeOutOfARingWholeAndInOrderHoweverOftenItWraps)
{
	bed_.apply({"neighbour", "198.51.100.1", "resolving"});
	const uint32_t seed = std::random_device{}();
	std::mt19937 random(seed);
	uint64_t bytes = 0;
	while (bytes < 20 * VX_RING_BYTES) {
		std::vector<Bytes> sent;
		std::vector<ExceptionRecord> read;
		for (uint32_t i = 0, unread = random() % 20; i <= unread; i++) {
			sent.push_back(frame(kNet + 1, kNet + random() % 1000, 9, 1 + random() % 3000));
			read = bed_.run(sent.back(), i == unread ? XdpBed::Rings::read : XdpBed::Rings::leave).records;
		}
		ASSERT_EQ(read.size(), sent.size()) << "seed " << seed;
		for (size_t i = 0; i < sent.size(); i++) {
			const Bytes inner(sent[i].begin() + kInnerIp, sent[i].end());
			ASSERT_EQ(Bytes(read[i].frame.begin() + kEthernet, read[i].frame.end()), inner) << "seed " << seed;
			bytes += inner.size();
		}
	}
}

TEST_F(XdpState, PacketsNobodyReportedAreCountedOnceAndLikeTheLastOneReported)
{
	bed_.datapath().settle();  // what earlier test runs redirected to nowhere
	vx_slot &slot = bed_.slot();
	const vx_slot before = slot;
	const vx_counters &settled = bed_.datapath().slots()[VX_CONTROL_SLOT].direction[VX_INSIDE];
	const uint64_t refused = settled.dropped[VX_DROP_tx_refused], forwarded = settled.forwarded;

	slot.direction[VX_INSIDE].redirected += 6;
	slot.last_fate = 1 + VX_DROP_tx_refused;
	bed_.datapath().settle();
	bed_.datapath().settle();
	EXPECT_EQ(settled.dropped[VX_DROP_tx_refused] - refused, 6u);
	slot.direction[VX_INSIDE].redirected += 3;
	slot.last_fate = 0;
	bed_.datapath().settle();
	EXPECT_EQ(settled.forwarded - forwarded, 3u);
	EXPECT_EQ(slot.direction[VX_INSIDE].unreported - before.direction[VX_INSIDE].unreported, 9u);
	slot = before;
}

}  // namespace
}  // namespace vx::test
