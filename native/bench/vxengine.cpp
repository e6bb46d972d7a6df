// vxengine: how fast the NAT engine alone is, on one core and without a kernel. Run by `make bench` for the `engine`
// object of bench/results.json, and by hand; --count PATH is what scripts/count-instructions has callgrind count.
//
// Hits: packets of sessions chosen at random among all, headers written into 2 KiB frames as a receive ring has them
// before the clock runs, then one process_batch() of 64 after the other; half of them from inside, half from outside.
// Each session has a mapping and a port of its own: nothing is shared that could stay in a cache. Creates: first
// packets of new flows in virtual time, 1 M a second, each session ending after a second, each port resting another
// one: what is measured is one creation and one expiry, with everything between.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

#include "../core/checksum.h"
#include "../core/nat/engine.h"
#include "options.h"

namespace vx::bench {

namespace {

using namespace nat;

constexpr uint32_t kFrameBytes = 2048;
constexpr uint32_t kFrames = 4096;
constexpr uint32_t kBatch = 64;
constexpr uint32_t kPacketBytes = 60;
constexpr uint32_t kPortsPerHost = 50;
constexpr uint32_t kBlockSize = 64;
constexpr uint32_t kRealm = 100;
constexpr uint64_t kStartNs = 1000000000000;

// What a worker does: huge pages where there are some, all of them touched before the first packet.
class Memory {
public:
	explicit Memory(size_t bytes) : size_(bytes)
	{
		at_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (at_ == MAP_FAILED)
			fail("mmap", errno);
		madvise(at_, bytes, MADV_HUGEPAGE);
		madvise(at_, bytes, MADV_POPULATE_WRITE);
	}
	~Memory() { munmap(at_, size_); }
	Memory(const Memory &) = delete;
	std::span<std::byte> bytes() { return {static_cast<std::byte *>(at_), size_}; }

private:
	size_t size_;
	void *at_;
};

struct Flow {
	uint32_t inside_be, remote_be;
	uint16_t inside_port_be, remote_port_be;
};

class Generator {
public:
	uint64_t next()
	{
		state_ ^= state_ << 13;
		state_ ^= state_ >> 7;
		state_ ^= state_ << 17;
		return state_;
	}
	uint32_t below(uint32_t bound) { return static_cast<uint32_t>((next() >> 32) * bound >> 32); }

private:
	uint64_t state_ = 88172645463325252u;
};

Flow flow_of(uint32_t number)
{
	return {__builtin_bswap32(0x0a000000 + number / kPortsPerHost), __builtin_bswap32(0xc6336400 + number % 251),
		__builtin_bswap16(static_cast<uint16_t>(20000 + number % kPortsPerHost)), __builtin_bswap16(443)};
}

void write_udp(uint8_t *at, uint32_t source_be, uint32_t destination_be, uint16_t from_be, uint16_t to_be)
{
	memset(at, 0, kPacketBytes);
	at[0] = 0x45;
	at[3] = kPacketBytes;
	at[6] = 0x40;
	at[8] = 64;
	at[9] = IPPROTO_UDP;
	store(at + 12, source_be);
	store(at + 16, destination_be);
	store(at + 10, internet_checksum(at, 20));
	store(at + 20, from_be);
	store(at + 22, to_be);
	at[25] = kPacketBytes - 20;
	at[26] = 1;  // some checksum: it is only ever changed by a difference
}

class World {
public:
	World(uint32_t hosts, uint32_t sessions_max, const Timeouts &timeouts) : World(pools(hosts), sessions_max, timeouts)
	{
	}
	World(const PoolConfig &pools, uint32_t sessions_max, const Timeouts &timeouts)
		: pools_(pools), shared_(PortBlocks::bytes_needed(pools_)), owners_(PortBlocks::addresses_most(pools_)),
		  blocks_(pools_, shared_.bytes(), owners_)
	{
		Config config;
		config.key = {{0x243f6a8885a308d3, 0x13198a2e03707344}};
		config.sessions_max = sessions_max;
		config.new_sessions_per_second = 1000000;
		config.timeouts = timeouts;
		config.records = 1 << 21;
		bytes_ = Engine::bytes_needed(config, blocks_, {});
		memory_.emplace(bytes_);
		engine_.emplace(config, blocks_, std::vector<Forward>{}, memory_->bytes(), kStartNs);
	}
	Engine &engine() { return *engine_; }
	size_t bytes() const { return bytes_; }

private:
	static PoolConfig pools(uint32_t hosts)
	{
		PoolConfig config;
		config.block_size = kBlockSize;
		Pool pool{{}, 1024, 65535, {}};
		const uint32_t blocks = (65536 - 1024) / kBlockSize;
		for (uint32_t i = 0; i < hosts / blocks + 2; i++)
			pool.addresses_be.push_back(__builtin_bswap32(0xcb007100 + i));
		config.pools.push_back(pool);
		return config;
	}

