// The worker: one pinned native thread that sends what XDP does not: exceptions, or, in the datapaths afxdp and
// ringbuf, everything.
//
// Made, started and stopped by the gateway object (native/addon) on Node's main thread; everything else in the
// class runs on the worker's own thread. It owns the routes, the neighbours and the packets that wait for them,
// so none of that needs a lock: XDP reads what it writes into BPF maps.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../../bpf/abi/abi.h"
#include "../io/result.h"

namespace vx {

struct ExceptionWorkerConfig {
	int inside_ifindex;
	int outside_ifindex;
	uint32_t inside_queues;       // sockets are bound to inside queues [0, inside_queues)
	vx_hand_over hand_over;       // what comes here, and how
	int umem_fd;                  // ARRAY of vx_chunk, umem_chunks() of them
	int inject_fd;                // the outside program; -1: AF_XDP sends everything
	vx_injection *injection;      // mapped .bss of that program
	int cpu;                      // pinned to it
	uint32_t batch;               // most packets received from a socket at once
	bool busy;                    // spin instead of poll(2)
	bool follow_routes;           // false: one fixed next hop, `fixed_mac`; routes are mirrored all the same
	uint8_t fixed_mac[6];
	bool clear_dont_fragment;     // done by XDP to every other packet; held fragments come here as they were
	bool decrement_ttl;           // likewise
	int xsks_fd;                  // XSKMAP, queue -> socket
	int routes4_fd, routes6_fd;   // LPM_TRIE vx_prefix4/vx_prefix6 -> vx_route
	int neighbours_fd;            // HASH vx_addr -> vx_neighbour (IPv4 mapped)
	int interface_fd;             // interface_map, ARRAY vx_direction -> vx_interface
	int fragments_fd;             // HASH vx_fragment_key -> vx_fragment
	int exception_rings_fd;       // percpu_ringbufs: ARRAY_OF_MAPS cpu -> RINGBUF of vx_exception + frame
	vx_control *control;          // mapped .bss of the programs; the worker only bumps `generation`, atomically
	vx_slot *slot;                // this worker's slot of stats_map, mapped
};

// Chunks of UMEM a worker needs.
uint32_t umem_chunks(uint32_t inside_queues, vx_hand_over hand_over);

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
	bool alive;
	bool inside_carrier, outside_carrier;
	uint32_t outside_mtu;
	uint32_t waiting;  // packets held for a neighbour or a first fragment
	uint32_t routes;
	std::vector<NextHopView> next_hops;
};

class ExceptionWorker {
public:
	// Opens sockets and UMEM, reads links, routes and neighbours, fills the maps, then starts the thread.
	// When it returns, XDP can decide about every destination that is known to the kernel.
	static Result<std::unique_ptr<ExceptionWorker>> start(const ExceptionWorkerConfig &config);
	// Sends or drops (counted) what waits, removes the neighbour entries that this worker asked the kernel to
	// manage, joins the thread.
	~ExceptionWorker();

	std::vector<WorkerEvent> drain_events();
	// Of the packets it dropped while somebody watched (vx_control).
	std::vector<vx_sample> drain_samples();
	WorkerSnapshot snapshot();

private:
	struct State;
	explicit ExceptionWorker(std::unique_ptr<State> state);
	std::unique_ptr<State> state_;
};

}  // namespace vx
