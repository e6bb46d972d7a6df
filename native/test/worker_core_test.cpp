// Worker 0's pure parts: fragmentation, held fragments, routes, checksums. No kernel, no clock.
#include <gtest/gtest.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <map>
#include <random>

#include "../core/checksum.h"
#include "../core/fragment_holder.h"
#include "../core/ipv4_fragments.h"
#include "../core/route_table.h"
#include "../worker/event_queue.h"

namespace vx {
namespace {

using Bytes = std::vector<uint8_t>;

uint16_t load16(const Bytes &bytes, size_t at)
{
	return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

Bytes packet(size_t payload, uint16_t flags_and_offset, Bytes options = {})
{
	Bytes bytes(20 + options.size() + payload);
	bytes[0] = static_cast<uint8_t>(0x40 | (20 + options.size()) / 4);
	bytes[2] = static_cast<uint8_t>(bytes.size() >> 8);
	bytes[3] = static_cast<uint8_t>(bytes.size());
	bytes[6] = static_cast<uint8_t>(flags_and_offset >> 8);
	bytes[7] = static_cast<uint8_t>(flags_and_offset);
	std::copy(options.begin(), options.end(), bytes.begin() + 20);
	for (size_t i = 0; i < payload; i++)
		bytes[20 + options.size() + i] = static_cast<uint8_t>(i ^ i >> 8);
	return bytes;
}

std::vector<Bytes> split(const Bytes &whole, uint32_t mtu)
{
	Ipv4Fragments fragments(whole, mtu);
	std::vector<Bytes> all;
	Bytes out(mtu + 60);
	while (const uint32_t length = fragments.next(out.data()))
		all.emplace_back(out.begin(), out.begin() + length);
	EXPECT_EQ(all.size(), fragments.count());
	return all;
}

// Puts pieces together by nothing but their own headers; the end is told by the last without MF.
Bytes reassemble(const std::vector<Bytes> &pieces, uint32_t first_offset)
{
	std::map<uint32_t, Bytes> by_offset;
	for (const Bytes &piece : pieces) {
		const size_t header = (piece[0] & 15) * 4u;
		EXPECT_EQ(load16(piece, 2), piece.size());
		EXPECT_EQ(fold(sum_words(piece.data(), header)), 0xffff);
		by_offset[(load16(piece, 6) & 0x1fffu) * 8] =
			Bytes(piece.begin() + static_cast<long>(header), piece.end());
	}
	Bytes payload;
	for (const auto &[offset, bytes] : by_offset) {
		EXPECT_EQ(offset, first_offset + payload.size());
		payload.insert(payload.end(), bytes.begin(), bytes.end());
	}
	return payload;
}

TEST(Ipv4Fragments, AnyPacketAtAnyMtuComesBackWholeFromItsFragments)
{
	std::mt19937 random(20260);
	for (int round = 0; round < 3000; round++) {
		const size_t payload = 1 + random() % 3400;
		const uint32_t mtu = 68 + random() % 1500;
		const uint16_t offset = static_cast<uint16_t>(random() % 100);
		const bool more = random() % 2 && payload % 8 == 0;
		const Bytes whole = packet(payload, static_cast<uint16_t>((more ? 0x2000 : 0) | offset));
		const auto pieces = split(whole, mtu);
		ASSERT_FALSE(pieces.empty());
		for (const Bytes &piece : pieces) {
			ASSERT_LE(piece.size(), mtu);
			const bool last = &piece == &pieces.back();
			ASSERT_EQ(bool(load16(piece, 6) & 0x2000), !last || more);
		}
		ASSERT_EQ(reassemble(pieces, offset * 8u), Bytes(whole.begin() + 20, whole.end()))
			<< payload << " " << mtu;
	}
}

TEST(Ipv4Fragments, OnlyOptionsWithTheCopiedFlagAreInLaterFragments)
{
	// no-op, record route (not copied, 7 bytes), router alert (copied, 4 bytes)
	const Bytes options = {1, 7, 7, 4, 9, 9, 9, 9, 0x94, 4, 0, 0};
	const auto pieces = split(packet(1000, 0, options), 500);
	ASSERT_GE(pieces.size(), 3u);
	EXPECT_EQ(Bytes(pieces[0].begin() + 20, pieces[0].begin() + 32), options);
	EXPECT_EQ(pieces[1][0], 0x46);
	EXPECT_EQ(Bytes(pieces[1].begin() + 20, pieces[1].begin() + 24), Bytes({0x94, 4, 0, 0}));
	EXPECT_EQ(reassemble(pieces, 0).size(), 1000u);
}

TEST(Ipv4Fragments, OptionsThatContradictTheirLengthAreNotCopied)
{
	for (const Bytes &options : {Bytes{0x94, 0, 0, 0}, Bytes{0x94, 9, 0, 0}, Bytes{1, 1, 1, 0x94}}) {
		const auto pieces = split(packet(1000, 0, options), 500);
		ASSERT_GE(pieces.size(), 3u);
		EXPECT_EQ(pieces[1][0], 0x45);
		EXPECT_EQ(reassemble(pieces, 0).size(), 1000u);
	}
}

TEST(Ipv4Fragments, APacketWithDfOrABrokenHeaderIsNotFragmented)
{
	EXPECT_FALSE(Ipv4Fragments(packet(1000, 0x4000), 500).possible());
	EXPECT_FALSE(Ipv4Fragments(packet(1001, 0x2000), 500).possible());
	EXPECT_FALSE(Ipv4Fragments(packet(1000, 0), 27).possible());
	Bytes cut = packet(1000, 0);
	cut.resize(900);
	EXPECT_FALSE(Ipv4Fragments(cut, 500).possible());
	EXPECT_FALSE(Ipv4Fragments(Bytes(19, 0x45), 500).possible());
}

TEST(Checksum, AnIncrementalChangeEqualsTheSumOverTheChangedHeader)
{
	std::mt19937 random(7);
	for (int round = 0; round < 10000; round++) {
		Bytes header(20);
		for (uint8_t &byte : header)
			byte = static_cast<uint8_t>(round % 3 ? random() : (random() % 2 ? 0xff : 0));
		header[10] = header[11] = 0;
		const uint16_t before = internet_checksum(header.data(), 20);
		uint32_t from, to = static_cast<uint32_t>(random());
		memcpy(&from, &header[16], 4);
		memcpy(&header[16], &to, 4);
		header[0] = 0x45;  // never all zero, where the two zeros of one's complement meet
		Bytes original = header;
		memcpy(&original[16], &from, 4);
		const uint16_t start = internet_checksum(original.data(), 20);
		EXPECT_EQ(checksum_after_change(start, from, to), internet_checksum(header.data(), 20)) << before;
	}
}

vx_fragment_key key(uint16_t id)
{
	vx_fragment_key one{};
	one.id_be = id;
	return one;
}

TEST(FragmentHolder, ReleasesWhatWaitedInOrderAndOnlyOnce)
{
	FragmentHolder holder({});
	EXPECT_TRUE(holder.hold(key(1), {10, 100}, 0).empty());
	EXPECT_TRUE(holder.hold(key(2), {20, 100}, 0).empty());
	EXPECT_TRUE(holder.hold(key(1), {11, 100}, 0).empty());
	const auto released = holder.release(key(1));
	ASSERT_EQ(released.size(), 2u);
	EXPECT_EQ(released[0].address, 10u);
	EXPECT_EQ(released[1].address, 11u);
	EXPECT_TRUE(holder.release(key(1)).empty());
	EXPECT_EQ(holder.frames(), 1u);
}

TEST(FragmentHolder, ADatagramWithTooManyFragmentsIsGivenUpWithAllOfThem)
{
	FragmentHolder holder({});
	for (uint64_t i = 0; i < 64; i++)
		ASSERT_TRUE(holder.hold(key(1), {i, 100}, 0).empty());
	const auto given_up = holder.hold(key(1), {64, 100}, 0);
	ASSERT_EQ(given_up.size(), 1u);
	EXPECT_EQ(given_up[0].frames.size(), 65u);
	EXPECT_EQ(holder.frames(), 0u);
}

TEST(FragmentHolder, WhenTooManyDatagramsWaitTheOldestIsGivenUp)
{
	FragmentHolder holder({});
	for (uint16_t i = 0; i < 64; i++)
		ASSERT_TRUE(holder.hold(key(i), {i, 100}, i).empty());
	const auto given_up = holder.hold(key(64), {64, 100}, 64);
	ASSERT_EQ(given_up.size(), 1u);
	EXPECT_EQ(given_up[0].key.id_be, 0);
	EXPECT_EQ(holder.release(key(64)).size(), 1u);
}

TEST(FragmentHolder, WhenTooManyFramesWaitTheOldestDatagramsAreGivenUp)
{
	FragmentHolder holder({.frames = 100});
	for (uint64_t i = 0; i < 100; i++)
		ASSERT_TRUE(holder.hold(key(static_cast<uint16_t>(i / 50)), {i, 100}, i).empty());
	const auto given_up = holder.hold(key(2), {100, 100}, 100);
	ASSERT_EQ(given_up.size(), 1u);
	EXPECT_EQ(given_up[0].frames.size(), 50u);
	EXPECT_EQ(holder.frames(), 51u);
}

TEST(FragmentHolder, ADatagramExpiresWhenItsTimeIsUpAndNotANanosecondBefore)
{
	FragmentHolder holder({.timeout_ns = 1000});
	holder.hold(key(1), {1, 100}, 5);
	holder.hold(key(2), {2, 100}, 500);
	EXPECT_TRUE(holder.expire(1004).empty());
	const auto expired = holder.expire(1005);
	ASSERT_EQ(expired.size(), 1u);
	EXPECT_EQ(expired[0].key.id_be, 1);
	EXPECT_EQ(holder.frames(), 1u);
}

const RoutePrefix kDefault{AF_INET, 0, {}};

RouteCandidate candidate(uint32_t metric, uint8_t kind, uint8_t gateway = 0, uint32_t table = RT_TABLE_MAIN)
{
	RouteCandidate one{};
	one.table = table;
	one.metric = metric;
	one.route.kind = kind;
	one.route.gateway.bytes[15] = gateway;
	return one;
}

TEST(RouteTable, TheLowestMetricDecidesAndDeletingItBringsTheNextBestBack)
{
	RouteTable table;
	table.add(kDefault, candidate(100, VX_ROUTE_GATEWAY, 1), RoutePlace::before);
	table.add(kDefault, candidate(50, VX_ROUTE_GATEWAY, 2), RoutePlace::before);
	table.add(kDefault, candidate(200, VX_ROUTE_NONE), RoutePlace::before);
	EXPECT_EQ(table.best(kDefault)->gateway.bytes[15], 2);
	EXPECT_TRUE(table.remove(kDefault, candidate(50, VX_ROUTE_GATEWAY, 2)));
	EXPECT_EQ(table.best(kDefault)->gateway.bytes[15], 1);
	EXPECT_TRUE(table.remove(kDefault, candidate(100, VX_ROUTE_GATEWAY, 1)));
	EXPECT_EQ(table.best(kDefault)->kind, VX_ROUTE_NONE);
	EXPECT_FALSE(table.remove(kDefault, candidate(100, VX_ROUTE_GATEWAY, 1)));
	EXPECT_TRUE(table.remove(kDefault, candidate(200, VX_ROUTE_NONE)));
	EXPECT_EQ(table.best(kDefault), nullptr);
}

TEST(RouteTable, TheLocalTableDecidesBeforeMainWhateverTheMetric)
{
	RouteTable table;
	table.add(kDefault, candidate(0, VX_ROUTE_ONLINK), RoutePlace::before);
	table.add(kDefault, candidate(9, VX_ROUTE_LOCAL, 0, RT_TABLE_LOCAL), RoutePlace::before);
	EXPECT_EQ(table.best(kDefault)->kind, VX_ROUTE_LOCAL);
}

TEST(RouteTable, ReplaceAppendAndPrependActOnTheirMetricOnly)
{
	RouteTable table;
	table.add(kDefault, candidate(10, VX_ROUTE_GATEWAY, 1), RoutePlace::before);
	table.add(kDefault, candidate(10, VX_ROUTE_GATEWAY, 2), RoutePlace::after);
	EXPECT_EQ(table.best(kDefault)->gateway.bytes[15], 1);
	table.add(kDefault, candidate(10, VX_ROUTE_GATEWAY, 3), RoutePlace::before);
	EXPECT_EQ(table.best(kDefault)->gateway.bytes[15], 3);
	table.add(kDefault, candidate(10, VX_ROUTE_GATEWAY, 4), RoutePlace::instead);
	EXPECT_EQ(table.best(kDefault)->gateway.bytes[15], 4);
	table.remove(kDefault, candidate(10, VX_ROUTE_GATEWAY, 4));
	EXPECT_EQ(table.best(kDefault)->gateway.bytes[15], 1);
	table.add(kDefault, candidate(20, VX_ROUTE_GATEWAY, 5), RoutePlace::instead);
	EXPECT_EQ(table.best(kDefault)->gateway.bytes[15], 1);
}

TEST(RouteTable, AFullReadingKeepsWhatItFindsAndRemovesTheRest)
{
	RouteTable table;
	const RoutePrefix other{AF_INET, 8, {}};
	table.add(kDefault, candidate(1, VX_ROUTE_GATEWAY, 1), RoutePlace::after);
	table.add(kDefault, candidate(2, VX_ROUTE_GATEWAY, 2), RoutePlace::after);
	table.add(other, candidate(1, VX_ROUTE_GATEWAY, 3), RoutePlace::after);
	table.begin_resync();
	EXPECT_FALSE(table.add(kDefault, candidate(2, VX_ROUTE_GATEWAY, 2), RoutePlace::after));
	EXPECT_EQ(table.best(kDefault)->gateway.bytes[15], 1) << "nothing is absent before the reading ends";
	EXPECT_EQ(table.end_resync().size(), 2u);
	EXPECT_EQ(table.best(kDefault)->gateway.bytes[15], 2);
	EXPECT_EQ(table.best(other), nullptr);
}

TEST(RouteTable, ARouteFoundAgainWithMoreNexthopsIsKnownToHaveThem)
{
	RouteTable table;
	RouteCandidate one = candidate(1, VX_ROUTE_GATEWAY, 1);
	table.add(kDefault, one, RoutePlace::after);
	one.multipath = true;
	table.add(kDefault, one, RoutePlace::after);
	EXPECT_TRUE(table.has_multipath(kDefault));
}

TEST(EventQueue, AFloodOfOneKindLeavesRoomForOthersAndItsNumberIsTold)
{
	EventQueue queue;
	for (int i = 0; i < 5000; i++)
		queue.push("flood", 1, std::to_string(i));
	queue.push("rare", 1, "once");
	queue.push("flood", 1000000001, "in the next second");
	std::map<std::string, uint64_t> events, suppressed;
	for (const WorkerEvent &event : queue.drain()) {
		events[event.event] += !event.suppressed;
		suppressed[event.event] += event.suppressed;
	}
	EXPECT_EQ(events["rare"], 1u);
	EXPECT_EQ(suppressed["rare"], 0u);
	EXPECT_EQ(events["flood"], 65u);
	EXPECT_EQ(events["flood"] + suppressed["flood"], 5001u);
	EXPECT_TRUE(queue.drain().empty());
}

TEST(EventQueue, WhatMadeRoomForNewerEventsIsCounted)
{
	EventQueue queue;
	constexpr uint64_t kSecond = 1000000000, kEvents = 3000;
	for (uint64_t i = 0; i < kEvents; i++)
		queue.push("one", (i + 1) * kSecond, std::to_string(i));
	uint64_t kept = 0, suppressed = 0;
	std::string last;
	for (const WorkerEvent &event : queue.drain()) {
		suppressed += event.suppressed;
		kept += !event.suppressed;
		last = event.suppressed ? last : event.detail;
	}
	EXPECT_GT(kept, 0u);
	EXPECT_LT(kept, kEvents);
	EXPECT_EQ(kept + suppressed, kEvents);
	EXPECT_EQ(last, std::to_string(kEvents - 1));
}

TEST(RouteTable, AnIpv6PrefixIsNeverTakenForTheIpv4OneMappedIntoIt)
{
	RouteTable table;
	table.add({AF_INET6, 0, {}}, candidate(1, VX_ROUTE_NONE), RoutePlace::after);
	EXPECT_EQ(table.best(kDefault), nullptr);
}

}  // namespace
}  // namespace vx
