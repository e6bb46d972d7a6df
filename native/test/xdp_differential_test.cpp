// Three opinions on the same frames: the eBPF program (BPF_PROG_TEST_RUN), its parser built for the host, and for
// checksums the definition itself. Frames: every fixture's, every input of the fuzzer's corpus, and mutations of them. A
// failure prints seed and frame; VX_SEED and VX_MUTATIONS in the environment repeat or extend a run. Root.
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>

#include "parser_host.h"
#include "xdp_bed.h"

namespace vx::test {
namespace {

constexpr size_t kFrameMin = 14;    // shorter ones the kernel does not take
constexpr size_t kFrameMax = 3000;  // what fits the page of a test run, with room

uint64_t environment(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);
	return value ? strtoull(value, nullptr, 0) : otherwise;
}

std::vector<Bytes> known_frames()
{
	std::vector<Bytes> frames;
	for (const Fixture &fixture : read_fixtures(VX_FIXTURES))
		for (const FixtureStep &step : fixture.steps)
			frames.push_back(step.in);
	for (const auto &entry : std::filesystem::directory_iterator(VX_CORPUS)) {
		std::ifstream stream(entry.path(), std::ios::binary);
		frames.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
	}
	std::erase_if(frames, [](const Bytes &frame) { return frame.size() < kFrameMin || frame.size() > kFrameMax; });
	return frames;
}

// A handful of changes where they hurt: bits, bytes, lengths, ends, and parts of other frames.
Bytes mutate(Bytes frame, const std::vector<Bytes> &others, std::mt19937_64 &random)
{
	const auto below = [&](size_t limit) { return static_cast<size_t>(random() % limit); };
	for (size_t left = 1 + below(4); left > 0; left--) {
		const size_t at = below(frame.size());
		switch (below(7)) {
		case 0: frame[at] ^= static_cast<uint8_t>(1u << below(8)); break;
		case 1: frame[at] = static_cast<uint8_t>(random()); break;
		case 2: frame[at] = static_cast<uint8_t>(frame[at] + (below(2) ? 1 : -1)); break;
		case 3: frame.resize(std::max(kFrameMin, at)); break;
		case 4: frame.resize(std::min(kFrameMax, frame.size() + below(64)), static_cast<uint8_t>(random())); break;
		case 5: {
			static constexpr uint8_t edges[] = {0, 1, 4, 6, 8, 17, 44, 60, 0x45, 0x4f, 0x60, 0x7f, 0x80, 0x81, 0xff};
			frame[at] = edges[below(std::size(edges))];
			break;
		}
		default: {
			const Bytes &other = others[below(others.size())];
			const size_t length = std::min({below(40), frame.size() - at, other.size() - std::min(at, other.size())});
			if (length)
				memcpy(&frame[at], &other[at], length);
		}
		}
	}
	return frame;
}

// RFC 768, 793, 8200: sums to zero with its pseudo-header, by the definition and byte by byte.
bool checksum_holds(const uint8_t *ip, const parser_answer &answer)
{
	const uint8_t *l4 = ip + (answer.l4 - answer.l3);
	uint32_t sum = answer.protocol + answer.l4_length;
	const auto add = [&](const uint8_t *bytes, size_t length) {
		for (size_t i = 0; i < length; i++)
			sum += i % 2 ? bytes[i] : bytes[i] * 256u;
	};
	answer.is_ipv6 ? add(ip + 8, 32) : add(ip + 12, 8);
	add(l4, answer.l4_length);
	while (sum > 0xffff)
		sum = (sum >> 16) + (sum & 0xffff);
	return sum == 0xffff;
}

// The field holds what a sender leaves who lets hardware complete it.
bool left_to_hardware(const uint8_t *ip, const parser_answer &answer, size_t field)
{
	uint32_t sum = answer.protocol + answer.l4_length;
	const uint8_t *addresses = ip + (answer.is_ipv6 ? 8 : 12);
	for (size_t i = 0; i < (answer.is_ipv6 ? 32u : 8u); i += 2)
		sum += addresses[i] * 256u + addresses[i + 1];
	while (sum > 0xffff)
		sum = (sum >> 16) + (sum & 0xffff);
	return sum == ip[field] * 256u + ip[field + 1];
}

const char *drop_name(uint32_t drop)
{
	static const char *const names[] = {
#define X(name, help) #name,
		VX_DROPS(X)
#undef X
	};
	return names[drop];
}

constexpr int kLost = -1;
// RFC 6040 figure 4, by what the packet and what its tunnel says; in the order of the two bits.
constexpr int kMergedEcn[4][4] = {{0, 0, 0, kLost}, {1, 1, 1, 3}, {2, 1, 2, 3}, {3, 3, 3, 3}};

int merged_ecn(const uint8_t *ip, const parser_answer &answer)
{
	return kMergedEcn[(answer.is_ipv6 ? ip[1] >> 4 : ip[1]) & 3][answer.outer_ecn];
}

// The sum of an IPv4 header without options, with its checksum.
uint32_t header_sum(const uint8_t *ip)
{
	uint32_t sum = 0;
	for (size_t i = 0; i < 20; i += 2)
		sum += ip[i] * 256u + ip[i + 1];
	return sum % 0xffff;
}

class Differential : public testing::TestWithParam<const char *> {
protected:
	void SetUp() override
	{
		const std::string knobs = GetParam();
		knobs_.plain_ethernet = knobs.find("plain") != std::string::npos;
		knobs_.forward_ipv6 = knobs.find("forward_ipv6") != std::string::npos;
		knobs_.port = 4789;
		XdpBed &bed = XdpBed::instance();
		// Whatever is a packet leaves: one next hop for all, no list, no rule, no MTU.
		bed.load(knobs);
		bed.apply({"interface", "inside", "02:00:00:00:00:01", "65535"});
		bed.apply({"interface", "outside", "02:00:00:00:00:02", "70000"});
	}

