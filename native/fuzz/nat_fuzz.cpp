// Any bytes as packets from inside and outside, at any stage of their way, over two engines: nothing is read or written
// beyond a packet, a right IP header stays right, whatever is held comes out once, and no invariant of the tables
// aborts. libFuzzer's thread; scripts/test-native runs it for a bounded time.
//
// An input is a sequence of: what to do (one byte), how many bytes the packet has (one byte), the packet.
#include <arpa/inet.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "../core/checksum.h"
#include "../core/nat/engine.h"

namespace {

using namespace vx::nat;

constexpr uint32_t kWorkers = 2;
constexpr uint32_t kPublic = 0x017100cb;  // 203.0.113.1, as it lies in memory

// Zeroed memory, taken once for all inputs.
std::span<std::byte> region(size_t which, size_t bytes)
{
	static std::span<std::byte> regions[1 + kWorkers];
	const size_t size = (bytes + 127) / 64 * 64;
	if (regions[which].size() != size) {
		free(regions[which].data());
		regions[which] = {static_cast<std::byte *>(aligned_alloc(64, size)), size};
	}
	memset(regions[which].data(), 0, size);
	return regions[which];
}

// How the first byte of an input shapes the world.
Config config_of(uint8_t shape)
{
	Config config;
	config.key = {{1, 2}};
	config.mapping = shape & 1 ? Mapping::address_and_port_dependent : Mapping::endpoint_independent;
	config.filtering = shape & 2   ? Filtering::endpoint_independent
			   : shape & 4 ? Filtering::address_dependent
				       : Filtering::address_and_port_dependent;
	config.pair_strictly = shape & 8;
	config.icmp_outside = shape & 16;
	config.mss_clamp = shape & 32 ? 1300 : 0;
	config.mtu_outside = shape & 64 ? 100 : 1500;
	config.sessions_max = 16;
	config.records = 4;
	config.datagrams_waiting = 4;
	config.datagrams_waiting_per_source = 2;
	config.fragments_waiting = 6;
	config.datagrams_known = 4;
	return config;
}

PoolConfig pools()
{
	PoolConfig config;
	config.block_size = 4096;
	config.workers = kWorkers;
	config.pools.push_back({{kPublic}, 4096, 4096 * 3 - 1, {}});
	config.forwards = {{kPublic, 80, IPPROTO_TCP, 0, 0x0100000a, 80},
			   {kPublic, 81, IPPROTO_UDP, 1, 0x0100000a, 81}};
	return config;
}

bool header_is_right(const uint8_t *ip)
{
	return vx::fold(vx::sum_words(ip, (ip[0] & 15u) * 4)) == 0xffff;
}

class World {
public:
	explicit World(uint8_t shape)
		: config_(pools()), owners_(PortBlocks::addresses_most(config_)),
		  blocks_(config_, region(0, PortBlocks::bytes_needed(config_)), owners_)
	{
		for (uint32_t worker = 0; worker < kWorkers; worker++) {
			Config config = config_of(shape);
			config.worker = worker;
			const size_t bytes = Engine::bytes_needed(config, blocks_, config_.forwards);
			engines_[worker].emplace(config, blocks_, config_.forwards, region(1 + worker, bytes), now_ns_);
		}
	}

	~World()
	{
		pass_time(UINT64_C(100) * 1000000000);
		require(held_.empty());
	}

	void pass_time(uint64_t ns)
	{
		now_ns_ += ns;
		for (auto &engine : engines_)
			while (!engine->tick(now_ns_, 100)) {
			}
		drain();
	}

	void send(uint8_t what, const uint8_t *data, size_t length)
	{
		std::unique_ptr<uint8_t[]> bytes(new uint8_t[length]);
		if (length)
			memcpy(bytes.get(), data, length);
		Packet packet{.ip = bytes.get(), .length = static_cast<uint32_t>(length), .realm = what >> 7 & 1u,
			      .from = what & 1 ? Side::outside : Side::inside};
		packet.stage = what & 1 ? static_cast<Stage>(what >> 1 & 3) : Stage::arrived;
		if (packet.stage == Stage::hairpin)
			packet.from = Side::inside;
		if (length >= 20 && (what & 8))
			mend(bytes.get(), length, what);
		packet.cookie = ++last_cookie_;
		held_[packet.cookie] = {std::move(bytes), packet};
		run(packet.cookie, what >> 4 & 1);
		drain();
	}

private:
	struct Held {
		std::unique_ptr<uint8_t[]> bytes;
		Packet packet;
	};

