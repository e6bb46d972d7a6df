// Fragments of packets with a static rule: later ones that came first wait here for the first one, whose ports
// decide. Used by worker 0 on its thread.
//
// XDP and this worker agree through the map `fragments`. A datagram is decided once: by its first fragment
// (DECIDED: all of it is translated alike) or by giving up (DROPPED: all of it is dropped), never by halves.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "../core/fragment_holder.h"
#include "sender.h"

namespace vx {

class Fragments {
public:
	// `forward` takes a translated packet.
	using Forward = std::function<void(Frame frame, uint64_t now_ns)>;

	Fragments(Frames &frames, Sender &sender, const WorkersConfig &config, Forward forward);

	void first(const vx_exception &exception, Frame frame, uint64_t now_ns);
	void later(const vx_exception &exception, Frame frame, uint64_t now_ns);
	// Once a second: gives up on what waited too long and removes expired entries from the map.
	void tick(uint64_t now_ns);
	// Drops what waits.
	void stop(uint64_t now_ns);
	uint32_t waiting() const { return static_cast<uint32_t>(holder_.frames()); }

private:
	Frames &frames_;
	Sender &sender_;
	const WorkersConfig &config_;
	Forward forward_;
	FragmentHolder holder_;

	vx_fragment_key key_of(const vx_exception &exception, Frame frame);
	vx_fragment look_up(const vx_fragment_key &key, uint64_t now_ns);
	void write(const vx_fragment_key &key, vx_fragment_state state, uint32_t address_be, uint64_t flags,
		   uint64_t now_ns);
	void give_up(const std::vector<HeldDatagram> &datagrams, uint64_t now_ns);
	void translate_and_forward(Frame frame, uint32_t address_be, uint64_t now_ns);
	void sweep_map(uint64_t now_ns);
};

}  // namespace vx
