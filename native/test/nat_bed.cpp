// Several engines and what is between them. See the header.
#include "nat_bed.h"

#include <cmath>
#include <cstring>

#include "../core/nat/steering.h"

namespace vx::nat::test {

Region::Region(size_t bytes)
	: size_(bytes),
	  memory_(static_cast<std::byte *>(aligned_alloc(kCacheLine, (bytes + kCacheLine) / kCacheLine * kCacheLine)))
{
	memset(memory_.get(), 0, size_);
}

Scene addresses(uint32_t count)
{
	Scene scene;
	Pool pool{.addresses_be = {}, .first_port = 1024, .last_port = 65535, .realms = {}};
	for (uint32_t i = 0; i < count; i++)
		pool.addresses_be.push_back(htonl(0xcb007101 + i));
	scene.pools.pools = {pool};
	scene.config.key = {{0x0123456789abcdef, 0xfedcba9876543210}};
	scene.config.sessions_max = 4096;
	scene.config.new_sessions_per_second = 100000;
	scene.config.datagrams_waiting = 64;
	scene.config.datagrams_waiting_per_source = 8;
	scene.config.fragments_waiting = 256;
	scene.config.datagrams_known = 128;
	scene.config.records = 4096;
	return scene;
}

Scene small_pool(uint32_t blocks, uint32_t size, uint32_t per_subscriber)
{
	Scene scene = one_address();
	scene.pools.block_size = size;
	scene.pools.pools[0].first_port = 8192;
	scene.pools.pools[0].last_port = static_cast<uint16_t>(8192 + blocks * size - 1);
	scene.config.blocks_per_subscriber = per_subscriber;
	return scene;
}

Scene one_address()
{
	return addresses(1);
}

Scene filtering(Filtering kind)
{
	Scene scene = one_address();
	scene.config.filtering = kind;
	return scene;
}

Nat::Nat(Scene scene) : scene_(std::move(scene)), now_ns_(scene_.start_ns)
{
	shared_memory_ = std::make_unique<Region>(PortBlocks::bytes_needed(scene_.pools));
	owners_.resize(PortBlocks::addresses_most(scene_.pools));
	blocks_ = std::make_unique<PortBlocks>(scene_.pools, shared_memory_->bytes(), owners_);
	for (uint32_t worker = 0; worker < scene_.pools.workers; worker++) {
		Config config = scene_.config;
		config.worker = worker;
		config.key.words[0] += worker;
		memory_.push_back(
			std::make_unique<Region>(Engine::bytes_needed(config, *blocks_, scene_.pools.forwards)));
		engines_.push_back(std::make_unique<Engine>(config, *blocks_, scene_.pools.forwards,
							    memory_.back()->bytes(), now_ns_));
	}
}

Nat::~Nat()
{
	check();
}

std::vector<Out> Nat::run(const Bytes &bytes, Side from, uint32_t realm, uint32_t worker)
{
	std::vector<Out> outs;
	Travelling travelling{{}, bytes, worker, 0, 0};
	travelling.packet.realm = realm;
	travelling.packet.from = from;
	travelling.packet.cookie = next_cookie_++;
	step(travelling, outs);
	while (!queue_.empty()) {
		Travelling next = std::move(queue_.front());
		queue_.pop_front();
		step(std::move(next), outs);
	}
	return outs;
}

void Nat::step(Travelling travelling, std::vector<Out> &outs)
{
	// In memory of exactly its size, so that the sanitizer sees every byte beyond.
	auto bytes = std::make_unique<uint8_t[]>(travelling.bytes.size());
	std::copy(travelling.bytes.begin(), travelling.bytes.end(), bytes.get());
	travelling.packet.ip = bytes.get();
	travelling.packet.length = static_cast<uint32_t>(travelling.bytes.size());
	Engine &engine = *engines_[travelling.worker];
	const Verdict verdict = engine.process(travelling.packet, now_ns_);
	std::copy(bytes.get(), bytes.get() + travelling.bytes.size(), travelling.bytes.begin());
	travelling.packet.ip = nullptr;
	if (verdict.sender != kNone)
		travelling.sender_be = engine.subscriber(verdict.sender).inside_be;
	switch (verdict.action) {
	case Action::hand_over:
		EXPECT_NE(verdict.worker, travelling.worker) << "handed over to itself";
		travelling.worker = verdict.worker;
		EXPECT_LE(++travelling.hops, 3u) << "handed round and round";
		queue_.push_back(std::move(travelling));
		break;
	case Action::hold:
		held_[travelling.packet.cookie] = std::move(travelling);
		break;
	default: {
		Out out{verdict, travelling.bytes, 0, 0, travelling.hops, travelling.sender_be};
		if (verdict.subscriber != kNone) {
			out.realm = engine.subscriber(verdict.subscriber).realm;
			out.subscriber_be = engine.subscriber(verdict.subscriber).inside_be;
		}
		if (verdict.action == Action::forward && !(word(out.packet, 6) & 0x3fff)) {
			out.packet.resize(word(out.packet, 2));
			EXPECT_EQ(wrong_with(out.packet), "");
		}
		outs.push_back(std::move(out));
	}
	}
	drain_fragments(outs);
}

void Nat::drain_fragments(std::vector<Out> &outs)
{
	for (uint32_t worker = 0; worker < workers(); worker++)
		for (KeptFragment kept; engines_[worker]->take_fragment(kept);) {
			auto node = held_.extract(kept.cookie);
			ASSERT_FALSE(node.empty()) << "let go what was not held";
			Travelling travelling = std::move(node.mapped());
			if (kept.again)
				queue_.push_back(std::move(travelling));
			else
				outs.push_back({drop(VX_DROP_fragment_limit), travelling.bytes, 0, 0, travelling.hops, 0});
		}
}

std::vector<Out> Nat::all_from_inside(const Bytes &packet, uint32_t realm, uint32_t worker)
{
	return run(packet, Side::inside, realm, worker);
}

std::vector<Out> Nat::all_from_outside(const Bytes &packet, uint32_t worker)
{
	return run(packet, Side::outside, 0, worker);
}

Out Nat::inside(const Bytes &packet, uint32_t realm, uint32_t worker)
{
	auto outs = all_from_inside(packet, realm, worker);
	EXPECT_EQ(outs.size(), 1u);
	return outs.empty() ? Out{} : outs.front();
}

Out Nat::outside(const Bytes &packet, uint32_t worker)
{
	auto outs = all_from_outside(packet, worker);
	EXPECT_EQ(outs.size(), 1u);
	return outs.empty() ? Out{} : outs.front();
}

Endpoint Nat::open_udp(const char *from, const char *to, uint32_t realm)
{
	const Out out = inside(udp(endpoint(from), endpoint(to)), realm);
	EXPECT_TRUE(out.sent(Side::outside)) << from << " to " << to << " refused: " << int{out.verdict.reason};
	return from_of(out.packet);
}

Endpoint Nat::open_tcp(const char *from, const char *to, uint32_t realm)
{
	const Out out = inside(tcp(endpoint(from), endpoint(to), kSyn), realm);
	EXPECT_TRUE(out.sent(Side::outside)) << from << " to " << to << " refused: " << int{out.verdict.reason};
	return from_of(out.packet);
}

int Nat::refusal(const Bytes &packet, uint32_t realm)
{
	const Out out = inside(packet, realm);
	return out.verdict.action == Action::drop ? out.verdict.reason : -1;
}

void Nat::advance(double seconds)
{
	const uint64_t until = now_ns_ + static_cast<uint64_t>(std::llround(seconds * 1e9));
	while (now_ns_ < until) {
		now_ns_ = std::min(until, now_ns_ + 250000000);
		for (auto &engine : engines_)
			while (!engine->tick(now_ns_, 1000)) {
			}
	}
	drain_fragments(late_);
}

void Nat::stall(double seconds)
{
	now_ns_ += static_cast<uint64_t>(std::llround(seconds * 1e9));
	for (auto &engine : engines_) {
		int rounds = 0;
		while (!engine->tick(now_ns_, 1000))
			ASSERT_LT(++rounds, 1000) << "a tick without end";
	}
	drain_fragments(late_);
}

std::vector<Answer> Nat::answers()
{
	std::vector<Answer> all;
	for (auto &engine : engines_)
		for (const Reply *reply; (reply = engine->replies().peek()); engine->replies().done()) {
			all.push_back({reply->to, reply->realm, Bytes(reply->bytes, reply->bytes + reply->length), reply->cookie});
			EXPECT_EQ(wrong_with(all.back().packet), "");
		}
	return all;
}

namespace {

void follow(std::set<RecordedSession> &open, const LogRecord &record)
{
	const RecordedSession session{record.realm,	 record.protocol,   record.inside_be, record.inside_port,
				      record.public_be, record.first_port, record.remote_be, record.remote_port};
	if (record.event == VX_NAT_SESSION_CREATED) {
		EXPECT_TRUE(open.insert(session).second) << "a session is recorded twice";
	} else if (record.event == VX_NAT_SESSION_ENDED) {
		EXPECT_EQ(open.erase(session), 1u) << "a session ends that was not created";
	}
}

}  // namespace

std::vector<LogRecord> Nat::records()
{
	std::vector<LogRecord> all;
	for (auto &engine : engines_)
		while (const LogRecord *record = engine->records().peek(0)) {
			all.push_back(*record);
			follow(recorded_, *record);
			engine->records().done(1);
		}
	return all;
}

Stats Nat::stats() const
{
	Stats sum{};
	for (const auto &engine : engines_) {
		const Stats stats = engine->stats();
		const auto *one = reinterpret_cast<const uint64_t *>(&stats);
		for (size_t i = 0; i < sizeof sum / 8; i++)
			reinterpret_cast<uint64_t *>(&sum)[i] += one[i];
	}
	return sum;
}

uint32_t Nat::sessions() const
{
	uint32_t count = 0;
	for (const auto &engine : engines_)
		count += engine->sessions().count();
	return count;
}

uint32_t Nat::mappings() const
{
	uint32_t count = 0;
	for (const auto &engine : engines_)
		count += engine->mappings().count();
	return count;
}

// What nat.md demands of the tables at any moment.
void Nat::check()
{
	std::map<uint64_t, uint32_t> ports;  // (address, protocol, port) of every mapping of every worker
	for (uint32_t worker = 0; worker < workers(); worker++)
		check_worker(worker, ports);
	uint64_t taken = 0;
	for (uint32_t number = 0; number < blocks_->addresses() * blocks_->blocks_per_address(); number++)
		if (blocks_->block(number).granted)
			taken += blocks_->block(number).in_use;
	uint64_t forwards = scene_.pools.forwards.size();
	EXPECT_EQ(ports.size(), taken + forwards) << "ports in use are not those of mappings, live and held";
	if (scene_.config.record_sessions)
		check_records();
}

// Who only reads the records knows every session that there is, and none else.
void Nat::check_records()
{
	std::set<RecordedSession> told = recorded_, real;
	for (const auto &engine : engines_) {
		for (uint32_t i = 0; const LogRecord *record = engine->records().peek(i); i++)
			follow(told, *record);
		for (uint32_t i = 0; i < engine->sessions().top(); i++)
			if (const Session &one = engine->sessions()[i]; one.flags & kSessionLive)
				real.emplace(one.realm, one.protocol, one.inside_be, ntohs(one.inside_port_be),
					     one.public_be, ntohs(one.public_port_be), one.remote_be,
					     ntohs(one.remote_port_be));
	}
	EXPECT_TRUE(told == real) << told.size() << " sessions by the records, " << real.size() << " in the tables";
}

void Nat::check_worker(uint32_t worker, std::map<uint64_t, uint32_t> &ports)
{
	const Engine &engine = *engines_[worker];
	std::map<uint32_t, uint32_t> sessions_of, holders_of, mappings_of;
	for (uint32_t i = 0; i < engine.sessions().top(); i++) {
		const Session &session = engine.sessions()[i];
		if (!(session.flags & kSessionLive))
			continue;
		EXPECT_EQ(owner_of_subscriber(session.realm, session.inside_be, workers()), worker)
			<< "a session is not its owner's";
		const InsideKey inside{session.realm, session.inside_be, session.remote_be, session.inside_port_be,
				       session.remote_port_be, session.protocol};
		const OutsideKey outside{session.public_be, session.remote_be, session.public_port_be,
					 session.remote_port_be, session.protocol};
		EXPECT_EQ(engine.sessions().find(inside, engine.sessions().hash(inside)), i);
		EXPECT_EQ(engine.sessions().find(outside, engine.sessions().hash(outside)), i)
			<< "a session is not found by its reply";
		sessions_of[session.subscriber]++;
		holders_of[session.mapping] += (session.flags & kSessionHolds) != 0;
		const uint16_t address = blocks_->find_address(session.public_be);
		EXPECT_EQ(blocks_->owner(address, session.protocol, ntohs(session.public_port_be)), worker)
			<< "replies go to another worker";
	}
	for (uint32_t i = 0; i < engine.mappings().top(); i++) {
		const MappingRecord &mapping = engine.mappings()[i];
		if (mapping.state == MappingState::free)
			continue;
		const uint64_t port =
			uint64_t{mapping.address} << 32 | uint64_t{mapping.protocol} << 16 | mapping.public_port;
		EXPECT_TRUE(ports.emplace(port, worker).second) << "two mappings share a port";
		mappings_of[mapping.subscriber]++;
		if (mapping.state != MappingState::resting) {
			EXPECT_EQ(mapping.holders, holders_of[i]);
			EXPECT_EQ(
				engine.mappings().find_outside(mapping.address, mapping.protocol, mapping.public_port),
				i);
		}
		if (mapping.state == MappingState::live) {
			EXPECT_GT(mapping.holders, 0u) << "a mapping outlives its sessions";
		}
	}
	uint32_t with_blocks = 0;
	for (uint32_t i = 0; i < engine.subscribers().top(); i++) {
		const Subscriber &subscriber = engine.subscribers()[i];
		if (!subscriber.in_use)
			continue;
		EXPECT_EQ(subscriber.sessions, sessions_of[i]);
		EXPECT_EQ(subscriber.mappings, mappings_of[i]);
		uint32_t blocks = 0;
		for (uint32_t at = subscriber.first_block; at; at = blocks_->block(at - 1).next, blocks++)
			EXPECT_EQ(blocks_->block(at - 1).subscriber, i);
		EXPECT_EQ(subscriber.blocks, blocks);
		with_blocks += blocks != 0;
	}
	const Stats stats = engine.stats();
	EXPECT_EQ(stats.subscribers, with_blocks);
	EXPECT_EQ(stats.sessions, stats.sessions_created - stats.sessions_expired);
	EXPECT_EQ(stats.sessions, engine.sessions().count());
	EXPECT_EQ(stats.mappings, engine.mappings().count());
}

}  // namespace vx::nat::test