	// Sums and addresses that a fuzzer would not guess.
	void mend(uint8_t *ip, size_t length, uint8_t what)
	{
		if (what & 32)
			memcpy(ip + (what & 1 ? 16 : 12),
			       what & 1 ? &kPublic : reinterpret_cast<const uint32_t *>("\x0a\0\0\1"), 4);
		const size_t header = (ip[0] & 15u) * 4;
		if (what & 64 && header + 8 <= length) {
			memcpy(ip + header + (ip[9] == 1 ? 4 : what & 1 ? 2 : 0), &last_port_be_, 2);
		}
		if (header < 20 || header > length)
			return;
		memset(ip + 10, 0, 2);
		store(ip + 10, vx::internet_checksum(ip, header));
		const size_t total = static_cast<size_t>(ip[2] << 8 | ip[3]);
		if (ip[9] == 1 && header + 8 <= total && total <= length) {
			memset(ip + header + 2, 0, 2);
			store(ip + header + 2, vx::internet_checksum(ip + header, total - header));
		}
	}

	void run(uint64_t cookie, uint32_t worker)
	{
		for (int hops = 0;; hops++) {
			require(hops < 5);
			Held &held = held_.at(cookie);
			const bool right = held.packet.length >= 20 &&
					   (held.packet.ip[0] & 15u) * 4 <= held.packet.length &&
					   header_is_right(held.packet.ip);
			const Verdict verdict = engines_[worker]->process(held.packet, now_ns_);
			if (verdict.action == Action::hand_over) {
				require(verdict.worker < kWorkers && verdict.worker != worker);
				worker = verdict.worker;
				continue;
			}
			if (verdict.action == Action::hold) {
				held.packet.cookie = cookie;
				return;
			}
			if (verdict.action == Action::forward) {
				require(!right || header_is_right(held.packet.ip));
				const uint8_t *ip = held.packet.ip;
				if (has_ports(ip[9]) && !(host16(load<uint16_t>(ip + 6)) & kOffsetMask) &&
				    verdict.to == Side::outside)
					memcpy(&last_port_be_, ip + (ip[0] & 15) * 4, 2);
			}
			held_.erase(cookie);
			return;
		}
	}

	void drain()
	{
		for (uint32_t worker = 0; worker < kWorkers; worker++) {
			for (KeptFragment kept; engines_[worker]->take_fragment(kept);) {
				require(held_.count(kept.cookie) == 1);
				if (kept.again)
					run(kept.cookie, worker);
				else
					held_.erase(kept.cookie);
			}
			for (; const Reply *reply = engines_[worker]->replies().peek();
			     engines_[worker]->replies().done())
				require(reply->length >= 28 + 20 && reply->length <= kReplyBytesMax &&
					header_is_right(reply->bytes));
			while (engines_[worker]->records().peek(2))
				engines_[worker]->records().done(1);
		}
	}

	PoolConfig config_;
	std::vector<vx_port_owners> owners_;
	PortBlocks blocks_;
	uint64_t now_ns_ = 1000000000000;
	std::optional<Engine> engines_[kWorkers];
	std::map<uint64_t, Held> held_;
	uint64_t last_cookie_ = 0;
	uint16_t last_port_be_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	World world(data[0]);
	for (size_t at = 1; at + 2 <= size;) {
		const uint8_t what = data[at];
		const size_t length = std::min<size_t>(data[at + 1], size - at - 2);
		if (length == 0)
			world.pass_time(uint64_t{what} * 1000000000);
		else
			world.send(what, data + at + 2, length);
		at += 2 + length;
	}
	return 0;
}
