// What the worker does for exceptions (native/worker/loop.cpp, fragments.cpp), without its thread, its UMEM and its
// sockets: later fragments wait for their first one, by the parts the worker uses, native/core. See replay.h.
#include <linux/bpf.h>

#include <cstring>

#include "../core/address.h"
#include "../core/broken.h"
#include "../core/frame.h"
#include "../core/ip.h"
#include "replay.h"

namespace vx {
namespace {

vx_fragment_key key_of(const vx_exception &exception, const uint8_t *ip)
{
	vx_fragment_key key{};
	memcpy(&key.source_be, ip + 12, 4);
	key.destination_be = exception.original_destination_be;
	memcpy(&key.id_be, ip + 4, 2);
	key.protocol = ip[9];
	return key;
}

}  // namespace

FragmentHolder::Limits Replay::held_limits()
{
	return {.timeout_ns = kHoldFragmentNs};
}

void Replay::take_exception(const vx_exception &exception, std::span<uint8_t> frame)
{
	switch (exception.reason) {
	case VX_EXCEPTION_NEIGHBOUR:
	case VX_EXCEPTION_TOO_BIG: return send(frame);
	case VX_EXCEPTION_FRAGMENT_FIRST: return first(exception, frame);
	case VX_EXCEPTION_FRAGMENT_LATER: return later(exception, frame);
	case VX_EXCEPTION_TRANSLATE:
	case VX_EXCEPTION_ARP: return nat_->take(exception, frame);
	default: broken("an exception without a reason");
	}
}

void Replay::write_fate(const vx_fragment_key &key, vx_fragment_state state, uint32_t address_be, uint64_t flags)
{
	vx_fragment entry{};
	entry.expires_ns = now_ns_ + VX_FRAGMENT_TIMEOUT_NS;
	entry.address_be = address_be;
	entry.state = static_cast<uint8_t>(state);
	fates().update(&key, &entry, flags);
}

void Replay::forget_fates()
{
	fates().erase_if([this](const void *value) {
		vx_fragment entry;
		memcpy(&entry, value, sizeof entry);
		return entry.expires_ns <= now_ns_;
	});
}

// XDP looked the datagram up a moment ago, on this thread: it is HELD, and nobody has decided since.
void Replay::first(const vx_exception &exception, std::span<uint8_t> frame)
{
	const vx_fragment_key key = key_of(exception, frame.data() + kEthernetBytes);
	write_fate(key, VX_FRAGMENT_DECIDED, exception.new_destination_be, BPF_ANY);
	send(frame);
	for (const Frame &held : holder_.release(key)) {
		send_held(waiting_[held.address], exception.new_destination_be);
		free_places_.push_back(held.address);
	}
}

void Replay::later(const vx_exception &exception, std::span<uint8_t> frame)
{
	if (free_places_.empty()) {
		free_places_.push_back(waiting_.size());
		waiting_.emplace_back();
	}
	const uint64_t place = free_places_.back();
	free_places_.pop_back();
	waiting_[place].assign(frame.begin(), frame.end());
	const Frame held{place, static_cast<uint32_t>(frame.size())};
	give_up(holder_.hold(key_of(exception, frame.data() + kEthernetBytes), held, now_ns_));
}

void Replay::give_up(const std::vector<HeldDatagram> &datagrams)
{
	for (const HeldDatagram &datagram : datagrams) {
		write_fate(datagram.key, VX_FRAGMENT_DROPPED, 0, BPF_ANY);
		for (const Frame &frame : datagram.frames) {
			sender_.drop(Ledger::inside, VX_DROP_fragment_limit);
			free_places_.push_back(frame.address);
		}
	}
}

void Replay::send_held(std::span<uint8_t> frame, uint32_t address_be)
{
	HeldChanges changes = changes_;
	changes.address_be = address_be;
	if (!change_held_fragment(frame.data() + kEthernetBytes, changes))
		return sender_.drop(Ledger::inside, VX_DROP_ttl_expired);
	sender_.counters(Ledger::inside).translated += address_be != 0;
	send(frame);
}

// False: no route leads there.
bool Replay::find_next_hop(const uint8_t *frame, uint8_t mac[6])
{
	memcpy(mac, next_hop_mac_, sizeof next_hop_mac_);
	if (fixed_next_hop_)
		return true;
	const uint8_t *ip = frame + kEthernetBytes;
	vx_prefix4 key4{32, 0};
	vx_prefix6 key6{128, {}};
	const bool is4 = ip_version(ip) == 4;
	if (is4)
		memcpy(&key4.address_be, ip + 16, sizeof key4.address_be);
	memcpy(&key6.address, ip + 24, sizeof key6.address);
	const void *found = is4 ? maps_["routes4"].look_up(&key4) : maps_["routes6"].look_up(&key6);
	const vx_addr destination = is4 ? mapped(ip + 16) : key6.address;
	if (is_multicast(destination))
		multicast_mac(destination, mac);
	return found && static_cast<const vx_route *>(found)->kind == VX_ROUTE_GATEWAY;
}

void Replay::send(std::span<uint8_t> frame)
{
	uint8_t mac[6];
	if (!find_next_hop(frame.data(), mac))
		return sender_.drop(Ledger::inside, VX_DROP_no_route);
	sender_.send(frame, mac, Ledger::inside);
}

}  // namespace vx
