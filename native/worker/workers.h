// The workers: pinned native threads that send what XDP does not: exceptions, or, in the datapaths afxdp and ringbuf,
// everything.
//
// Made, started and stopped by the gateway (gateway.h) on Node's main thread. XDP chooses whose a packet is (vx_owner in
// bpf/forward.h): a flow has one worker, so nothing about it is shared. Each worker has a socket at every receive queue
// and a ring for each, and sends by itself. Worker 0 has the exceptions besides: it alone follows the kernel's
// links, routes and neighbours and writes them where XDP reads them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../../bpf/abi/abi.h"
#include "../core/tunnel.h"
#include "../io/injector.h"
#include "../io/result.h"
#include "packet_memory.h"

namespace vx {

class Nat;

struct WorkersConfig {
	std::vector<int> cpus = {0};  // one worker each, pinned to it
	int inside_ifindex;
	int outside_ifindex;
	uint32_t inside_queues;       // sockets are bound to inside queues [0, inside_queues); 0: all comes by ring
	uint32_t outside_queues = 1;  // sent by
	// The way back, with source NAT: outside queues that sockets receive from, inside queues sent by.
	uint32_t outside_rx_queues = 0, inside_tx_queues = 0;
	vx_hand_over hand_over;       // what comes here, and how
	int umem_fd;                  // ARRAY of vx_chunk, memory().frames() of them
	int inject_fd;                // the outside program; -1: AF_XDP sends everything
	// Out of each interface.
	Injection injection[VX_DIRECTIONS] = {Injection::many, Injection::many};
	std::span<vx_injection> injections;  // mapped, by CPU
	uint32_t batch;               // most packets received from a socket at once
	bool busy;                    // spin instead of poll(2)
	int priority = 0;             // of SCHED_FIFO, 1 to 99; 0: scheduled as everybody
	bool follow_routes;           // false: one fixed next hop, `fixed_mac`; routes are mirrored all the same
	uint8_t fixed_mac[6];
	bool clear_dont_fragment;     // done by XDP to every other packet; held fragments come here as they were
	bool decrement_ttl;           // likewise
	int xsks_fd;                  // XSKMAP, queue * workers + worker -> socket
	int routes4_fd, routes6_fd;   // LPM_TRIE vx_prefix4/vx_prefix6 -> vx_route
	int neighbours_fd;            // HASH vx_addr -> vx_neighbour (IPv4 mapped)
	int interface_fd;             // interface_map, ARRAY vx_direction -> vx_interface
	int fragments_fd;             // HASH vx_fragment_key -> vx_fragment
	std::vector<int> exception_rings;  // inside percpu_ringbufs: queue * workers + worker -> RINGBUF of vx_exception + frame
	Nat *nat = nullptr;           // source NAT; nullptr: none
	TunnelHost tunnel_host{};     // then: our end of the tunnels, its MAC aside
	vx_control *control;          // mapped .bss of the programs; worker 0 bumps `generation`, atomically
	vx_slot *slots;               // stats_map, mapped: worker 0's and the following

	uint32_t count() const { return static_cast<uint32_t>(cpus.size()); }
	PacketMemory memory() const
	{
		return {count(), hand_over, inside_queues, outside_rx_queues, inside_tx_queues, outside_queues};
	}
};

// What a worker on that CPU sends by, of an interface's transmit queues: the one its redirected frames use, where the driver
// goes by CPU (as veth does), so that a flow that changes from one to the other keeps its order.
inline uint32_t transmit_queue_of(int cpu, size_t queues)
{
	return static_cast<uint32_t>(static_cast<size_t>(cpu) % queues);
}

struct WorkerEvent {
	std::string event;  // names in native/index.d.ts
	uint64_t time_ns;
	std::string detail;
	uint32_t suppressed = 0;  // not an event itself: so many more of them there were
};

struct NextHopView {
	vx_addr address;
	uint8_t mac[6];
	uint8_t state;  // vx_neighbour_state
};

struct WorkerSnapshot {
	bool alive;  // all of them
	bool inside_carrier, outside_carrier;
	uint32_t outside_mtu;
	uint32_t waiting;  // packets held for a neighbour or a first fragment
	uint32_t routes;
	std::vector<NextHopView> next_hops;
};

class Workers {
public:
	// Opens sockets and UMEM, reads links, routes and neighbours, fills the maps, then starts the threads.
	// When it returns, XDP can decide about every destination that is known to the kernel.
	static Result<std::unique_ptr<Workers>> start(const WorkersConfig &config);
	// Sends or drops (counted) what waits, removes the neighbour entries that worker 0 asked the kernel to
	// manage, joins the threads.
	~Workers();

	std::vector<WorkerEvent> drain_events();
	// Of the packets they dropped while somebody watched (vx_control).
	std::vector<vx_sample> drain_samples();
	WorkerSnapshot snapshot();

private:
	struct State;
	explicit Workers(std::unique_ptr<State> state);
	std::unique_ptr<State> state_;
};

}  // namespace vx
