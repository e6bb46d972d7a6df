// The engine's way in: headers, fragments, batches, time. See the header.
#include "engine.h"

#include "checksums.h"
#include "mss.h"
#include "steering.h"
#include "tcp_state.h"

namespace vx::nat {

namespace {

// There may be a gateway a VNI, and each answer looks for one. Of two in one realm the first counts.
Config in_order(Config config)
{
	std::stable_sort(config.gateways.begin(), config.gateways.end(),
			 [](const Gateway &a, const Gateway &b) { return a.realm < b.realm; });
	return config;
}

}  // namespace

size_t Engine::bytes_needed(const Config &config, PortBlocks &blocks, const std::vector<Forward> &forwards)
{
	return Engine(config, blocks, forwards, Arena()).bytes_;
}

Engine::Engine(const Config &config, PortBlocks &blocks, const std::vector<Forward> &forwards, Arena arena)
	: config_(in_order(config)), blocks_(blocks),
	  subscribers_(arena, config_, blocks,
		       Subscribers::capacity(config, blocks.total_blocks(),
					     Mappings::capacity(config, blocks, forwards.size()), forwards.size()),
		       stats_),
	  mappings_(arena, config_, blocks, subscribers_, forwards.size(), stats_),
	  sessions_(arena, config_, blocks, subscribers_, mappings_, stats_), fragments_(arena, config_),
	  replies_(arena, config_, stats_), syns_(arena, ticks_for_seconds(config.timeouts.unsolicited_syn)),
	  ids_(arena, config.worker, blocks.workers(), config.key),
	  session_rate_(Rate::per_second(config.new_sessions_per_second)), bytes_(arena.used())
{
	require(config.worker < blocks.workers() && config.sessions_max > 0 && config.sessions_max < 1u << 30);
}

Engine::Engine(const Config &config, PortBlocks &blocks, const std::vector<Forward> &forwards,
	       std::span<std::byte> memory, uint64_t now_ns)
	: Engine(config, blocks, forwards, Arena(memory))
{
	start_ns_ = now_ns;
	set_time(now_ns);
	set_mtu(Side::inside, config.mtu_inside);
	set_mtu(Side::outside, config.mtu_outside);
	sessions_.start(now_);
	mappings_.add_forwards(forwards);
}

// Of what a session may be found by; 0: of nothing.
uint64_t Engine::flow_hash(const Packet &packet, const Headers &h) const
{
	if (packet.from == Side::inside && packet.stage == Stage::arrived) {
		if (has_ports(h.protocol))
			return sessions_.hash(InsideKey{packet.realm, h.source_be, h.destination_be, h.source_port_be,
							h.destination_port_be, h.protocol});
		if (h.is_icmp_query(kIcmpEcho))
			return sessions_.hash(InsideKey{packet.realm, h.source_be, h.destination_be, h.source_port_be,
							0, h.protocol});
		return 0;
	}
	if (has_ports(h.protocol))
		return sessions_.hash(OutsideKey{h.destination_be, h.source_be, h.destination_port_be, h.source_port_be,
						 h.protocol});
	if (h.is_icmp_query(kIcmpEchoReply))
		return sessions_.hash(OutsideKey{h.destination_be, h.source_be, h.destination_port_be, 0, h.protocol});
	return 0;
}

Verdict Engine::process(Packet &packet, uint64_t now_ns)
{
	set_time(now_ns);
	Headers h;
	const int refused = read_headers(packet, h);
	if (refused >= 0)
		return drop(static_cast<vx_drop>(refused));
	return dispatch(packet, h, h.piece == Piece::later ? 0 : flow_hash(packet, h));
}

void Engine::process_batch(std::span<Packet> packets, std::span<Verdict> verdicts, uint64_t now_ns)
{
	constexpr size_t kLanes = 32;
	struct Lane {
		Headers h;
		int refused;
		bool opens;
		uint64_t hash;
	};
	Lane lanes[kLanes];
	set_time(now_ns);
	require(verdicts.size() >= packets.size());
	for (size_t from = 0; from < packets.size(); from += kLanes) {
		const size_t count = std::min(kLanes, packets.size() - from);
		for (size_t i = 0; i < count; i++) {
			const Packet &packet = packets[from + i];
			Lane &lane = lanes[i];
			lane.refused = read_headers(packet, lane.h);
			lane.hash = lane.refused >= 0 || lane.h.piece == Piece::later ? 0 : flow_hash(packet, lane.h);
			if (lane.hash)
				prefetch_flow(packet, lane.hash);
		}
		for (size_t i = 0; i < count; i++) {
			Lane &lane = lanes[i];
			lane.opens = lane.hash && prefetch_session(packets[from + i], lane.hash);
			if (lane.opens)
				subscribers_.prefetch_find(packets[from + i].realm, lane.h.source_be);
			if (from + kLanes + i < packets.size())
				__builtin_prefetch(packets[from + kLanes + i].ip);
		}
		for (size_t i = 0; i < count; i++)
			if (lanes[i].opens)
				prefetch_opening(packets[from + i], lanes[i].h);
		for (size_t i = 0; i < count; i++)
			verdicts[from + i] = lanes[i].refused >= 0
						     ? drop(static_cast<vx_drop>(lanes[i].refused))
						     : dispatch(packets[from + i], lanes[i].h, lanes[i].hash);
	}
}

void Engine::prefetch_flow(const Packet &packet, uint64_t hash) const
{
	if (packet.from == Side::inside && packet.stage == Stage::arrived)
		sessions_.prefetch_inside(hash);
	else
		sessions_.prefetch_outside(hash);
}

// True: the packet will open a session from inside.
bool Engine::prefetch_session(const Packet &packet, uint64_t hash) const
{
	if (packet.from == Side::inside && packet.stage == Stage::arrived)
		return !sessions_.prefetch_inside_record(hash);
	sessions_.prefetch_outside_record(hash);
	return false;
}

void Engine::prefetch_opening(const Packet &packet, const Headers &h) const
{
	const uint32_t subscriber = subscribers_.prefetch_record(packet.realm, h.source_be);
	if (subscriber != kNone)
		mappings_.prefetch_find(subscriber, h.protocol, h.source_port_be);
}

Verdict Engine::dispatch(Packet &packet, Headers &h, uint64_t hash)
{
	return h.piece == Piece::whole ? translate(packet, h, hash) : fragment(packet, h);
}

Verdict Engine::translate(Packet &packet, Headers &h, uint64_t hash)
{
	if (packet.from == Side::inside && packet.stage == Stage::arrived)
		return outbound(packet, h, hash);
	return inbound(packet, h, hash);
}

Verdict Engine::fragment(Packet &packet, Headers &h)
{
	const bool arrived_outside = packet.from == Side::outside && packet.stage != Stage::to_owner;
	const uint16_t id_be = load<uint16_t>(h.ip + 4);
	uint32_t worker = config_.worker;
	if (arrived_outside) {
		if (blocks_.find_address(h.destination_be) == kNoAddress)
			return {.action = Action::pass};
		worker = owner_of_fragments(h.source_be, h.destination_be, id_be, h.protocol, blocks_.workers());
	} else if (packet.stage == Stage::arrived) {
		worker = owner_of_subscriber(packet.realm, h.source_be, blocks_.workers());
	}
	if (worker != config_.worker) {
		if (arrived_outside)
			packet.stage = Stage::to_fragments;
		return {.action = Action::hand_over, .worker = static_cast<uint8_t>(worker)};
	}
	// `arrived` and `to_fragments` are one role.
	const Stage role = packet.stage == Stage::to_fragments ? Stage::arrived : packet.stage;
	const DatagramKey key{packet.from == Side::inside ? packet.realm : 0,
			      h.source_be,
			      h.destination_be,
			      id_be,
			      h.protocol,
			      static_cast<uint8_t>(static_cast<int>(role) * 2 + static_cast<int>(packet.from))};
	if (h.piece == Piece::later) {
		if (const Fate *fate = fragments_.find(key, now_))
			return apply_fate(packet, h, *fate);
		return fragments_.keep(key, packet.cookie, now_) ? Verdict{.action = Action::hold}
								 : drop(VX_DROP_fragment_limit);
	}
	const uint8_t ttl = h.ip[8];
	const Verdict verdict = translate(packet, h, flow_hash(packet, h));
	const Fate fate{.verdict = verdict,
			.source_be = load<uint32_t>(h.ip + 12),
			.destination_be = load<uint32_t>(h.ip + 16),
			.id_be = load<uint16_t>(h.ip + 4),
			.stage = packet.stage,
			.decrement = h.ip[8] != ttl,
			.incarnations = {incarnation(verdict.subscriber), incarnation(verdict.sender)}};
	fragments_.learn(key, fate, now_);
	return verdict;
}

// A later fragment gets what its first one got, but is measured by itself.
Verdict Engine::apply_fate(Packet &packet, const Headers &h, const Fate &fate)
{
	Verdict verdict = fate.verdict;
	if (verdict.action == Action::drop || verdict.action == Action::pass)
		return verdict;
	// Whoever has the record by now must neither get the packet nor be sought where it came from.
	if (incarnation(verdict.subscriber) != fate.incarnations[0] ||
	    incarnation(verdict.sender) != fate.incarnations[1])
		return drop(VX_DROP_no_session);
	if (fate.decrement && h.ip[8] <= 1)
		return drop(VX_DROP_ttl_expired);
	verdict.fragment_mtu = 0;
	const uint32_t mtu = mtu_[static_cast<int>(verdict.to)];
	if (verdict.action == Action::forward && h.length > mtu) {
		if (h.dont_fragment())
			return drop(VX_DROP_too_big);
		verdict.fragment_mtu = mtu;
	}
	uint64_t delta = uint64_t{delta_of_address(h.source_be, fate.source_be)} +
			 delta_of_address(h.destination_be, fate.destination_be) +
			 delta_of_word(load<uint16_t>(h.ip + 4), fate.id_be);
	if (fate.decrement) {
		const uint16_t before = load<uint16_t>(h.ip + 8);
		h.ip[8]--;
		delta += delta_of_word(before, load<uint16_t>(h.ip + 8));
	}
	store(h.ip + 4, fate.id_be);
	store(h.ip + 12, fate.source_be);
	store(h.ip + 16, fate.destination_be);
	apply(h.ip + 10, delta);
	packet.stage = fate.stage;
	return verdict;
}

void Engine::follow_tcp(uint32_t number, const Headers &h, bool from_inside)
{
	Session &session = sessions_[number];
	const Ticks was = sessions_.timeout(session);
	const uint8_t flags = h.l4[13];
	if (tcp_step(session, flags, from_inside))
		sessions_.shorten(number, was, now_);
	if ((flags & kTcpSyn) && config_.mss_clamp)
		clamp_mss(h, config_.mss_clamp == kMssThatFits ? mss_that_fits(mtu_inside()) : config_.mss_clamp);
}

// False: too long and not to be fragmented; the verdict says so, and so does an ICMP answer.
bool Engine::pass_mtu(const Packet &packet, const Headers &h, Side to, const IcmpError &error, Subscriber *subscriber,
		      Verdict &verdict)
{
	const uint32_t mtu = mtu_[static_cast<int>(to)];
	if (h.length <= mtu) [[likely]]
		return true;
	if (!h.dont_fragment()) {
		verdict.fragment_mtu = mtu;
		return true;
	}
	replies_.answer(packet, h, to == Side::inside ? Side::outside : Side::inside, error, subscriber, now_ns_);
	verdict = drop(VX_DROP_too_big);
	return false;
}

Stats Engine::stats() const
{
	Stats stats = stats_;
	stats.sessions = sessions_.count();
	stats.mappings = mappings_.count();
	stats.subscribers = subscribers_.with_blocks();
	return stats;
}

bool Engine::tick(uint64_t now_ns, uint32_t budget)
{
	set_time(now_ns);
	const bool sessions_done = sessions_.expire(now_, now_ns_, budget);
	const bool mappings_done = mappings_.free_rested(now_, now_ns_, budget);
	const bool fragments_done = fragments_.expire(now_, budget);
	const bool releases_done = subscribers_.retry_releases(now_ns_, budget);
	answer_unsolicited();
	return sessions_done && mappings_done && fragments_done && releases_done;
}

}  // namespace vx::nat
