// What the worker does for exceptions (native/worker/loop.cpp, fragments.cpp, sender.cpp), without its thread, its UMEM and
// its sockets: later fragments wait for their first one, and what exceeds the outside MTU is fragmented. Both by the
// parts the worker uses, native/core. See replay.h.
#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <arpa/inet.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../core/address.h"
#include "../core/frame.h"
#include "../core/ip.h"
#include "../core/ipv4_fragments.h"
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
	default:
		fprintf(stderr, "vxpipe: replay: broken invariant: an exception without a reason\n");
		abort();
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
			worker().dropped[VX_DROP_fragment_limit]++;
			free_places_.push_back(frame.address);
		}
	}
}

void Replay::send_held(std::span<uint8_t> frame, uint32_t address_be)
{
	HeldChanges changes = changes_;
	changes.address_be = address_be;
	if (!change_held_fragment(frame.data() + kEthernetBytes, changes)) {
		worker().dropped[VX_DROP_ttl_expired]++;
		return;
	}
	worker().translated += address_be != 0;
	send(frame);
}

void Replay::put_ethernet(uint8_t *frame) const
{
	const uint8_t *ip = frame + kEthernetBytes;
	const uint16_t protocol = htons(ip_version(ip) == 4 ? ETH_P_IP : ETH_P_IPV6);
	vx_addr destination;
	if (ip_version(ip) == 4)
		destination = mapped(ip + 16);
	else
		memcpy(&destination, ip + 24, sizeof destination);
	memcpy(frame, next_hop_mac_, ETH_ALEN);
	if (!fixed_next_hop_ && is_multicast(destination))
		multicast_mac(destination, frame);
	memcpy(frame + ETH_ALEN, outside_.mac, ETH_ALEN);
	memcpy(frame + 2 * ETH_ALEN, &protocol, sizeof protocol);
}

// XDP has found a route for it, and every route here leads to the one neighbour there is.
void Replay::send(std::span<uint8_t> frame)
{
	put_ethernet(frame.data());
	if (frame.size() - kEthernetBytes > outside_.mtu)
		return send_fragments(frame);
	worker().forwarded++;
	worker().worker_bytes += frame.size();
	emit_(frame);
}

void Replay::send_fragments(std::span<uint8_t> frame)
{
	Ipv4Fragments fragments(frame.subspan(kEthernetBytes), outside_.mtu);
	if (!fragments.possible()) {
		worker().dropped[VX_DROP_too_big]++;
		return;
	}
	std::vector<uint8_t> piece(kEthernetBytes + outside_.mtu);
	memcpy(piece.data(), frame.data(), kEthernetBytes);
	while (const uint32_t length = fragments.next(piece.data() + kEthernetBytes)) {
		worker().worker_bytes += kEthernetBytes + length;
		emit_(std::span(piece).first(kEthernetBytes + length));
	}
	worker().forwarded++;
	worker().fragments_extra += fragments.count() - 1;
}

}  // namespace vx
