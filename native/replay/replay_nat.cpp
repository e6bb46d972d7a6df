// See replay_nat.h.
#include "replay_nat.h"

#include <algorithm>
#include <cstring>

#include "../core/broken.h"

namespace vx {
namespace {

constexpr uint32_t kFrames = 2 * kNatFragmentsHeld;
constexpr uint32_t kRecordAt = VX_FRAME_OFFSET_MAX / 2;
constexpr nat::Key kKey = {{0x243f6a8885a308d3, 0x13198a2e03707344}};  // of the digits of pi
constexpr uint64_t kSecondNs = 1000000000;

nat::PoolConfig of_one_worker(nat::PoolConfig pools)
{
	pools.workers = 1;
	return pools;
}

nat::Config engine_config(nat::Config config)
{
	config.worker = 0;
	config.key = kKey;
	config.record_sessions = false;  // nobody keeps records
	config.fragments_waiting = std::min(config.fragments_waiting, kNatFragmentsHeld);
	return config;
}

// Of silence, after which no session and no block is left.
uint64_t settled_after_ns(const nat::Timeouts &timeouts)
{
	const uint32_t longest = std::max({timeouts.tcp_established, timeouts.tcp_opening, timeouts.tcp_closing,
					   timeouts.udp, timeouts.icmp});
	return (uint64_t{longest} + timeouts.port_hold + 2) * kSecondNs;
}

// Likewise, no fragment and no SYN that waits.
uint64_t forgotten_after_ns(const nat::Timeouts &timeouts)
{
	return (uint64_t{std::max(timeouts.fragments, timeouts.unsolicited_syn)} + 2) * kSecondNs;
}

}  // namespace

ReplayNat::ReplayNat(const SourceNat &plan, Host host, ReplaySender &sender)
	: plan_{of_one_worker(plan.pools), engine_config(plan.engine)}, host_(std::move(host)), sender_(sender)
{
	for (uint64_t i = kFrames; i-- > 0;)
		free_.push_back(i * VX_FRAME_BYTES);
}

Result<std::unique_ptr<ReplayNat>> ReplayNat::make(const SourceNat &plan, std::span<vx_port_owners> owners, Host host,
						   ReplaySender &sender)
{
	std::unique_ptr<ReplayNat> self(new ReplayNat(plan, std::move(host), sender));
	const auto room = [](size_t bytes) { return Region::make(bytes, Pages::as_touched); };
	const nat::PoolConfig &pools = self->plan_.pools;
	auto frames = room(size_t{kFrames} * VX_FRAME_BYTES);
	if (!frames)
		return frames.error();
	auto blocks = room(nat::PortBlocks::bytes_needed(pools));
	if (!blocks)
		return blocks.error();
	self->frames_memory_ = std::move(*frames);
	self->blocks_memory_ = std::move(*blocks);
	self->blocks_.emplace(pools, self->blocks_memory_.bytes(), owners);
	auto tables = room(nat::Engine::bytes_needed(self->plan_.engine, *self->blocks_, pools.forwards));
	if (!tables)
		return tables.error();
	self->engine_memory_ = std::move(*tables);
	return self;
}

void ReplayNat::begin(uint64_t now_ns)
{
	engine_.emplace(plan_.engine, *blocks_, plan_.pools.forwards, engine_memory_.bytes(), now_ns);
	translation_.emplace(*engine_, host_.tunnel, at(0), static_cast<Translation::Ways &>(*this));
	translation_->set_faces(host_.inside, host_.outside);
	now_ns_ = now_ns;
	next_tick_ns_ = now_ns + Translation::kTickNs;
}

void ReplayNat::tick(uint64_t now_ns)
{
	sender_.set_time(now_ns);
	for (bool more = true; more;) {
		more = translation_->tick(now_ns);
		translation_->settle(now_ns);
		nat::LogRecords &records = engine_->records();  // which nobody keeps
		while (records.peek(0))
			records.done(1);
	}
}

void ReplayNat::advance(uint64_t now_ns)
{
	if (!engine_)
		begin(now_ns);
	// In steps while they change anything; the rest of a long silence is one.
	const nat::Timeouts &timeouts = plan_.engine.timeouts;
	const uint64_t forgotten_ns = now_ns_ + forgotten_after_ns(timeouts);
	const uint64_t settled_ns = std::max(forgotten_ns, now_ns_ + settled_after_ns(timeouts));
	const auto changes = [&] {
		return next_tick_ns_ <= forgotten_ns || engine_->sessions().count() || engine_->subscribers().with_blocks();
	};
	for (; next_tick_ns_ <= std::min(now_ns, settled_ns) && changes(); next_tick_ns_ += Translation::kTickNs)
		tick(next_tick_ns_);
	if (next_tick_ns_ <= now_ns) {
		tick(now_ns);
		next_tick_ns_ += ((now_ns - next_tick_ns_) / Translation::kTickNs + 1) * Translation::kTickNs;
	}
	now_ns_ = now_ns;
}

void ReplayNat::take(const vx_exception &exception, std::span<const uint8_t> frame)
{
	const bool is_arp = exception.reason == VX_EXCEPTION_ARP;
	if (!has_frames(1)) {
		const bool outside = frame[offsetof(vx_translate, direction)] == VX_OUTSIDE;
		return is_arp ? void() : sender_.drop(outside ? Ledger::outside : Ledger::inside, VX_DROP_fill_empty);
	}
	const Frame own{take_frame() + kRecordAt, static_cast<uint32_t>(frame.size())};
	std::copy(frame.begin(), frame.end(), at(own.address));
	if (is_arp)
		return translation_->answer_arp(own);
	translation_->take(own, nat::Stage::arrived, now_ns_);
	translation_->settle(now_ns_);
}

void ReplayNat::finish()
{
	if (translation_)
		translation_->give_up(now_ns_);
}

uint64_t ReplayNat::take_frame()
{
	if (free_.empty())
		broken("a frame taken where none is free");
	const uint64_t address = free_.back();
	free_.pop_back();
	return address;
}

void ReplayNat::put_frame(uint64_t address)
{
	free_.push_back(address & ~uint64_t{VX_FRAME_BYTES - 1});
}

void ReplayNat::send_outside(Frame frame, const uint8_t destination_mac[6])
{
	sender_.send(bytes_of(frame), destination_mac, frame.ledger);
	put_frame(frame.address);
}

void ReplayNat::route(Frame frame, uint64_t)
{
	uint8_t mac[6];
	if (!host_.find_next_hop(at(frame.address), mac))
		return drop(frame, VX_DROP_no_route);
	send_outside(frame, mac);
}

void ReplayNat::send_ready(vx_direction to, Frame frame)
{
	sender_.send_ready(to, bytes_of(frame), frame.ledger);
	put_frame(frame.address);
}

uint32_t ReplayNat::begin_pieces(uint32_t)
{
	sender_.begin_pieces();
	return 0;
}

void ReplayNat::send_piece(Frame frame, uint32_t)
{
	sender_.send_piece(VX_INSIDE, bytes_of(frame), frame.ledger);
	put_frame(frame.address);
}

void ReplayNat::drop(Frame frame, vx_drop reason)
{
	sender_.drop(frame.ledger, reason);
	put_frame(frame.address);
}

bool ReplayNat::hand_over(uint32_t, Frame, nat::Stage)
{
	broken("one worker has nobody to hand over to");
}

}  // namespace vx
