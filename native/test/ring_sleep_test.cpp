// How a worker falls asleep beside a producer that wakes only who sleeps (bpf/leave.h, Loop::wait), as a litmus test: the
// producer reserves a record and then reads `sleeps`; the worker sets `sleeps` and then looks for records. Each may miss
// the other's write only if the other does not miss its own, or a record lies there and nobody wakes. Who wakes it takes
// `sleeps` back, so that further producers, by rings of their own, rely on that one wake-up. Bounded by counts.
#include <gtest/gtest.h>
#include <semaphore.h>
#include <time.h>

#include <atomic>
#include <barrier>
#include <cerrno>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "bpf_ring_twin.h"

namespace vx::test {
namespace {

constexpr uint32_t kProducers = 2;
constexpr uint32_t kRecords = 50000;  // of each
constexpr int kWakeSeconds = 10;  // nobody has to be that slow; a wake-up that was lost never comes

class Wakeups {
public:
	// vx_put_record: the counter's locked addition stands between the reservation and the look at `sleeps_`.
	void produce(uint32_t ring, uint32_t number)
	{
		uint8_t *record = nullptr;
		while (!(record = rings_[ring].reserve(sizeof number)))
			std::this_thread::yield();
		memcpy(record, &number, sizeof number);
		__sync_fetch_and_add(&handed_over_[ring].count, 1);
		const bool wake = __atomic_load_n(&sleeps_, __ATOMIC_RELAXED);
		if (wake)
			__atomic_store_n(&sleeps_, 0, __ATOMIC_RELAXED);
		BpfRingTwin::commit(record, false);
		if (wake)
			sem_post(&wake_);
	}
	// Loop::wait. False: there was a record and nobody woke.
	bool sleep()
	{
		__atomic_store_n(&sleeps_, 1, __ATOMIC_SEQ_CST);
		const bool found = rings_[0].readable() || rings_[1].readable();
		const bool woken = found || wait();
		__atomic_store_n(&sleeps_, 0, __ATOMIC_RELAXED);
		slept_ += !found;
		return woken;
	}
	uint32_t consume(uint32_t ring, const RingReader::Visit &visit)
	{
		return RingReader::consume(rings_[ring].memory(), 64, visit);
	}
	uint32_t slept() const { return slept_; }

	Wakeups() { sem_init(&wake_, 0, 0); }
	~Wakeups() { sem_destroy(&wake_); }

private:
	struct alignas(64) HandedOver {
		uint64_t count = 0;
	};

	BpfRingTwin rings_[kProducers]{BpfRingTwin(4096), BpfRingTwin(4096)};
	alignas(64) uint32_t sleeps_ = 0;
	HandedOver handed_over_[kProducers];
	sem_t wake_;
	uint32_t slept_ = 0;

	bool wait()
	{
		timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += kWakeSeconds;
		int failed;
		while ((failed = sem_timedwait(&wake_, &until)) && errno == EINTR)
			;
		return !failed;
	}
};

TEST(WorkerSleep, NoRecordIsLeftBehindByAWorkerThatFallsAsleepAsItComes)
{
	Wakeups worker;
	std::atomic<uint32_t> read[kProducers] = {};
	const auto produce = [&](uint32_t ring) {
		std::minstd_rand random(ring + 1);
		for (uint32_t number = 0; number < kRecords; number++) {
			// Most come alone, and at any moment of the worker's falling asleep.
			if (number % 16)
				while (read[ring].load(std::memory_order_relaxed) < number)
					;
			for (auto pause = random() % 256; pause > 0; pause--)
				__builtin_ia32_pause();
			worker.produce(ring, number);
		}
	};
	std::thread producers[kProducers];
	for (uint32_t ring = 0; ring < kProducers; ring++)
		producers[ring] = std::thread(produce, ring);
	uint32_t next[kProducers] = {};
	const auto consume = [&] {
		uint32_t count = 0;
		for (uint32_t ring = 0; ring < kProducers; ring++)
			count += worker.consume(ring, [&](const uint8_t *bytes, size_t) {
				uint32_t number;
				memcpy(&number, bytes, sizeof number);
				EXPECT_EQ(number, next[ring]++);
				read[ring].store(next[ring], std::memory_order_relaxed);
			});
		return count;
	};
	const auto done = [&] { return next[0] == kRecords && next[1] == kRecords; };
	uint32_t lost = 0;
	while (!done() && !lost)
		if (!consume())
			lost += !worker.sleep();
	while (!done())  // so that the producers end
		consume();
	for (std::thread &producer : producers)
		producer.join();
	EXPECT_EQ(lost, 0u) << "after " << next[0] << " and " << next[1] << " records and " << worker.slept() << " sleeps";
	EXPECT_GT(worker.slept(), 0u) << "it never slept, so nothing was tested";
}

// The two orders alone, at the same moment: writes linger in a store buffer for some nanoseconds only.
class StoreBuffers {
public:
	static constexpr uint32_t kCells = 4096, kRounds = 25;

	// In how many cells each side missed the other's write.
	uint64_t run()
	{
		std::thread producer([this] { rounds(0, [this](Cell &cell) { produce(cell); }); });
		uint64_t both = 0;
		rounds(1, fall_asleep, [&] {
			for (Cell &cell : cells_) {
				both += !cell.saw_sleeps && !cell.saw_record;
				cell = {};
			}
		});
		producer.join();
		return both;
	}

private:
	static constexpr int kSpins = 500;  // with one CPU the other side cannot come

	struct alignas(128) Cell {
		uint32_t record = 0, saw_sleeps = 0;
		alignas(64) uint32_t sleeps = 0, saw_record = 0;
	};
	struct alignas(64) Progress {
		std::atomic<uint32_t> at{0};
	};
	std::vector<Cell> cells_{kCells};
	std::barrier<> barrier_{2};
	Progress progress_[2];
	alignas(64) uint64_t handed_over_ = 0;

	void produce(Cell &cell)
	{
		__atomic_store_n(&cell.record, 1, __ATOMIC_RELEASE);
		__sync_fetch_and_add(&handed_over_, 1);
		cell.saw_sleeps = __atomic_load_n(&cell.sleeps, __ATOMIC_RELAXED);
	}
	static void fall_asleep(Cell &cell)
	{
		__atomic_store_n(&cell.sleeps, 1, __ATOMIC_SEQ_CST);
		cell.saw_record = __atomic_load_n(&cell.record, __ATOMIC_ACQUIRE);
	}
	void meet(int side, uint32_t at)
	{
		progress_[side].at.store(at, std::memory_order_relaxed);
		for (int i = 0; i < kSpins && progress_[!side].at.load(std::memory_order_relaxed) < at; i++)
			__builtin_ia32_pause();
	}
	template <typename Side>
	void rounds(int which, Side side, const std::function<void()> &judge = [] {})
	{
		for (uint32_t round = 0; round < kRounds; round++) {
			barrier_.arrive_and_wait();
			for (uint32_t i = 0; i < kCells; i++) {
				meet(which, round * kCells + i);
				side(cells_[i]);
			}
			barrier_.arrive_and_wait();
			judge();
		}
	}
};

TEST(WorkerSleep, ProducerAndWorkerNeverMissEachOthersWriteBoth)
{
	EXPECT_EQ(StoreBuffers().run(), 0u);
}

}  // namespace
}  // namespace vx::test
