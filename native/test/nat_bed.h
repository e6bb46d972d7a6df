// Several engines and what is between them: the tests' way to hand packets to a NAT and see what comes out. Hand-overs
// are queues here, time is a number, and everything that comes out is checked by wrong_with(). No kernel, one thread.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <tuple>

#include "../core/nat/engine.h"
#include "nat_packets.h"

namespace vx::nat::test {

struct Out {
	Verdict verdict;
	Bytes packet;            // as it leaves; as it was dropped
	uint32_t realm = 0;      // to the inside: of the subscriber it goes to
	uint32_t subscriber_be = 0;
	uint32_t hops = 0;       // workers it was handed to
	uint32_t sender_be = 0;  // the subscriber whose tunnel it taught, told by any of them
	bool sent(Side side) const { return verdict.action == Action::forward && verdict.to == side; }
};

struct Answer {
	Side to;
	uint32_t realm;
	Bytes packet;
	uint64_t cookie;  // of the packet it answers
};

struct Scene {
	PoolConfig pools;
	Config config;
	uint64_t start_ns = 1000000000000;
};

// One address, 203.0.113.1, with every block from 1024 on.
Scene one_address();
Scene filtering(Filtering kind);  // likewise
// The addresses from 203.0.113.1 on.
Scene addresses(uint32_t count);
// One address with `blocks` blocks of `size` ports.
Scene small_pool(uint32_t blocks, uint32_t size = 128, uint32_t per_subscriber = 8);

constexpr uint32_t kVni = 100;

// What records tell a session by.
using RecordedSession = std::tuple<uint32_t, uint8_t, uint32_t, uint16_t, uint32_t, uint16_t, uint32_t, uint16_t>;

// Zeroed, aligned memory.
class Region {
public:
	explicit Region(size_t bytes);
	std::span<std::byte> bytes() { return {memory_.get(), size_}; }

private:
	struct Free {
		void operator()(std::byte *memory) const { free(memory); }
	};
	size_t size_;
	std::unique_ptr<std::byte, Free> memory_;
};

class Nat {
public:
	explicit Nat(Scene scene);
	~Nat();

	// One packet in; it and the fragments it set free come out, in order. `worker`: where it is received.
	std::vector<Out> all_from_inside(const Bytes &packet, uint32_t realm = kVni, uint32_t worker = 0);
	std::vector<Out> all_from_outside(const Bytes &packet, uint32_t worker = 0);
	// Where exactly one is expected.
	Out inside(const Bytes &packet, uint32_t realm = kVni, uint32_t worker = 0);
	Out outside(const Bytes &packet, uint32_t worker = 0);

	// The public endpoint a packet of this flow leaves by; fails the test when it is refused.
	Endpoint open_udp(const char *from, const char *to, uint32_t realm = kVni);
	Endpoint open_tcp(const char *from, const char *to, uint32_t realm = kVni);
	int refusal(const Bytes &packet, uint32_t realm = kVni);  // -1: forwarded

	void advance(double seconds);
	void stall(double seconds);  // nothing ticks meanwhile, as when the worker is stopped
	std::vector<Answer> answers();  // our own ICMP since last asked
	std::vector<LogRecord> records();

	uint64_t now_ns() const { return now_ns_; }
	uint64_t last_cookie() const { return next_cookie_ - 1; }
	uint32_t workers() const { return static_cast<uint32_t>(engines_.size()); }
	Engine &engine(uint32_t worker = 0) { return *engines_[worker]; }
	PortBlocks &blocks() { return *blocks_; }
	const vx_port_owners &owners(uint16_t address) const { return owners_[address]; }  // as XDP reads it
	Stats stats() const;  // of all workers together
	uint32_t sessions() const;
	uint32_t mappings() const;
	size_t held() const { return held_.size(); }
	// Every invariant of the tables; a failure is a test failure.
	void check();

private:
	struct Travelling {
		Packet packet;
		Bytes bytes;
		uint32_t worker;
		uint32_t hops;
		uint32_t sender_be = 0;
	};
	std::vector<Out> run(const Bytes &bytes, Side from, uint32_t realm, uint32_t worker);
	void step(Travelling travelling, std::vector<Out> &outs);
	void drain_fragments(std::vector<Out> &outs);
	void check_worker(uint32_t worker, std::map<uint64_t, uint32_t> &ports);
	void check_records();

	Scene scene_;
	std::unique_ptr<Region> shared_memory_;
	std::vector<vx_port_owners> owners_;
	std::unique_ptr<PortBlocks> blocks_;
	std::vector<std::unique_ptr<Region>> memory_;
	std::vector<std::unique_ptr<Engine>> engines_;
	std::deque<Travelling> queue_;
	std::map<uint64_t, Travelling> held_;
	std::vector<Out> late_;  // fragments let go by time
	std::set<RecordedSession> recorded_;  // created and not ended, by the records taken so far
	uint64_t next_cookie_ = 1;
	uint64_t now_ns_;
};

}  // namespace vx::nat::test
