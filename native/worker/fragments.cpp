// Holds later fragments until their first one. Runs on worker 0's thread.
#include "fragments.h"

#include <bpf/bpf.h>

#include <cstring>
#include <utility>

#include "../core/held_fragment.h"

namespace vx {
namespace {

// An IPv4 header without options, as it lies in the frame.
struct Ipv4Header {
	uint16_t version_and_service;
	uint16_t length_be;
	uint16_t id_be;
	uint16_t flags_be;
	uint8_t ttl;
	uint8_t protocol;
	uint16_t checksum;
	uint32_t source_be;
	uint32_t destination_be;
};

constexpr uint32_t kSweepBatch = 512;

constexpr uint8_t kUnknown = 0xff;

}  // namespace

Fragments::Fragments(Frames &frames, Sender &sender, const WorkersConfig &config, Forward forward)
	: frames_(frames), sender_(sender), config_(config), forward_(std::move(forward)),
	  holder_(FragmentHolder::Limits{.timeout_ns = kHoldFragmentNs})
{
}

vx_fragment_key Fragments::key_of(const vx_exception &exception, Frame frame)
{
	Ipv4Header header;
	memcpy(&header, frames_.at(frame.address) + kEthernetBytes, sizeof header);
	vx_fragment_key key{};
	key.source_be = header.source_be;
	key.destination_be = exception.original_destination_be;
	key.id_be = header.id_be;
	key.protocol = header.protocol;
	return key;
}

vx_fragment Fragments::look_up(const vx_fragment_key &key, uint64_t now_ns)
{
	vx_fragment entry{};
	if (bpf_map_lookup_elem(config_.fragments_fd, &key, &entry) || entry.expires_ns <= now_ns)
		entry.state = kUnknown;
	return entry;
}

void Fragments::write(const vx_fragment_key &key, vx_fragment_state state, uint32_t address_be, uint64_t flags,
		      uint64_t now_ns)
{
	vx_fragment entry{};
	entry.expires_ns = now_ns + VX_FRAGMENT_TIMEOUT_NS;
	entry.address_be = address_be;
	entry.state = static_cast<uint8_t>(state);
	bpf_map_update_elem(config_.fragments_fd, &key, &entry, flags);
}

void Fragments::translate_and_forward(Frame frame, uint32_t address_be, uint64_t now_ns)
{
	const HeldChanges changes{address_be, config_.decrement_ttl, config_.clear_dont_fragment};
	if (!change_held_fragment(frames_.at(frame.address) + kEthernetBytes, changes))
		return sender_.drop(frame, VX_DROP_ttl_expired);
	if (address_be)
		config_.slots->direction[VX_INSIDE].translated++;
	forward_(frame, now_ns);
}

void Fragments::first(const vx_exception &exception, Frame frame, uint64_t now_ns)
{
	const vx_fragment_key key = key_of(exception, frame);
	if (look_up(key, now_ns).state == VX_FRAGMENT_DROPPED)
		return sender_.drop(frame, VX_DROP_fragment_limit);
	write(key, VX_FRAGMENT_DECIDED, exception.new_destination_be, BPF_ANY, now_ns);
	forward_(frame, now_ns);
	for (const Frame &held : holder_.release(key))
		translate_and_forward(held, exception.new_destination_be, now_ns);
}

void Fragments::later(const vx_exception &exception, Frame frame, uint64_t now_ns)
{
	const vx_fragment_key key = key_of(exception, frame);
	const vx_fragment entry = look_up(key, now_ns);
	if (entry.state == VX_FRAGMENT_DROPPED)
		return sender_.drop(frame, VX_DROP_fragment_limit);
	if (entry.state == VX_FRAGMENT_DECIDED) {
		// Decided while this one was on its way here.
		return translate_and_forward(frame, entry.address_be, now_ns);
	}
	if (entry.state == kUnknown)
		write(key, VX_FRAGMENT_HELD, 0, BPF_NOEXIST, now_ns);
	give_up(holder_.hold(key, frame, now_ns), now_ns);
}

void Fragments::give_up(const std::vector<HeldDatagram> &datagrams, uint64_t now_ns)
{
	for (const HeldDatagram &datagram : datagrams) {
		write(datagram.key, VX_FRAGMENT_DROPPED, 0, BPF_ANY, now_ns);
		for (const Frame &frame : datagram.frames)
			sender_.drop(frame, VX_DROP_fragment_limit);
	}
}

void Fragments::tick(uint64_t now_ns)
{
	give_up(holder_.expire(now_ns), now_ns);
	sweep_map(now_ns);
}

void Fragments::stop(uint64_t now_ns)
{
	give_up(holder_.expire(UINT64_MAX), now_ns);
}

// One system call while the map is empty.
void Fragments::sweep_map(uint64_t now_ns)
{
	vx_fragment_key any;
	if (bpf_map_get_next_key(config_.fragments_fd, nullptr, &any))
		return;
	std::vector<vx_fragment_key> keys(kSweepBatch), expired;
	std::vector<vx_fragment> values(kSweepBatch);
	uint32_t at = 0;
	bool more = true;
	for (bool begun = false; more; begun = true) {
		uint32_t count = kSweepBatch;
		more = !bpf_map_lookup_batch(config_.fragments_fd, begun ? &at : nullptr, &at, keys.data(), values.data(),
					     &count, nullptr);
		for (uint32_t i = 0; i < count; i++)
			if (values[i].expires_ns <= now_ns)
				expired.push_back(keys[i]);
	}
	for (const vx_fragment_key &key : expired) {
		// XDP may have taken the key for a new datagram in between: then it goes back.
		vx_fragment value{};
		if (!bpf_map_lookup_and_delete_elem(config_.fragments_fd, &key, &value) && value.expires_ns > now_ns)
			bpf_map_update_elem(config_.fragments_fd, &key, &value, BPF_NOEXIST);
	}
}

}  // namespace vx
