// The gateway without a host: frames go in with their times, through the inside program (program.h) and what the worker
// does beside it, and come out. Deterministic: the time of a packet is the clock, and nothing else is asked.
//
// The host it plays: VTEP 192.0.2.1 (or inside.vxlan.local), MACs 02:00:00:00:00:01 inside and :02 outside, an outside MTU
// of 1500 and a default route to a next hop with MAC :03. Used by the addon's replay function and the fuzzer, on
// their thread; the program's state is global, so one replay runs at a time in a process.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "../core/fragment_holder.h"
#include "../core/held_fragment.h"
#include "../io/datapath.h"
#include "host_maps.h"
#include "program.h"

namespace vx {

struct ReplayPlan {
	DatapathPlan datapath;  // interfaces and pins are not looked at
	std::optional<AllowlistTables> allowlist;
	std::vector<Rule> rules;
};

class Replay {
public:
	using Emit = std::function<void(std::span<const uint8_t> frame)>;

	// `emit` takes each frame that leaves outside, in order.
	Replay(const ReplayPlan &plan, Emit emit);

	// A frame arrives inside. Time that runs backwards stands still for what waits.
	void receive(uint64_t time_ns, std::span<const uint8_t> frame);
	// Nothing more comes: what waits is dropped.
	void finish();
	// VX_SLOTS_MAX slots, as stats_map has them.
	std::span<const uint8_t> counters();

private:
	std::unique_lock<std::mutex> only_one_;
	Emit emit_;
	HostMaps maps_;
	const HeldChanges changes_;
	vx_interface outside_{};
	uint8_t next_hop_mac_[6];
	const bool fixed_next_hop_;
	std::vector<uint8_t> buffer_;
	uint64_t now_ns_ = 0, next_tick_ns_ = 0;

	// What stands in for the worker: frames that wait, by their place in `waiting_`.
	FragmentHolder holder_;
	std::vector<std::vector<uint8_t>> waiting_;
	std::vector<uint64_t> free_places_;

	void set_host(const DatapathPlan &plan);
	void set_filters(const DatapathPlan &plan);
	void set_allowlist(const std::optional<AllowlistTables> &tables);
	void set_rules(const std::vector<Rule> &rules);

	vx_slot &slot(uint32_t index);
	vx_counters &worker() { return slot(VX_CPUS_MAX).direction[VX_INSIDE]; }
	HostHash &fates() { return maps_.get<HostHash>("fragments"); }

	static FragmentHolder::Limits held_limits();
	void forget_fates();
	void take_exception(const vx_exception &exception, std::span<uint8_t> frame);
	void first(const vx_exception &exception, std::span<uint8_t> frame);
	void later(const vx_exception &exception, std::span<uint8_t> frame);
	void send(std::span<uint8_t> frame);
	void put_ethernet(uint8_t *frame) const;
	void send_fragments(std::span<uint8_t> frame);
	void send_held(std::span<uint8_t> frame, uint32_t address_be);
	void give_up(const std::vector<HeldDatagram> &datagrams);
	void write_fate(const vx_fragment_key &key, vx_fragment_state state, uint32_t address_be, uint64_t flags);
};

}  // namespace vx