	PoolConfig pools_;
	Memory shared_;
	std::vector<vx_port_owners> owners_;
	PortBlocks blocks_;
	size_t bytes_;
	std::optional<Memory> memory_;
	std::optional<Engine> engine_;
};

class Frames {
public:
	Frames() : memory_(kFrames * kFrameBytes) {}
	uint8_t *at(uint32_t i) { return reinterpret_cast<uint8_t *>(memory_.bytes().data()) + i * kFrameBytes; }

private:
	Memory memory_;
};

Packet packet_at(uint8_t *at, Side from)
{
	return {.ip = at, .length = kPacketBytes, .realm = kRealm, .from = from};
}

struct Hits {
	double out_mpps, in_mpps, both_mpps;
};

// Opens every flow and notes its public endpoint.
std::vector<std::pair<uint32_t, uint16_t>> open_all(Engine &engine, uint32_t sessions)
{
	std::vector<std::pair<uint32_t, uint16_t>> endpoints(sessions);
	uint8_t bytes[kPacketBytes];
	for (uint32_t i = 0; i < sessions; i++) {
		const Flow flow = flow_of(i);
		write_udp(bytes, flow.inside_be, flow.remote_be, flow.inside_port_be, flow.remote_port_be);
		Packet packet = packet_at(bytes, Side::inside);
		if (engine.process(packet, kStartNs).action != Action::forward)
			fail("a flow was refused", 0);
		endpoints[i] = {load<uint32_t>(bytes + 12), load<uint16_t>(bytes + 20)};
	}
	return endpoints;
}

Hits measure_hits(uint32_t sessions, double seconds)
{
	World world(sessions / kPortsPerHost + 1, sessions, {});
	Engine &engine = world.engine();
	const auto endpoints = open_all(engine, sessions);
	Frames frames;
	Generator random;
	std::vector<Packet> packets(kFrames);
	std::vector<Verdict> verdicts(kFrames);
	double spent[2] = {};
	uint64_t rounds = 0;
	for (; spent[0] + spent[1] < seconds; rounds++)
		for (const Side from : {Side::inside, Side::outside}) {
			for (uint32_t i = 0; i < kFrames; i++) {
				const uint32_t number = random.below(sessions);
				const Flow flow = flow_of(number);
				if (from == Side::inside)
					write_udp(frames.at(i), flow.inside_be, flow.remote_be, flow.inside_port_be,
						  flow.remote_port_be);
				else
					write_udp(frames.at(i), flow.remote_be, endpoints[number].first,
						  flow.remote_port_be, endpoints[number].second);
				packets[i] = packet_at(frames.at(i), from);
			}
			const double start = seconds_now();
			for (uint32_t i = 0; i < kFrames; i += kBatch)
				engine.process_batch({&packets[i], kBatch}, {&verdicts[i], kBatch}, kStartNs + 1000000);
			spent[from == Side::outside] += seconds_now() - start;
			for (const Verdict &verdict : verdicts)
				if (verdict.action != Action::forward)
					fail("a packet of a session was refused", 0);
		}
	const double count = static_cast<double>(rounds * kFrames);
	return {count / spent[0] / 1e6, count / spent[1] / 1e6, 2 * count / (spent[0] + spent[1]) / 1e6};
}

double measure_creates(double seconds)
{
	constexpr uint32_t kHosts = 100000, kSessions = 4000000;
	Timeouts timeouts;
	timeouts.udp = timeouts.port_hold = 1;
	World world(kHosts * 2, kSessions, timeouts);
	Engine &engine = world.engine();
	Frames frames;
	std::vector<Packet> packets(kFrames);
	std::vector<Verdict> verdicts(kFrames);
	uint64_t now_ns = kStartNs, created = 0, expired_before = 0;
	uint32_t number = 0;
	double spent = 0;
	while (spent < seconds) {
		for (uint32_t i = 0; i < kFrames; i++, number++) {
			const uint32_t host = number % kHosts, turn = number / kHosts;
			write_udp(frames.at(i), __builtin_bswap32(0x0a000000 + host), __builtin_bswap32(0xc6336401),
				  __builtin_bswap16(static_cast<uint16_t>(1024 + turn % 60000)), __builtin_bswap16(53));
			packets[i] = packet_at(frames.at(i), Side::inside);
		}
		const bool steady = now_ns > kStartNs + 4000000000;  // as many end as begin
		const double start = seconds_now();
		for (uint32_t i = 0; i < kFrames; i += kBatch) {
			engine.process_batch({&packets[i], kBatch}, {&verdicts[i], kBatch}, now_ns);
			now_ns += kBatch * 1000;
			engine.tick(now_ns, kBatch * 2);
		}
		if (steady) {
			spent += seconds_now() - start;
			created += kFrames;
		} else {
			expired_before = engine.stats().sessions_expired;
		}
		while (engine.records().peek(0))
			engine.records().done(1);
		for (const Verdict &verdict : verdicts)
			if (verdict.action != Action::forward)
				fail("a new flow was refused", verdict.reason);
	}
	// Creations are only worth counting while expiries keep up.
	if (engine.stats().sessions_expired - expired_before < created - created / 10)
		fail("sessions began faster than they ended", 0);
	return static_cast<double>(created) / spent;
}

// What is counted: one function that nothing is inlined from, so that --toggle-collect finds it.
[[gnu::noinline]] void count_here(Engine &engine, std::span<Packet> packets, std::span<Verdict> verdicts, uint64_t now_ns)
{
	for (size_t i = 0; i < packets.size(); i += kBatch)
		engine.process_batch(packets.subspan(i, kBatch), verdicts.subspan(i, kBatch), now_ns);
}

[[gnu::noinline]] void count_ticks_here(Engine &engine, uint64_t now_ns)
{
	for (int i = 0; i < 2000 && engine.sessions().count() + engine.mappings().count(); i++)
		engine.tick(now_ns + static_cast<uint64_t>(i) * 1000000000, 256);
}

// The paths a packet may take; each is gone by kFrames of them.
//   out, in   of a session, chosen at random among 20,000
//   create    a host's first packet, or one of its next seven flows
//   expire    those sessions end, their ports rest and come free
//   refuse    the first packet of a host for which a pool of 1,000 full addresses has no block
void count(const std::string &path)
{
	constexpr uint32_t kSessions = 20000;
	const bool hit = path == "out" || path == "in", refuse = path == "refuse";
	PoolConfig full;
	full.block_size = kBlockSize;
	full.pools.push_back({{}, 1024, 1024 + kBlockSize - 1, {}});
	for (uint32_t i = 0; i < 1000; i++)
		full.pools[0].addresses_be.push_back(__builtin_bswap32(0xcb007100 + i));
	auto world = refuse ? std::make_unique<World>(full, 1000 * kPortsPerHost + kFrames, Timeouts{})
			    : std::make_unique<World>(kSessions / 8, kSessions, Timeouts{});
	Engine &engine = world->engine();
	const auto endpoints = open_all(engine, hit ? kSessions : refuse ? 1000 * kPortsPerHost : 0);
	Frames frames;
	Generator random;
	std::vector<Packet> packets(kFrames);
	std::vector<Verdict> verdicts(kFrames);
	for (uint32_t i = 0; i < kFrames; i++) {
		const uint32_t number = hit ? random.below(kSessions) : 0;
		Flow flow = flow_of(number);
		if (!hit)
			flow = {__builtin_bswap32(0x0b000000 + (refuse ? i : i / 8)), flow.remote_be,
				__builtin_bswap16(static_cast<uint16_t>(20000 + i % 8)), flow.remote_port_be};
		if (path == "in")
			write_udp(frames.at(i), flow.remote_be, endpoints[number].first, flow.remote_port_be,
				  endpoints[number].second);
		else
			write_udp(frames.at(i), flow.inside_be, flow.remote_be, flow.inside_port_be, flow.remote_port_be);
		packets[i] = packet_at(frames.at(i), path == "in" ? Side::outside : Side::inside);
	}
	if (path == "expire") {
		for (uint32_t i = 0; i < kFrames; i += kBatch)
			engine.process_batch({&packets[i], kBatch}, {&verdicts[i], kBatch}, kStartNs);
		if (engine.sessions().count() != kFrames)
			fail("a new flow was refused", 0);
		return count_ticks_here(engine, kStartNs + 290000000000);
	}
	count_here(engine, packets, verdicts, kStartNs + 1000000);
	for (const Verdict &verdict : verdicts)
		if ((verdict.action == Action::forward) == refuse)
			fail("a packet did not take its path", verdict.reason);
}

} // namespace

int run(int argc, char **argv)
{
	Options options(argc, argv, "vxengine: the NAT engine alone, on one core",
			{{"cpu", "N", "where it runs (0)"},
			 {"sessions", "N", "sessions the hits go to (1000000)"},
			 {"seconds", "S", "measured time of each part (2)"},
			 {"count", "PATH", "only 4096 packets of this path, for callgrind: out, in, create, expire, refuse"}});
	pin_to_cpu(options.number("cpu", 0, 0, 1023));
	const uint32_t sessions = static_cast<uint32_t>(options.number("sessions", 1000000, 1000, 10000000));
	const double seconds = options.real("seconds", 2);
	if (options.has("count")) {
		count(options.text("count", ""));
		return 0;
	}
	const Hits hits = measure_hits(sessions, seconds);
	const double creates = measure_creates(seconds);
	const double start = seconds_now();
	World ready(10000000 / kPortsPerHost, 10000000, {});
	const double ready_seconds = seconds_now() - start;
	printf("{\"hitMpps\":%.2f,\"outMpps\":%.2f,\"inMpps\":%.2f,\"createsPerSecond\":%.0f,\"bytesPerSession\":%.0f,"
	       "\"sessions\":%u,\"readySeconds\":%.2f}\n",
	       hits.both_mpps, hits.out_mpps, hits.in_mpps, creates, static_cast<double>(ready.bytes()) / 1e7, sessions,
	       ready_seconds);
	return 0;
}

} // namespace vx::bench

int main(int argc, char **argv)
{
	return vx::bench::run(argc, argv);
}
