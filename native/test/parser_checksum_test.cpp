// The checksum code of eBPF (bpf/checksum.h, built for the host) and of the worker (native/core/checksum.h) against a
// third: RFC 1071 as its text says it, over the whole packet and byte by byte. Pure; also run under the sanitizers.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "../core/checksum.h"
#include "parser_host.h"

namespace vx {
namespace {

using Bytes = std::vector<uint8_t>;

// RFC 1071 section 1: the one's complement of the one's complement sum of all 16-bit words, the last padded with 0.
uint16_t by_the_book(const Bytes &bytes)
{
	uint32_t sum = 0;
	for (size_t i = 0; i < bytes.size(); i++) {
		sum += i % 2 ? bytes[i] : bytes[i] * 256u;
		if (sum > 0xffff)
			sum -= 0xffff;
	}
	return static_cast<uint16_t>(0xffff - sum);
}

// One's complement has two zeros; they are the same error of a checksum.
uint16_t one_zero(uint32_t value)
{
	return static_cast<uint16_t>(value == 0xffff ? 0 : value);
}

template <typename T>
T load(const Bytes &bytes, size_t at)
{
	T value;
	memcpy(&value, &bytes[at], sizeof value);
	return value;
}

template <typename T>
void store(Bytes &bytes, size_t at, T value)
{
	memcpy(&bytes[at], &value, sizeof value);
}

uint16_t swapped(uint16_t value)
{
	return static_cast<uint16_t>(value << 8 | value >> 8);
}

class Random {
public:
	explicit Random(uint32_t seed) : engine_(seed) {}
	uint32_t below(uint32_t limit) { return static_cast<uint32_t>(engine_() % limit); }
	// Edge values as often as any.
	uint32_t word()
	{
		static constexpr uint32_t edges[] = {0, 1, 0xffff, 0x10000, 0xffff0000, 0xfffeffff, 0xffffffff};
		return below(2) ? edges[below(7)] : static_cast<uint32_t>(engine_());
	}
	Bytes bytes(size_t length)
	{
		Bytes all(length);
		for (uint8_t &byte : all)
			byte = static_cast<uint8_t>(word());
		return all;
	}

private:
	std::mt19937 engine_;
};

constexpr size_t kCheck = 10, kAddress = 16, kPort = 22;

TEST(Checksum, AnyChangeOfAddressAndPortGivesWhatSummingAllOfItAgainGives)
{
	for (uint32_t seed = 0; seed < 20000; seed++) {
		SCOPED_TRACE("seed " + std::to_string(seed));
		Random random(seed);
		Bytes packet = random.bytes(24 + random.below(80));
		packet[0] = 0x45;  // never all zero, as a header never is
		store<uint16_t>(packet, kCheck, 0);
		store(packet, kCheck, swapped(by_the_book(packet)));
		ASSERT_EQ(by_the_book(packet), 0);

		const uint32_t from = load<uint32_t>(packet, kAddress), to = random.word();
		const uint16_t from_port = load<uint16_t>(packet, kPort), to_port = static_cast<uint16_t>(random.word());
		const uint32_t delta = uint32_t{parser_delta32(from, to)} + parser_delta16(from_port, to_port);
		const uint16_t updated = parser_checksum_add(load<uint16_t>(packet, kCheck), delta);
		store(packet, kAddress, to);
		store(packet, kPort, to_port);
		store<uint16_t>(packet, kCheck, 0);
		ASSERT_EQ(updated, swapped(by_the_book(packet)));
	}
}

TEST(Checksum, AWrongOneStaysWrongByAsMuch)
{
	for (uint32_t seed = 0; seed < 20000; seed++) {
		SCOPED_TRACE("seed " + std::to_string(seed));
		Random random(seed);
		Bytes packet = random.bytes(40);
		const uint16_t error = by_the_book(packet);
		const uint32_t from = load<uint32_t>(packet, kAddress), to = random.word();
		Bytes by_xdp = packet, by_worker = packet;
		const uint16_t check = load<uint16_t>(packet, kCheck);
		store(by_xdp, kAddress, to);
		store(by_xdp, kCheck, parser_checksum_add(check, parser_delta32(from, to)));
		store(by_worker, kAddress, to);
		store(by_worker, kCheck, checksum_after_change(check, from, to));
		ASSERT_EQ(one_zero(by_the_book(by_xdp)), one_zero(error));
		ASSERT_EQ(one_zero(by_the_book(by_worker)), one_zero(error));
	}
}

TEST(Checksum, TheWorkersSumOverAnyLengthIsTheBooks)
{
	for (uint32_t seed = 0; seed < 2000; seed++) {
		Random random(seed);
		const Bytes bytes = random.bytes(random.below(1500));
		ASSERT_EQ(internet_checksum(bytes.data(), bytes.size()), swapped(by_the_book(bytes))) << "seed " << seed;
	}
}

TEST(Checksum, FoldingKeepsTheSumModuloItsOnes)
{
	for (const uint32_t sum : {0u, 1u, 0xfffeu, 0xffffu, 0x10000u, 0x1fffeu, 0x1ffffu, 0xfffeffffu, 0xffff0000u, 0xffffffffu}) {
		const uint16_t folded = parser_fold(sum);
		EXPECT_EQ(folded % 0xffff, sum % 0xffff) << sum;
		EXPECT_EQ(folded == 0, sum == 0) << sum;
		EXPECT_EQ(parser_fold(parser_sum32(sum)), folded) << sum;
	}
}

TEST(Checksum, OnlyZeroBecomesAllOnesForUdp)
{
	EXPECT_EQ(parser_udp_nonzero(0), 0xffff);
	for (uint32_t check = 1; check <= 0xffff; check++)
		ASSERT_EQ(parser_udp_nonzero(static_cast<uint16_t>(check)), check);
}

}  // namespace
}  // namespace vx
