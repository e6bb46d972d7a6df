// What NAT engines of several threads share: blocks of ports, their owners, and the log's rings. Under ThreadSanitizer
// also: whatever belongs to a block's owner alone is written without any order but that of granting and releasing.
// Bounded by counts; no kernel.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "../core/nat/steering.h"
#include "nat_bed.h"

namespace vx::nat::test {
namespace {

constexpr uint32_t kWorkers = 4;
constexpr uint32_t kBlocks = 16;  // of each of two addresses: fewer than the workers want

Scene contended()
{
	Scene scene = addresses(2);
	scene.pools.block_size = 64;
	scene.pools.workers = kWorkers;
	scene.pools.pools[0].last_port = static_cast<uint16_t>(1024 + kBlocks * 64 - 1);
	scene.config.sessions_max = 1024;
	scene.config.timeouts.udp = scene.config.timeouts.port_hold = 1;
	scene.config.records = 64;
	return scene;
}

struct Shared {
	explicit Shared(const PoolConfig &config)
		: memory(PortBlocks::bytes_needed(config)), owners(PortBlocks::addresses_most(config)),
		  blocks(config, memory.bytes(), owners)
	{
	}
	Region memory;
	std::vector<vx_port_owners> owners;
	PortBlocks blocks;
};

void run_all(std::vector<std::thread> &threads)
{
	for (std::thread &thread : threads)
		thread.join();
}

TEST(SharedPorts, ABlockHasOneOwnerAtATimeWhoAloneWritesWhatIsIts)
{
	constexpr uint32_t kTurns = 50000;
	Shared shared(contended().pools);
	PortBlocks &blocks = shared.blocks;
	std::atomic<uint32_t> taken{0};
	std::atomic<bool> over{false};
	std::atomic<uint32_t> ready{0};
	const auto worker = [&](uint32_t number) {
		for (ready++; ready < kWorkers;)
			std::this_thread::yield();
		Random random({{number, 7}});
		std::vector<uint32_t> mine;
		for (uint32_t turn = 0; turn < kTurns || !mine.empty(); turn++) {
			if (turn < kTurns && mine.size() < 20 && random.below(2)) {
				const uint16_t address = static_cast<uint16_t>(random.below(2));
				const uint32_t block = blocks.grant(0, address, false, number,
								    static_cast<uint32_t>(random.next()));
				if (block == kNone)
					continue;
				taken++;
				mine.push_back(block);
				blocks.block(block).subscriber = number;
				blocks.take_port(block, 1, 0);
				uint32_t &mapping = blocks.mappings_at(address, blocks.first_port_of_block(block));
				ASSERT_EQ(mapping, 0u);
				mapping = number + 1;
			} else if (!mine.empty()) {
				std::swap(mine[random.below(static_cast<uint32_t>(mine.size()))], mine.back());
				const uint32_t block = mine.back();
				const uint16_t address = blocks.address_of_block(block);
				const uint16_t port = blocks.first_port_of_block(block);
				mine.pop_back();
				ASSERT_EQ(blocks.block(block).subscriber, number) << "somebody else has it too";
				ASSERT_EQ(blocks.owner(address, IPPROTO_UDP, port), number);
				ASSERT_EQ(blocks.mappings_at(address, port), number + 1);
				blocks.mappings_at(address, port) = 0;
				blocks.give_back_port(block, 1, 0);
				blocks.release(block, 0);
			}
		}
	};
	std::thread steering([&] {  // as XDP does, at any moment
		while (!over)
			for (uint16_t port = 1024; port < 1024 + kBlocks * 64; port = static_cast<uint16_t>(port + 64)) {
				const uint32_t owner = blocks.owner(0, IPPROTO_UDP, port);
				ASSERT_TRUE(owner == kNoWorker || owner < kWorkers) << owner;
			}
	});
	std::vector<std::thread> threads;
	for (uint32_t number = 0; number < kWorkers; number++)
		threads.emplace_back(worker, number);
	run_all(threads);
	over = true;
	steering.join();
	EXPECT_EQ(blocks.releases(), taken.load());
	for (uint16_t address = 0; address < 2; address++) {
		EXPECT_EQ(blocks.free_blocks(address), kBlocks);
		for (uint32_t block = 0; block < VX_BLOCKS_PER_ADDRESS; block++)
			EXPECT_EQ(shared.owners[address].worker[block], 0);
	}
}

TEST(SharedPorts, RecordsArriveInOrderAndWholeAndAFullRingStopsTheWriterOnly)
{
	constexpr uint32_t kRecords = 20000;
	Region memory(64 * 64);
	Arena arena(memory.bytes());
	LogRecords records(arena, 64);
	std::thread reader([&] {
		for (uint32_t expected = 0; expected < kRecords;) {
			uint32_t count = 0;
			while (const vx_nat_record *record = records.peek(count)) {
				ASSERT_EQ(record->time_ns, expected + count);
				ASSERT_EQ(record->realm, expected + count);
				ASSERT_EQ(record->public_be, ~(expected + count));
				count++;
			}
			records.done(count);
			expected += count;
			if (!count)
				std::this_thread::yield();
		}
	});
	for (uint32_t i = 0; i < kRecords;) {
		if (records.full()) {
			std::this_thread::yield();
			continue;
		}
		vx_nat_record record{};
		record.time_ns = record.realm = i;
		record.public_be = ~i;
		records.write(record);
		i++;
	}
	reader.join();
	EXPECT_EQ(records.peek(0), nullptr);
}

// Engines that want more blocks than there are, each with a reader of its log: what the logs say together is that no block
// ever had two owners, and in the end that nobody has any.
TEST(SharedPorts, EnginesThatContendForBlocksLogEachGrantAndReleaseInItsTurn)
{
	constexpr uint32_t kTurns = 3000;
	const Scene scene = contended();
	Shared shared(scene.pools);
	struct One {
		std::unique_ptr<Region> memory;
		std::unique_ptr<Engine> engine;
		std::vector<vx_nat_record> log;
		uint32_t opened = 0, refused = 0;
		std::atomic<bool> over{false};
	} all[kWorkers];
	for (uint32_t number = 0; number < kWorkers; number++) {
		Config config = scene.config;
		config.worker = number;
		all[number].memory = std::make_unique<Region>(Engine::bytes_needed(config, shared.blocks, {}));
		all[number].engine = std::make_unique<Engine>(config, shared.blocks, std::vector<Forward>{},
							      all[number].memory->bytes(), scene.start_ns);
	}
	const auto work = [&](uint32_t number) {
		One &one = all[number];
		uint64_t now_ns = scene.start_ns;
		Random random({{number, 9}});
		for (uint32_t turn = 0; turn < kTurns || one.engine->subscribers().count(); turn++) {
			now_ns += 100000000;
			one.engine->tick(now_ns, 100);
			for (uint32_t i = 0; i < 4 && turn < kTurns; i++) {
				Endpoint from{htonl(0x0a000000 + random.below(1000)), 5000};
				if (owner_of_subscriber(kVni, from.address_be, kWorkers) != number)
					continue;
				Bytes bytes = udp(from, endpoint("198.51.100.7:53"));
				Packet packet{.ip = bytes.data(),
					      .length = static_cast<uint32_t>(bytes.size()),
					      .realm = kVni,
					      .from = Side::inside};
				const Verdict verdict = one.engine->process(packet, now_ns);
				verdict.action == Action::forward ? one.opened++ : one.refused++;
			}
			while (one.engine->replies().peek())
				one.engine->replies().done();
			if (turn > kTurns)
				std::this_thread::yield();  // its releases may wait for the log
		}
		one.over = true;
	};
	const auto read = [&](uint32_t number) {
		One &one = all[number];
		for (bool last = false; !last;) {
			last = one.over;
			uint32_t count = 0;
			for (; const vx_nat_record *record = one.engine->records().peek(count); count++)
				one.log.push_back(*record);
			one.engine->records().done(count);
			if (!count)
				std::this_thread::yield();
		}
	};
	std::vector<std::thread> threads;
	for (uint32_t number = 0; number < kWorkers; number++) {
		threads.emplace_back(work, number);
		threads.emplace_back(read, number);
	}
	run_all(threads);
	uint32_t opened = 0, refused = 0;
	for (const One &one : all) {
		std::map<std::pair<uint32_t, uint16_t>, uint32_t> has;
		for (const vx_nat_record &record : one.log) {
			uint32_t &owner = has[{record.public_be, record.first_port}];
			if (record.event == VX_NAT_BLOCK_GRANTED)
				EXPECT_EQ(owner, 0u) << "granted twice";
			else
				EXPECT_EQ(owner, record.inside_be) << "released by another";
			owner = record.event == VX_NAT_BLOCK_GRANTED ? record.inside_be : 0;
		}
		for (const auto &[block, owner] : has)
			EXPECT_EQ(owner, 0u);
		EXPECT_EQ(one.engine->stats().blocks_granted, one.engine->stats().blocks_released);
		opened += one.opened;
		refused += one.refused;
	}
	EXPECT_GT(opened, 100u);
	EXPECT_GT(refused, 100u) << "nobody contended";
	EXPECT_EQ(shared.blocks.free_blocks(0) + shared.blocks.free_blocks(1), 2 * kBlocks);
}

}  // namespace
}  // namespace vx::nat::test
