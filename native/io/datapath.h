// The XDP programs and their maps as one object: loaded, filled, attached, pinned, taken over, detached.
//
// Made by the gateway (native/worker/gateway.h) on Node's main thread; what fills tables runs on a thread of libuv's
// pool, one call at a time. After a kill -9 the programs stay attached through their pinned links and go on
// forwarding; the next daemon swaps its own programs in without a gap.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "../../bpf/abi/abi.h"
#include "fd.h"
#include "injector.h"
#include "result.h"
#include "source_nat.h"

struct datapath;  // skeleton

namespace vx {

struct DatapathPlan {
	int inside_ifindex = 0;
	int outside_ifindex = 0;
	std::string pin_directory;
	vx_hand_over hand_over = VX_HAND_OVER_EXCEPTIONS;
	Injection injection = Injection::many;  // out of the outside interface
	bool inside_generic = false, outside_generic = false;  // not with native XDP
	uint32_t umem_chunks = 1;
	uint32_t workers = 1;
	uint32_t inside_queues = 1;  // that get sockets; none where all goes by ring
	bool plain_ethernet = false;
	uint16_t vxlan_port = 0;
	std::optional<vx_addr> local;
	std::optional<std::vector<uint32_t>> vni_ranges;   // from, to, from, to, ...
	std::optional<std::vector<vx_prefix6>> peers;
	bool match_source = false;
	bool match_destination = false;
	std::optional<std::vector<uint8_t>> next_hop_mac;  // 6 bytes
	bool clear_dont_fragment = false;
	bool forward_ipv6 = false;
	bool decrement_ttl = false;
	std::optional<SourceNat> source_nat;
	uint32_t outside_sockets = 0;  // outside queues that get sockets: with source NAT
	uint32_t inside_lanes = 1, outside_lanes = 1;  // receive queues with rings of their own

	// Whether workers inject at all: where XDP sends, only what AF_XDP TX would lose.
	bool injects() const { return hand_over != VX_HAND_OVER_EXCEPTIONS || injection == Injection::always; }
};

// Keys as the kernel wants them (native/index.d.ts: CompiledAllowlist).
struct AllowlistTables {
	std::vector<uint8_t> exact4, exact6, prefix4, prefix6;
};

// One of the tables in use.
struct AllowlistTable {
	Fd fd;
	size_t count = 0;
};

struct Rule {
	vx_rule_key key;
	vx_rule value;
};

using CrashLost = std::array<uint64_t, VX_DIRECTIONS>;

struct Attached {
	bool took_over = false;
	std::optional<CrashLost> crash_lost;  // nullopt: no counters are left, or another build's
};

class Datapath {
public:
	static Result<std::unique_ptr<Datapath>> open(const DatapathPlan &plan);
	~Datapath();

	// nullptr: everything is allowed. The new list is complete before one store puts it in force.
	Result<void> set_allowlist(const AllowlistTables *tables);
	// Changes the list in force, of which `added` has nothing and `removed` is a part. An error: nothing has changed
	// (the tables had no room left, most likely), and the list has to be set as a whole.
	Result<void> edit_allowlist(const AllowlistTables &added, const AllowlistTables &removed);
	// Of what the programs were loaded with; what was "any" stays "any".
	Result<void> set_filters(const std::optional<std::vector<uint32_t>> &vni_ranges,
				 const std::optional<std::vector<vx_prefix6>> &peers);
	Result<void> set_rules(std::span<const Rule> rules);
	// Source NAT's addresses, before anything is attached: the i-th of them is number i of nat::PortBlocks and of
	// port_owners().
	Result<void> set_pool(const PoolTables &tables);
	// Attaches or takes over the outside program, once: attach() does what is left.
	Result<void> attach_outside();
	// Attaches or takes over. interface_map must have been filled.
	Result<Attached> attach();
	// Counts the redirected packets that no tracepoint reported (bpf/losses.bpf.c). Any thread; changes the CPUs the
	// caller may run on while it lasts.
	void settle();
	// Takes the inside program off and has the outside one leave everything to the kernel, waits until the kernel is
	// done with every packet they had redirected, and settles.
	void stop_receiving();
	// The rest, and the pins.
	void remove();
	bool attached() const;

	vx_slot *slots() { return slots_; }
	static constexpr size_t slots_bytes() { return sizeof(vx_slot) * VX_SLOTS_MAX; }
	vx_control *control();
	// One a CPU, injection_lanes() of them.
	vx_injection *injections() { return injections_; }
	uint32_t injection_lanes() const { return injection_lanes_; }
	// Written by the workers, nat::PortBlocks::addresses_most() of them; empty without source NAT.
	std::span<vx_port_owners> port_owners() { return port_owners_; }
	int inside_program_fd() const;
	int outside_program_fd() const;
	int map_fd(const char *name) const;
	// Inside percpu_ringbufs, by receive queue * workers + worker; first the inside interface's.
	std::vector<int> exception_rings() const;

private:
	Datapath() = default;
	Result<void> claim(const DatapathPlan &plan);
	Result<void> load(const DatapathPlan &plan);
	Result<void> fill_filters(const DatapathPlan &plan);
	Result<void> make_exception_rings(const DatapathPlan &plan);
	void set_knobs(const DatapathPlan &plan);
	void size_maps(const DatapathPlan &plan, uint32_t cpus);
	Result<void> map_memory();
	void clear_pool();
	Result<int> attach_xdp(int prog_fd, int ifindex, bool generic, const char *pin, Fd *link, bool *took_over);
	Result<void> attach_tracepoint(int prog_fd, Fd *link);
	Result<void> pin_everything();
	Result<void> adopt_predecessor();
	Fd open_old_array(const char *name, size_t value_bytes, uint32_t entries) const;
	std::optional<CrashLost> settle_predecessor();
	void settle_slot(vx_slot &slot, uint64_t count);
	void bump_generation();
	void swap_allowlist(uint32_t selector);
	uint32_t selector_of(uint32_t set) const;
	std::string pin(const char *name) const { return pin_directory_ + "/" + name; }

	struct datapath *skeleton_ = nullptr;
	std::string pin_directory_;
	int inside_ifindex_ = 0, outside_ifindex_ = 0;
	bool inside_generic_ = false, outside_generic_ = false;
	vx_slot *slots_ = nullptr;
	vx_injection *injections_ = nullptr;
	uint32_t injection_lanes_ = 0;
	std::span<vx_port_owners> port_owners_;
	std::vector<Fd> exception_rings_;
	Fd inside_claim_, outside_claim_, ingress_, egress_, devmap_xmit_, redirect_err_;
	Fd old_stats_, old_devmap_xmit_, old_redirect_err_;
	std::array<AllowlistTable, 4> allowlist_;  // in force; empty: everything is allowed
	std::vector<uint64_t> vnis_;               // vni_set's words
	bool pinned_ = false;
	std::mutex settling_;
	std::atomic<bool> receiving_ = false;
};

// A stats_map; nullptr: errno says why.
vx_slot *map_slots_of(int map_fd, int protection);

// Returns once every CPU has left the softirq it may have been in: synchronize_rcu() for user space.
void wait_for_softirqs();

}  // namespace vx
