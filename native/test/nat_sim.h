// A seeded world around the NAT engine: inside hosts, remotes, strangers, errors, fragments and time, over several
// workers with random steering. What it knows of the rules it keeps apart from the engine, in Model. No kernel, one
// thread.
#pragma once

#include <map>
#include <random>
#include <set>
#include <tuple>

#include "nat_bed.h"

namespace vx::nat::test {

struct InsideTuple {
	uint32_t realm;
	Endpoint inside;
	uint8_t protocol;
	Endpoint remote;  // endpoint-dependent mapping only
	auto host() const { return std::tuple(realm, inside.address_be, inside.port, protocol); }
	auto key() const
	{
		return std::tuple(realm, inside.address_be, inside.port, protocol, remote.address_be, remote.port);
	}
	bool operator<(const InsideTuple &other) const { return key() < other.key(); }
};

struct PublicTuple {
	Endpoint endpoint;
	uint8_t protocol;
	bool operator<(const PublicTuple &other) const
	{
		return std::tuple(endpoint.address_be, endpoint.port, protocol) <
		       std::tuple(other.endpoint.address_be, other.endpoint.port, other.protocol);
	}
};

class Simulation {
public:
	Simulation(uint64_t seed, uint32_t workers);
	// One thing happens; its consequences are checked.
	void step();
	void check_tables() { nat_->check(); }
	uint64_t forwarded() const { return forwarded_; }

private:
	struct Known {  // a public endpoint that was seen
		InsideTuple inside;
		uint64_t last_out_ns;
		std::map<std::pair<uint32_t, uint16_t>, uint64_t> remotes;  // when they were last spoken to
		std::set<std::pair<uint32_t, uint16_t>> visitors;  // that were let in
		bool closing = false;  // TCP: FIN or RST seen, so its end is not foretold
	};

	uint32_t below(uint32_t bound) { return std::uniform_int_distribution<uint32_t>(0, bound - 1)(random_); }
	bool chance(uint32_t percent) { return below(100) < percent; }
	uint32_t any_worker() { return below(nat_->workers()); }
	Scene make_scene(uint32_t workers);
	uint64_t timeout_ns(uint8_t protocol) const;

	void host_sends();
	void remote_answers();
	void stranger_sends();
	void error_from_outside();
	void garbage();
	void time_passes();
	Bytes packet(uint8_t protocol, const Endpoint &from, const Endpoint &to, bool from_inside);
	std::vector<Out> send_inside(const Bytes &packet, uint32_t realm);
	std::vector<Out> send_outside(const Bytes &packet);
	void learn(const InsideTuple &inside, const Out &out, const Endpoint &remote, uint8_t flags);
	void judge_inbound(const Bytes &sent, const Out &out);
	const std::pair<const PublicTuple, Known> *any_known();

	std::mt19937_64 random_;
	Scene scene_;
	std::unique_ptr<Nat> nat_;
	std::map<PublicTuple, Known> known_;
	std::map<InsideTuple, PublicTuple> public_of_;
	std::vector<Bytes> sent_out_;  // what left lately, to be quoted
	uint16_t next_id_ = 1;
	uint64_t forwarded_ = 0;
};

}  // namespace vx::nat::test
