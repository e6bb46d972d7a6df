// Every branch of the inside program, one frame at a time: a sentence, knobs, maps, a frame, and the verdict, frame and
// counters it must come to. The cases are in fixtures/*.txt; run by ctest as root.
#include <dirent.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>


#include "xdp_bed.h"
#include "xdp_words.h"

namespace vx::test {
namespace {

constexpr size_t kEthernet = 14;

std::string text_of(const std::map<std::string, uint64_t> &counts)
{
	std::string text;
	for (const auto &[name, value] : counts)
		text += name + "=" + std::to_string(value) + " ";
	return text;
}

int action_of(const std::string &verdict)
{
	return verdict == "redirect" ? XDP_REDIRECT : verdict == "pass" ? XDP_PASS : verdict == "aborted" ? XDP_ABORTED : XDP_DROP;
}

class FixtureTest : public testing::Test {
public:
	explicit FixtureTest(const Fixture &fixture) : fixture_(fixture) {}

	void TestBody() override
	{
		XdpBed &bed = XdpBed::instance();
		bed.load(fixture_.knobs);
		for (const FixtureStep &step : fixture_.steps) {
			SCOPED_TRACE(fixture_.group + ".txt:" + std::to_string(step.line));
			for (const Words &words : step.setup)
				bed.apply(words);
			compare(step, step.verdict == "unread" ? bed.run(step.in, XdpBed::Rings::leave) : bed.run(step.in));
			for (const Words &words : step.after)
				EXPECT_EQ(bed.differs(words), "") << words[0] << " " << words[1];
		}
	}

private:
	static void compare(const FixtureStep &step, const Outcome &outcome)
	{
		const bool by_ring = step.verdict == "worker";
		EXPECT_EQ(outcome.action, action_of(step.verdict)) << step.verdict;
		EXPECT_EQ(text_of(told(outcome.counts, step.counts)), text_of(step.counts));
		EXPECT_EQ(outcome.records.size(), by_ring ? 1u : 0u);
		if (by_ring && outcome.records.size() == 1)
			compare_record(step, outcome.records[0]);
		else if (step.verdict == "redirect" || step.verdict == "pass")
			EXPECT_EQ(to_hex(outcome.out), to_hex(step.out));
	}

	// How often the caches missed is looked at in the cases that are about them.
	static std::map<std::string, uint64_t> told(std::map<std::string, uint64_t> counts,
						    const std::map<std::string, uint64_t> &expected)
	{
		const auto asked = expected.find("cache_misses");
		if (asked == expected.end())
			counts.erase("cache_misses");
		else if (asked->second == 0)
			counts.emplace("cache_misses", 0);
		return counts;
	}

	static void compare_record(const FixtureStep &step, const ExceptionRecord &record)
	{
		const Words &told = step.exception;
		EXPECT_EQ(record.head.magic, VX_EXCEPTION_MAGIC);
		EXPECT_EQ(record.head.length, step.out.size());
		EXPECT_EQ(record.head.reason, state_from(told.at(0), {"neighbour", "too_big", "first", "later"}));
		EXPECT_EQ(record.head.original_destination_be, ipv4_from(told.at(2)));
		EXPECT_EQ(record.head.new_destination_be, ipv4_from(told.at(4)));
		EXPECT_EQ(to_hex(Bytes(record.frame.begin() + kEthernet, record.frame.end())),
			  to_hex(Bytes(step.out.begin() + kEthernet, step.out.end())));
	}

	const Fixture &fixture_;
};

int count_descriptors()
{
	DIR *directory = opendir("/proc/self/fd");
	int count = 0;
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

// The bed's own descriptors come and go with a load; what a second load adds is leaked.
TEST(XdpBed, LoadingAndUnloadingTheProgramsLeavesNoDescriptorBehind)
{
	XdpBed &bed = XdpBed::instance();
	bed.load("");
	bed.load("clear_df");
	const int before = count_descriptors();
	bed.load("");
	bed.load("clear_df");
	EXPECT_EQ(count_descriptors(), before);
}

}  // namespace
}  // namespace vx::test

int main(int argc, char **argv)
{
	using namespace vx::test;
	testing::InitGoogleTest(&argc, argv);
	const std::vector<Fixture> fixtures = read_fixtures(VX_FIXTURES);
	for (const Fixture &fixture : fixtures)
		testing::RegisterTest(fixture.group.c_str(), fixture.title.c_str(), nullptr, nullptr, __FILE__, fixture.line,
				      [&fixture]() -> testing::Test * { return new FixtureTest(fixture); });
	return RUN_ALL_TESTS();
}
