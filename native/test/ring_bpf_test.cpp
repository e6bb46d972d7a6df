// The reader of BPF ring buffers against producing threads: what it hands out is whole, complete and in order, whatever the
// producers are in the middle of. Under ThreadSanitizer also: every byte was published before it was read, and read
// before it was written again. Bounded by counts.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <random>
#include <thread>
#include <vector>

#include "bpf_ring_twin.h"

namespace vx::test {
namespace {

constexpr uint32_t kRingBytes = 4096;  // wraps every few records
constexpr uint32_t kRecordMax = 400;

// What a record begins with; the rest of it repeats the low byte of `sequence`.
struct Mark {
	uint32_t producer;
	uint32_t sequence;
	uint32_t length;
};

// Reserves, fills, and commits late and out of order, as programs interrupted by others do.
class Producer {
public:
	Producer(BpfRingTwin &ring, uint32_t id) : ring_(ring), id_(id), random_(id) {}

	void run(uint32_t records)
	{
		for (uint32_t sequence = 0; sequence < records;) {
			const auto length = static_cast<uint32_t>(sizeof(Mark) + random_() % (kRecordMax - sizeof(Mark)));
			uint8_t *record = open_.size() < 3 ? ring_.reserve(length) : nullptr;
			if (!record) {
				commit_one();
				continue;
			}
			const Mark mark{id_, sequence, length};
			memcpy(record, &mark, sizeof mark);
			memset(record + sizeof mark, static_cast<int>(sequence & 0xff), length - sizeof mark);
			open_.push_back({record, discards(sequence++)});
			if (random_() % 2)
				commit_one();
		}
		while (!open_.empty())
			commit_one();
	}
	static bool discards(uint32_t sequence) { return sequence % 7 == 3; }

private:
	struct Open {
		uint8_t *record;
		bool discard;
	};
	BpfRingTwin &ring_;
	uint32_t id_;
	std::minstd_rand random_;
	std::deque<Open> open_;

	void commit_one()
	{
		if (open_.empty())
			return std::this_thread::yield();
		const auto at = open_.begin() + static_cast<long>(random_() % open_.size());
		BpfRingTwin::commit(at->record, at->discard);
		open_.erase(at);
	}
};

class Reader {
public:
	explicit Reader(uint32_t producers) : next_(producers) {}

	void visit(const uint8_t *bytes, size_t length)
	{
		Mark mark;
		ASSERT_GE(length, sizeof mark);
		memcpy(&mark, bytes, sizeof mark);
		ASSERT_EQ(mark.length, length);
		ASSERT_LT(mark.producer, next_.size());
		uint32_t &next = next_[mark.producer];
		if (Producer::discards(next))
			next++;
		ASSERT_EQ(mark.sequence, next++) << "lost, twice or overtaken";
		for (size_t i = sizeof mark; i < length; i++)
			ASSERT_EQ(bytes[i], mark.sequence & 0xff);
	}
	bool has_all(uint32_t records) const
	{
		for (const uint32_t next : next_)
			if (next + (Producer::discards(next) ? 1 : 0) != records)
				return false;
		return true;
	}

private:
	std::vector<uint32_t> next_;
};

void read_what(uint32_t producers, uint32_t records, uint32_t most)
{
	BpfRingTwin ring(kRingBytes);
	Reader reader(producers);
	std::atomic<uint32_t> producing{producers};
	std::vector<std::thread> threads;
	for (uint32_t id = 0; id < producers; id++)
		threads.emplace_back([&, id] {
			Producer(ring, id).run(records);
			producing--;
		});
	const auto visit = [&](const uint8_t *bytes, size_t length) { reader.visit(bytes, length); };
	// Read before the ring is: what was produced by then is found.
	for (bool ended = false; !testing::Test::HasFatalFailure();) {
		ended = producing == 0;
		const uint32_t count = RingReader::consume(ring.memory(), most, visit);
		ASSERT_LE(count, most);
		if (!count && ended)
			break;
		if (!count)
			std::this_thread::yield();
	}
	for (std::thread &thread : threads)
		thread.join();
	EXPECT_TRUE(reader.has_all(records));
	EXPECT_FALSE(ring.readable());
}

TEST(BpfRing, WhatOneProducerWritesIsReadWholeOnceAndInOrder)
{
	read_what(1, 100000, UINT32_MAX);
}

TEST(BpfRing, WhatThreeProducersCommitInAnyOrderIsReadInTheOrderOfTheirReservations)
{
	read_what(3, 40000, UINT32_MAX);
}

TEST(BpfRing, AReaderThatTakesOneRecordATimeGetsThemAll)
{
	read_what(2, 40000, 1);
}

// The counter of looks orders nothing: what the reader may know of a record it has to know from the ring.
TEST(BpfRing, EveryRecordIsLookedAtWhileItIsBusyAndReadOnlyOnceItIsCommitted)
{
	constexpr uint32_t records = 1000;
	BpfRingTwin ring(kRingBytes);
	std::atomic<uint32_t> looks{0};
	std::thread producer([&] {
		for (uint32_t number = 0; number < records; number++) {
			uint8_t *record = ring.reserve(sizeof number);
			const uint32_t seen = looks.load(std::memory_order_relaxed);
			while (looks.load(std::memory_order_relaxed) - seen < 2)
				std::this_thread::yield();
			memcpy(record, &number, sizeof number);
			BpfRingTwin::commit(record, false);
		}
	});
	uint32_t next = 0;
	const auto visit = [&](const uint8_t *bytes, size_t) {
		uint32_t number;
		memcpy(&number, bytes, sizeof number);
		EXPECT_EQ(number, next++);
	};
	for (uint32_t read = 0; read < records; std::this_thread::yield()) {
		read += RingReader::consume(ring.memory(), UINT32_MAX, visit);
		looks.fetch_add(1, std::memory_order_relaxed);
	}
	producer.join();
}

TEST(BpfRing, NothingBehindARecordThatIsNotCommittedIsRead)
{
	BpfRingTwin ring(kRingBytes);
	uint32_t visits = 0;
	const auto visit = [&](const uint8_t *, size_t) { visits++; };
	uint8_t *first = ring.reserve(16), *second = ring.reserve(16);
	BpfRingTwin::commit(second, false);
	EXPECT_EQ(RingReader::consume(ring.memory(), UINT32_MAX, visit), 0u);
	EXPECT_TRUE(ring.readable()) << "a poll for it returns at once";
	BpfRingTwin::commit(first, true);
	EXPECT_EQ(RingReader::consume(ring.memory(), UINT32_MAX, visit), 2u);
	EXPECT_EQ(visits, 1u) << "one of them was discarded";
}

}  // namespace
}  // namespace vx::test
