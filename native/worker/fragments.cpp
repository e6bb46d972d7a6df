// Holds later fragments until their first one. Runs on the exception worker's thread.
#include "fragments.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>

#include <cstring>
#include <utility>

#include "../core/checksum.h"

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

// Shorter than XDP's memory of the datagram by more than a tick: were XDP to forget first, a first fragment would
// pass there while later ones are dropped here.
constexpr uint64_t kHoldNs = VX_FRAGMENT_TIMEOUT_NS - 2000000000;

constexpr uint8_t kUnknown = 0xff;

}  // namespace

Fragments::Fragments(Umem &umem, Sender &sender, const ExceptionWorkerConfig &config, Forward forward)
	: umem_(umem), sender_(sender), config_(config), forward_(std::move(forward)),
	  holder_(FragmentHolder::Limits{.timeout_ns = kHoldNs})
{
}

vx_fragment_key Fragments::key_of(const vx_exception &exception, Frame frame)
{
	Ipv4Header header;
	memcpy(&header, umem_.at(frame.address) + kEthernetBytes, sizeof header);
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

// What XDP does to every other packet; a fragment that had to wait comes as it was.
void Fragments::translate_and_forward(Frame frame, uint32_t address_be, uint64_t now_ns)
{
	uint8_t *ip = umem_.at(frame.address) + kEthernetBytes;
	Ipv4Header header;
	memcpy(&header, ip, sizeof header);
	if (config_.decrement_ttl) {
		if (header.ttl <= 1)
			return sender_.drop(frame, VX_DROP_ttl_expired);
		header.checksum = checksum_after_change(header.checksum, header.ttl, header.ttl - 1u);
		header.ttl--;
	}
	if (config_.clear_dont_fragment) {
		const uint16_t cleared = header.flags_be & static_cast<uint16_t>(~htons(0x4000));
		header.checksum = checksum_after_change(header.checksum, header.flags_be, cleared);
		header.flags_be = cleared;
	}
	if (address_be) {
		header.checksum = checksum_after_change(header.checksum, header.destination_be, address_be);
		header.destination_be = address_be;
		config_.slot->direction[VX_INSIDE].translated++;
	}
	memcpy(ip, &header, sizeof header);
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
