// Sends frames and counts their packets' fates. Runs on the worker's thread.
#include "sender.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "../core/ip.h"
#include "../core/ipv4_fragments.h"

namespace vx {
namespace {

constexpr uint32_t kInjectAtLeast = 32;  // fewer leave sooner by AF_XDP than a call's fixed cost
constexpr uint32_t kInjectTrial = 1;  // until the driver has taken some: what a refusal costs
constexpr uint64_t kInjectPauseNsMin = 1000000000, kInjectPauseNsMax = 64000000000;
constexpr int kKicksWithoutProgress = 16;
constexpr int kKicksMax = 4096;  // several rings full: refused frames and ones taken back cost a kick each
constexpr uint64_t kStallNsMax = 1000000000;  // a driver that takes nothing for this long has refused

// What we send of our own counts with what came from inside.
vx_direction direction_of(Ledger ledger)
{
	return ledger == Ledger::outside ? VX_OUTSIDE : VX_INSIDE;
}

}  // namespace

Sender::Sender(vx_direction to, Frames &frames, XskTransmitter &transmitter, Injector injector, Links &links,
	       Netlink &requests, vx_slot &slot, EventQueue &events, Sampler sampler)
	: to_(to), frames_(frames), transmitter_(transmitter), links_(links), requests_(requests), slot_(slot),
	  injector_(injector), events_(events), sampler_(sampler),
	  backlog_(std::bit_ceil(frames.umem().frames())), inject_most_(kInjectTrial)
{
}

void Sender::send_ready(Frame frame)
{
	if (!links_.sends(to_))
		return drop(frame, VX_DROP_carrier_down);
	append(frame, kAlone);
}

void Sender::drop(Frame frame, vx_drop reason)
{
	if (frame.ledger != Ledger::originated) {
		slot_.direction[direction_of(frame.ledger)].dropped[reason]++;
		sampler_.dropped(frames_.at(frame.address), frame.length, direction_of(frame.ledger), reason);
	}
	frames_.put(frame.address);
}

void Sender::put_ethernet(uint8_t *frame, const uint8_t destination_mac[6]) const
{
	memcpy(frame, destination_mac, 6);
	memcpy(frame + 6, links_.face(to_).mac, 6);
	store16_be(frame + kEtherTypeAt, ethertype_for(frame + kEthernetBytes));
}

void Sender::send(Frame frame, const uint8_t destination_mac[6])
{
	if (!links_.sends(to_))
		return drop(frame, VX_DROP_carrier_down);
	uint8_t *bytes = frames_.at(frame.address);
	put_ethernet(bytes, destination_mac);
	const uint32_t mtu = links_.face(to_).mtu;
	if (frame.length - kEthernetBytes > mtu) {
		const uint32_t length = ip_length(bytes + kEthernetBytes);
		if (length > mtu)
			return send_fragments(frame);
		frame.length = kEthernetBytes + length;
	}
	append(frame, kAlone);
}

void Sender::send_fragments(Frame frame)
{
	const uint8_t *bytes = frames_.at(frame.address);
	Ipv4Fragments fragments({bytes + kEthernetBytes, frame.length - kEthernetBytes}, links_.face(to_).mtu);
	if (!fragments.possible())
		return drop(frame, VX_DROP_too_big);
	if (!frames_.has(fragments.count()))
		return drop(frame, VX_DROP_fill_empty);
	const uint32_t group = begin_pieces(fragments.count());
	for (uint32_t i = 0; i < fragments.count(); i++) {
		const uint64_t address = frames_.take();
		uint8_t *out = frames_.at(address);
		memcpy(out, bytes, kEthernetBytes);
		const uint32_t length = fragments.next(out + kEthernetBytes);
		append({address, kEthernetBytes + length, frame.ledger}, group);
	}
	frames_.put(frame.address);
}

uint32_t Sender::begin_pieces(uint32_t frames)
{
	if (free_groups_.empty()) {
		free_groups_.push_back(static_cast<uint32_t>(groups_.size()));
		groups_.emplace_back();
	}
	const uint32_t index = free_groups_.back();
	free_groups_.pop_back();
	groups_[index] = {frames, 0, false, VX_DROP_tx_refused};
	return index;
}

// Why the driver did not take a frame; the carrier is asked for once in a flush.
vx_drop Sender::refusal()
{
	if (!refusal_known_)
		refusal_ = links_.ask_carrier(to_, requests_) ? VX_DROP_tx_refused : VX_DROP_carrier_down;
	refusal_known_ = true;
	return refusal_;
}

void Sender::tell(TxFate fate, uint32_t length, uint32_t tag)
{
	const auto ledger = static_cast<Ledger>(tag & 3);
	const uint32_t group = tag >> 2;
	vx_counters &counters = slot_.direction[direction_of(ledger)];
	if (fate == TxFate::sent)
		counters.worker_bytes += length;
	if (ledger == Ledger::originated) {
		counters.originated += fate == TxFate::sent;
	} else if (group != kAlone) {
		tell_group(fate, groups_[group], counters);
		if (groups_[group].open == 0)
			free_groups_.push_back(group);
	} else if (fate == TxFate::sent) {
		counters.forwarded++;
	} else {
		counters.dropped[refusal()]++;
	}
}

void Sender::tell_group(TxFate fate, Group &group, vx_counters &counters)
{
	if (fate == TxFate::sent) {
		group.sent++;
	} else if (!group.lost) {
		group.lost = true;
		group.reason = refusal();
	}
	if (--group.open)
		return;
	if (group.lost) {
		counters.dropped[group.reason]++;
		counters.fragments_extra += group.sent;
	} else {
		counters.forwarded++;
		counters.fragments_extra += group.sent - 1;
	}
}

bool Sender::injectable(const Waiting &one)
{
	return one.group == kAlone && one.frame.length <= kInjectBytesMax && one.frame.ledger != Ledger::originated;
}

// Injects what waits from the oldest on, up to a frame that cannot go that way or stands in another ledger. False: AF_XDP
// has to.
bool Sender::inject(uint64_t now_ns)
{
	if (!injector_.ready() || transmitter_.queued() || now_ns < inject_after_ns_)
		return false;
	uint32_t end = head_;
	int error = 0;
	const uint32_t least = injector_.takes_all() ? 1 : kInjectAtLeast;
	const Ledger ledger = waiting(head_).frame.ledger;
	if (tail_ - head_ < least)
		return false;
	while (end != tail_ && end - head_ < inject_most_ && injectable(waiting(end)) && waiting(end).frame.ledger == ledger)
		end++;
	if (end - head_ < std::min(least, inject_most_) || !injector_.begin(to_, direction_of(ledger)))
		return false;
	for (uint32_t at = head_; at != end; at++)
		injector_.add(waiting(at).frame.address, waiting(at).frame.length);
	vx_counters &counters = slot_.direction[direction_of(ledger)];
	const vx_counters before = counters;
	const uint32_t gone = injector_.run(&error);
	judge_injection(gone, before, counters, error, now_ns);
	for (uint32_t i = 0; i < gone; i++) {
		counters.worker_bytes += waiting(head_).frame.length;
		frames_.put(waiting(head_++).frame.address);
	}
	return gone;
}

// Whether this way out is there is seen by using it, at first for one frame: a kernel may lack live frames, and a driver
// redirected ones (as a veth does whose far end has neither XDP nor GRO), which may pass. What is lost for want of a carrier
// or above a new MTU says nothing of it.
void Sender::judge_injection(uint32_t gone, const vx_counters &before, const vx_counters &counters, int error,
			     uint64_t now_ns)
{
	if (counters.forwarded > before.forwarded) {
		inject_most_ = VX_INJECTION_MAX;
		inject_pause_ns_ = 0;
		return;
	}
	for (const vx_drop reason : {VX_DROP_carrier_down, VX_DROP_too_big})
		if (counters.dropped[reason] > before.dropped[reason])
			return;
	inject_most_ = kInjectTrial;
	const bool lasting = !gone && error != EINTR && error != EAGAIN && error != ENOMEM;
	if (injector_.takes_all() && !lasting)
		return;  // there is no better way to change to
	if (gone && refusal() == VX_DROP_carrier_down) {  // it is leaving, which its own event says
		inject_after_ns_ = now_ns + kInjectPauseNsMin;
		return;
	}
	if (!inject_pause_ns_)
		events_.push("injection_unavailable", now_ns,
			     std::string("frames leave one by one: ") +
				     (gone ? std::string(to_ == VX_OUTSIDE ? "the outside" : "the inside") + " driver takes no redirected frames"
					   : strerror(error)));
	inject_pause_ns_ = std::clamp(2 * inject_pause_ns_, kInjectPauseNsMin, kInjectPauseNsMax);
	inject_after_ns_ = now_ns + inject_pause_ns_;
	if (lasting)
		injector_.give_up();
}

void Sender::fill_ring()
{
	for (; head_ != tail_ && transmitter_.has_room(); head_++) {
		if (injector_.takes_all() && injectable(waiting(head_)))
			return;
		transmitter_.queue(waiting(head_).frame, tag_of(waiting(head_)));
	}
}

void Sender::flush(uint64_t now_ns)
{
	const auto on_fate = [this](TxFate fate, uint32_t length, uint32_t tag) { tell(fate, length, tag); };
	refusal_known_ = false;
	for (int idle = 0, kicks = 0; idle < kKicksWithoutProgress && kicks < kKicksMax; kicks++) {
		transmitter_.reap(frames_);
		if (inject(now_ns)) {
			idle = 0;
			continue;
		}
		fill_ring();
		if (!transmitter_.queued())
			break;
		const uint32_t before = transmitter_.queued();
		const int err = transmitter_.kick(on_fate);
		if (err == ENETDOWN || err == ENXIO)
			return abandon(VX_DROP_carrier_down);
		if (transmitter_.queued() != before)
			stalled_since_ns_ = 0;
		idle = err && transmitter_.queued() == before ? idle + 1 : 0;
	}
	transmitter_.reap(frames_);
	if (!backlogged())
		stalled_since_ns_ = 0;
	else if (!stalled_since_ns_)
		stalled_since_ns_ = now_ns;
	else if (now_ns - stalled_since_ns_ > kStallNsMax)
		give_up();
}

void Sender::give_up()
{
	abandon(links_.ask_carrier(to_, requests_) ? VX_DROP_tx_refused : VX_DROP_carrier_down);
}

void Sender::abandon(vx_drop reason)
{
	refusal_ = reason;
	refusal_known_ = true;
	stalled_since_ns_ = 0;
	const auto on_fate = [this](TxFate fate, uint32_t length, uint32_t tag) { tell(fate, length, tag); };
	transmitter_.take_back(frames_, on_fate);
	for (; head_ != tail_; head_++) {
		frames_.put(waiting(head_).frame.address);
		tell(TxFate::taken_back, 0, tag_of(waiting(head_)));
	}
}

}  // namespace vx
