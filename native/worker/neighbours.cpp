// Resolves neighbours and holds their packets. Runs on worker 0's thread.
#include "neighbours.h"

#include <sys/socket.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

#include <cstring>
#include <utility>

namespace vx {
namespace {

constexpr uint32_t kWaitingMax = 1024;
// The kernel gives up after three probes a second apart and says so; this is for when it does not.
constexpr uint64_t kResolveNsMax = 6000000000;
constexpr uint64_t kRefreshNs = 5000000000;
constexpr uint64_t kAgeingNs = 60000000000;
constexpr uint64_t kUnusedNsMax = 300000000000;
constexpr uint64_t kPurgeNs = 1000000000;
constexpr uint16_t kValidStates = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;
constexpr uint16_t kPermanentStates = NUD_PERMANENT | NUD_NOARP;

}  // namespace

Neighbours::Neighbours(Links &links, int map_fd, Netlink &requests, Sender &sender, Tables &tables, EventQueue &events)
	: links_(links), map_fd_(map_fd), kernel_(requests, links.outside().ifindex), sender_(sender),
	  tables_(tables), events_(events)
{
}

Neighbours::Neighbour *Neighbours::admit(const vx_addr &address, uint64_t now_ns)
{
	const auto found = entries_.find(address);
	if (found != entries_.end())
		return &found->second;
	if (entries_.size() >= VX_NEIGHBOURS_MAX)
		purge_failed(now_ns);
	if (entries_.size() >= VX_NEIGHBOURS_MAX)
		return nullptr;
	Neighbour &fresh = entries_[address];
	fresh.used_ns = now_ns;
	resolving_++;
	return &fresh;
}

void Neighbours::forward(const vx_addr &address, Frame frame, uint64_t now_ns)
{
	if (!links_.sends(VX_OUTSIDE))
		return sender_.drop(frame, VX_DROP_carrier_down);
	Neighbour *neighbour = admit(address, now_ns);
	if (!neighbour || neighbour->state == VX_NEIGHBOUR_FAILED)
		return sender_.drop(frame, VX_DROP_no_neighbour);
	if (neighbour->state == VX_NEIGHBOUR_VALID)
		return sender_.send(frame, neighbour->mac);
	hold(address, *neighbour, frame, now_ns);
}

void Neighbours::hold(const vx_addr &address, Neighbour &neighbour, Frame frame, uint64_t now_ns)
{
	// No more than there is room left: half of it all for one, half of the rest for the next, and so on.
	if (neighbour.waiting.size() < kWaitingMax - waiting_) {
		neighbour.waiting.push_back(frame);
		waiting_++;
	} else {
		sender_.drop(frame, VX_DROP_no_neighbour);
	}
	if (neighbour.deadline_ns)
		return;
	neighbour.deadline_ns = now_ns + kResolveNsMax;
	write(address, neighbour);
	ask(address, neighbour, now_ns);
}

void Neighbours::ask(const vx_addr &address, Neighbour &neighbour, uint64_t now_ns)
{
	const auto found = kernel_.look_up(address);
	neighbour.in_kernel = found.has_value();
	neighbour.kernel_state = found ? found->state : 0;
	// That it failed earlier says nothing about the question that follows.
	if (neighbour.kernel_state & kValidStates)
		learned_.push_back(*found);
	if (neighbour.kernel_state & kPermanentStates)
		return;
	if (!neighbour.asked)
		neighbour.was_there = neighbour.in_kernel;
	neighbour.asked = true;
	const int err = kernel_.look_after(address);
	if (!err)
		neighbour.in_kernel = true;
	else if (neighbour.state == VX_NEIGHBOUR_RESOLVING)
		become_failed(address, neighbour, now_ns);
}

void Neighbours::settle(uint64_t now_ns)
{
	for (const NeighbourMessage &message : std::exchange(learned_, {}))
		apply(message, now_ns);
}

void Neighbours::give_back(const vx_addr &address, Neighbour &neighbour)
{
	if (!neighbour.asked || !neighbour.in_kernel || neighbour.kernel_state & kPermanentStates)
		return;
	if (neighbour.was_there)
		kernel_.stop_looking_after(address);
	else
		kernel_.remove(address);
	neighbour.asked = false;
}

void Neighbours::set_state(Neighbour &neighbour, vx_neighbour_state state)
{
	if (neighbour.state == VX_NEIGHBOUR_RESOLVING)
		resolving_--;
	if (state == VX_NEIGHBOUR_RESOLVING)
		resolving_++;
	else
		neighbour.deadline_ns = 0;
	neighbour.state = state;
}

// An entry nobody has asked for yet counts as unused until XDP says otherwise.
void Neighbours::write(const vx_addr &address, Neighbour &neighbour)
{
	vx_neighbour value{};
	memcpy(value.mac, neighbour.mac, sizeof value.mac);
	value.state = static_cast<uint8_t>(neighbour.state);
	value.used = neighbour.asked || !neighbour.waiting.empty();
	neighbour.in_map = tables_.put(map_fd_, address, value) || neighbour.in_map;
}

void Neighbours::become_valid(const vx_addr &address, Neighbour &neighbour, const uint8_t mac[6], uint64_t now_ns)
{
	const bool was_valid = neighbour.state == VX_NEIGHBOUR_VALID;
	if (was_valid && !memcmp(neighbour.mac, mac, 6) && neighbour.in_map)
		return;
	if (neighbour.asked && (!was_valid || memcmp(neighbour.mac, mac, 6)))
		events_.push("neighbour_resolved", now_ns, address_text(address) + " is at " + mac_text(mac));
	memcpy(neighbour.mac, mac, 6);
	set_state(neighbour, VX_NEIGHBOUR_VALID);
	const bool anything_waits = !neighbour.waiting.empty();
	for (const Frame &frame : std::exchange(neighbour.waiting, {})) {
		waiting_--;
		sender_.send(frame, neighbour.mac);
	}
	if (anything_waits) {
		drain_();
		sender_.flush(now_ns);
	}
	write(address, neighbour);
	tables_.publish();
	if (anything_waits)
		drain_();
}

void Neighbours::become_failed(const vx_addr &address, Neighbour &neighbour, uint64_t now_ns)
{
	drop_waiting(neighbour, VX_DROP_no_neighbour);
	if (neighbour.state == VX_NEIGHBOUR_FAILED)
		return;
	set_state(neighbour, VX_NEIGHBOUR_FAILED);
	write(address, neighbour);
	events_.push("neighbour_failed", now_ns, address_text(address) + " does not answer");
}

void Neighbours::drop_waiting(Neighbour &neighbour, vx_drop reason)
{
	for (const Frame &frame : std::exchange(neighbour.waiting, {})) {
		waiting_--;
		sender_.drop(frame, reason);
	}
}

Neighbours::Entries::iterator Neighbours::forget(Entries::iterator at)
{
	if (at->second.state == VX_NEIGHBOUR_RESOLVING)
		resolving_--;
	if (at->second.in_map)
		tables_.erase(map_fd_, at->first);
	return entries_.erase(at);
}

// The kernel no longer has it. Packets that wait ask again, until their time is up.
void Neighbours::become_unknown(Entries::iterator at, uint64_t now_ns)
{
	Neighbour &neighbour = at->second;
	neighbour.in_kernel = neighbour.managed = neighbour.asked = false;
	neighbour.kernel_state = 0;
	if (!links_.sends(VX_OUTSIDE))
		drop_waiting(neighbour, VX_DROP_carrier_down);
	if (neighbour.waiting.empty())
		forget(at);
	else if (now_ns < neighbour.deadline_ns)
		ask(at->first, neighbour, now_ns);
	else
		become_failed(at->first, neighbour, now_ns);
}

// Bad news may be older than our own question, which made the kernel try anew: then it has an entry that has not
// failed.
bool Neighbours::is_outdated(const NeighbourMessage &message)
{
	if (!message.gone && !(message.state & NUD_FAILED))
		return false;
	const auto now = kernel_.look_up(message.address);
	return now && !(now->state & NUD_FAILED);
}

void Neighbours::apply(const NeighbourMessage &message, uint64_t now_ns)
{
	if (message.ifindex != links_.outside().ifindex || is_multicast(message.address))
		return;
	auto at = entries_.find(message.address);
	if (at != entries_.end() && is_outdated(message))
		return;
	if (message.gone) {
		if (at != entries_.end())
			become_unknown(at, now_ns);
		return;
	}
	const bool valid = message.state & kValidStates && message.has_mac;
	if (at == entries_.end()) {
		if (!valid || !admit(message.address, now_ns))
			return;
		at = entries_.find(message.address);
	}
	Neighbour &neighbour = at->second;
	neighbour.in_kernel = true;
	neighbour.seen = true;
	neighbour.managed = message.managed;
	neighbour.kernel_state = message.state;
	if (valid) {
		become_valid(at->first, neighbour, message.mac, now_ns);
	} else if (message.state & NUD_FAILED) {
		// One that nobody looks after stays failed: forget it, so that the next packet asks.
		if (neighbour.asked)
			become_failed(at->first, neighbour, now_ns);
		else
			forget(at);
	} else if (neighbour.state == VX_NEIGHBOUR_VALID) {
		// Being resolved anew: what comes waits, as for a new one.
		set_state(neighbour, VX_NEIGHBOUR_RESOLVING);
		neighbour.deadline_ns = now_ns + kResolveNsMax;
		write(at->first, neighbour);
	}
}

Result<void> Neighbours::read(Netlink &reads, uint64_t now_ns)
{
	for (auto &[address, neighbour] : entries_)
		neighbour.seen = false;
	auto done = reads.dump(RTM_GETNEIGH, AF_UNSPEC, [&](NetlinkBytes bytes) {
		if (const auto message = parse_neighbour(bytes))
			apply(*message, now_ns);
	});
	if (!done)
		return done;
	std::vector<vx_addr> gone;
	for (const auto &[address, neighbour] : entries_)
		if (!neighbour.seen)
			gone.push_back(address);
	for (const vx_addr &address : gone)
		become_unknown(entries_.find(address), now_ns);
	return {};
}

void Neighbours::link_down()
{
	for (auto &[address, neighbour] : entries_)
		drop_waiting(neighbour, VX_DROP_carrier_down);
}

void Neighbours::tick(uint64_t now_ns)
{
	if (resolving_)
		for (auto &[address, neighbour] : entries_)
			if (neighbour.state == VX_NEIGHBOUR_RESOLVING && now_ns >= neighbour.deadline_ns)
				become_failed(address, neighbour, now_ns);
	if (now_ns - refresh_ns_ >= kRefreshNs)
		refresh(now_ns);
	if (now_ns - ageing_ns_ >= kAgeingNs)
		age(now_ns);
}

// Makes the kernel look after what is used but was never asked for, and asks again where it does not manage.
void Neighbours::refresh(uint64_t now_ns)
{
	refresh_ns_ = now_ns;
	for (auto &[address, neighbour] : entries_) {
		if (neighbour.managed || neighbour.kernel_state & kPermanentStates || !links_.sends(VX_OUTSIDE))
			continue;
		vx_neighbour value{};
		if (bpf_map_lookup_elem(map_fd_, &address, &value) || !value.used)
			continue;
		ask(address, neighbour, now_ns);
	}
}

void Neighbours::age(uint64_t now_ns)
{
	ageing_ns_ = now_ns;
	for (auto at = entries_.begin(); at != entries_.end();) {
		Neighbour &neighbour = at->second;
		vx_neighbour value{};
		if (neighbour.in_map && !bpf_map_lookup_elem(map_fd_, &at->first, &value) && value.used) {
			neighbour.used_ns = now_ns;
			value.used = 0;
			tables_.put(map_fd_, at->first, value);
		}
		const bool unused = now_ns - neighbour.used_ns >= kUnusedNsMax && neighbour.waiting.empty();
		if (unused && !(neighbour.kernel_state & kPermanentStates)) {
			give_back(at->first, neighbour);
			at = forget(at);
		} else {
			++at;
		}
	}
}

// Room for new ones when the table is full: a scan of addresses that do not exist must not lock out the others.
void Neighbours::purge_failed(uint64_t now_ns)
{
	if (now_ns - purged_ns_ < kPurgeNs)
		return;
	purged_ns_ = now_ns;
	for (auto at = entries_.begin(); at != entries_.end();) {
		if (at->second.state == VX_NEIGHBOUR_FAILED) {
			give_back(at->first, at->second);
			at = forget(at);
		} else {
			++at;
		}
	}
}

void Neighbours::stop()
{
	for (auto &[address, neighbour] : entries_) {
		drop_waiting(neighbour, VX_DROP_no_neighbour);
		give_back(address, neighbour);
	}
}

std::vector<NextHopView> Neighbours::view() const
{
	std::vector<NextHopView> all;
	all.reserve(entries_.size());
	for (const auto &[address, neighbour] : entries_) {
		NextHopView one{};
		one.address = address;
		memcpy(one.mac, neighbour.mac, sizeof one.mac);
		one.state = static_cast<uint8_t>(neighbour.state);
		all.push_back(one);
	}
	return all;
}

}  // namespace vx