	void compare(const Bytes &frame)
	{
		// Of exactly its size on the heap, for the sanitizer's sake.
		const std::unique_ptr<uint8_t[]> copy(new uint8_t[frame.size()]);
		memcpy(copy.get(), frame.data(), frame.size());
		parser_answer answer;
		const bool ours = !knobs_.plain_ethernet || !memcmp(copy.get(), "\x02\0\0\0\0\x01", 6);
		parser_run(copy.get(), frame.size(), &knobs_, &answer);
		if (!ours)
			answer = {};
		ASSERT_STREQ(parser_broken_promise(copy.get(), frame.size(), &knobs_, &answer), nullptr);
		const Outcome outcome = XdpBed::instance().run(frame);
		ASSERT_EQ(outcome.counts.at("received"), 1u);
		if (answer.fate == PARSER_PASS) {
			ASSERT_EQ(outcome.action, XDP_PASS);
			ASSERT_EQ(outcome.out, frame);
		} else if (answer.fate == PARSER_DROP) {
			ASSERT_EQ(outcome.action, XDP_DROP);
			ASSERT_TRUE(outcome.counts.contains(drop_name(answer.drop))) << drop_name(answer.drop);
		} else if (merged_ecn(&frame[answer.l3], answer) == kLost) {
			ASSERT_EQ(outcome.action, XDP_DROP);
			ASSERT_TRUE(outcome.counts.contains("ecn"));
			lost_++;
		} else {
			ASSERT_EQ(outcome.action, XDP_REDIRECT);
			compare_packet(frame, answer, outcome);
		}
	}

	// The packet with its tunnel's ECN; an IPv4 header's checksum is as right or as wrong as it was.
	void expect_merged_ecn(Bytes &expected, const parser_answer &answer, const uint8_t *leaves)
	{
		const size_t shift = answer.is_ipv6 ? 4 : 0;
		const int merged = merged_ecn(expected.data(), answer);
		const auto traffic = static_cast<uint8_t>((expected[1] & ~(3 << shift)) | merged << shift);
		if (traffic == expected[1])
			return;
		if (!answer.is_ipv6) {
			ASSERT_EQ(header_sum(leaves), header_sum(expected.data()));
			memcpy(&expected[10], leaves + 10, 2);
		}
		expected[1] = traffic;
		marked_++;
	}

	// What leaves is the packet, and nothing in it changed but ECN and a checksum left to hardware.
	void compare_packet(const Bytes &frame, const parser_answer &answer, const Outcome &outcome)
	{
		ASSERT_EQ(outcome.out.size(), 14 + answer.length);
		const uint8_t *leaves = outcome.out.data() + 14;
		Bytes expected(frame.begin() + answer.l3, frame.begin() + answer.l3 + answer.length);
		const size_t field = answer.l4 - answer.l3 + (answer.protocol == IPPROTO_UDP ? 6 : 16);
		expect_merged_ecn(expected, answer, leaves);
		ASSERT_FALSE(HasFatalFailure());
		const bool whole = answer.l4 && answer.fragment == 0;
		const bool none = whole && answer.protocol == IPPROTO_UDP && !expected[field] && !expected[field + 1];
		const bool completes = whole && !none && left_to_hardware(expected.data(), answer, field);
		ASSERT_EQ(outcome.counts.contains("checksum_completed"), completes);
		if (completes) {
			ASSERT_TRUE(checksum_holds(leaves, answer));
			ASSERT_FALSE(answer.protocol == IPPROTO_UDP && !leaves[field] && !leaves[field + 1]);
			memcpy(&expected[field], leaves + field, 2);
			completed_++;
		}
		ASSERT_EQ(Bytes(leaves, leaves + answer.length), expected);
		packets_++;
	}

	parser_knobs knobs_{};
	uint64_t packets_ = 0, completed_ = 0, marked_ = 0, lost_ = 0;
};

TEST_P(Differential, ProgramParserAndDefinitionAgreeOnEveryKnownFrame)
{
	for (const Bytes &frame : known_frames()) {
		compare(frame);
		ASSERT_FALSE(HasFatalFailure()) << to_hex(frame);
	}
	EXPECT_GT(packets_, 0u);
}

TEST_P(Differential, ProgramParserAndDefinitionAgreeOnMutatedFrames)
{
	const uint64_t seed = environment("VX_SEED", std::random_device{}());
	const uint64_t count = environment("VX_MUTATIONS", 300000);
	const std::vector<Bytes> frames = known_frames();
	std::mt19937_64 random(seed);
	for (uint64_t i = 0; i < count; i++) {
		const Bytes frame = mutate(frames[random() % frames.size()], frames, random);
		compare(frame);
		ASSERT_FALSE(HasFatalFailure()) << "VX_SEED=" << seed << " mutation " << i << ": " << to_hex(frame);
	}
	// Mutations that nothing survives would prove nothing.
	EXPECT_GT(packets_, count / 100) << "VX_SEED=" << seed;
	RecordProperty("packets", std::to_string(packets_));
	RecordProperty("completed", std::to_string(completed_));
	RecordProperty("marked", std::to_string(marked_));
	RecordProperty("lost", std::to_string(lost_));
}

INSTANTIATE_TEST_SUITE_P(Knobs, Differential,
			 testing::Values("next_hop=02:00:00:00:00:55 forward_ipv6", "next_hop=02:00:00:00:00:55",
					 "next_hop=02:00:00:00:00:55 plain forward_ipv6"));

}  // namespace
}  // namespace vx::test
