// The gateway without a host: frames go in with their times, through the programs (program.h) and what the worker does
// beside them, and come out. Deterministic: the time of a packet is the clock, and nothing else is asked.
//
// The host it plays: VTEP 192.0.2.1 (or inside.vxlan.local), MACs 02:00:00:00:00:01 inside and :02 outside, MTUs of 1500
// and a default route to a next hop with MAC :03. Used by the addon's replay function and the fuzzer, on their thread; the
// programs' state is global, so one replay runs at a time in a process.
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
#include "replay_nat.h"
#include "replay_sender.h"

namespace vx {

struct ReplayPlan {
	DatapathPlan datapath;  // interfaces and pins are not looked at
	std::optional<AllowlistTables> allowlist;
	std::vector<Rule> rules;
};

class Replay {
public:
	// `emit` takes each frame that leaves, in order, with the time of the packet that made it leave, or its own where none
	// did. Waits for a replay that runs.
	static Result<std::unique_ptr<Replay>> open(const ReplayPlan &plan, ReplaySender::Emit emit);

	// A frame arrives. Time that runs backwards stands still for what waits.
	void receive(vx_direction from, uint64_t time_ns, std::span<const uint8_t> frame);
	// Nothing more comes: what waits is dropped.
	void finish();
	// VX_SLOTS_MAX slots, as stats_map has them.
	std::span<const uint8_t> counters();

private:
	Replay(const ReplayPlan &plan, ReplaySender::Emit emit);

	std::unique_lock<std::mutex> only_one_;
	HostMaps maps_;
	ReplaySender sender_;
	const HeldChanges changes_;
	uint8_t next_hop_mac_[6];
	const bool fixed_next_hop_;
	std::unique_ptr<ReplayNat> nat_;  // nullptr: none
	std::vector<uint8_t> buffer_;
	uint64_t now_ns_ = 0, next_tick_ns_ = 0;

	// What stands in for the worker: frames that wait, by their place in `waiting_`.
	FragmentHolder holder_;
	std::vector<std::vector<uint8_t>> waiting_;
	std::vector<uint64_t> free_places_;

	void set_host(const DatapathPlan &plan);
	Result<void> set_nat(const DatapathPlan &plan);
	void set_filters(const DatapathPlan &plan);
	void set_allowlist(const std::optional<AllowlistTables> &tables);
	void set_rules(const std::vector<Rule> &rules);

	vx_slot &slot(uint32_t index);
	vx_slot &worker() { return slot(VX_CPUS_MAX); }
	HostHash &fates() { return maps_.get<HostHash>("fragments"); }

	static FragmentHolder::Limits held_limits();
	void forget_fates();
	void wait_until(uint64_t now_ns);
	void take_exception(const vx_exception &exception, std::span<uint8_t> frame);
	void first(const vx_exception &exception, std::span<uint8_t> frame);
	void later(const vx_exception &exception, std::span<uint8_t> frame);
	bool find_next_hop(const uint8_t *frame, uint8_t mac[6]);
	void send(std::span<uint8_t> frame);
	void send_held(std::span<uint8_t> frame, uint32_t address_be);
	void give_up(const std::vector<HeldDatagram> &datagrams);
	void write_fate(const vx_fragment_key &key, vx_fragment_state state, uint32_t address_be, uint64_t flags);
};

}  // namespace vx
