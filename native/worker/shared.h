// What the workers share: the frames, the queues' rings, how the links are. Made on the starting thread, outlives every
// worker.
#pragma once

#include <memory>
#include <vector>

#include "../io/umem.h"
#include "../io/xsk.h"
#include "event_queue.h"
#include "links.h"
#include "tables.h"
#include "workers.h"

namespace vx {

struct Shared {
	Shared(const WorkersConfig &wanted, std::unique_ptr<Umem> frames);

	const WorkersConfig config;
	EventQueue events;
	const std::unique_ptr<Umem> umem;
	Tables tables;         // worker 0's
	Links links;           // written by worker 0
	int umem_socket = -1;  // that has the UMEM, for the others to name

	// What is bound to, and the parts of it: each interface's queues that are received from, and those that are sent by.
	std::vector<std::unique_ptr<QueueRings>> rings[VX_DIRECTIONS];
	std::vector<std::unique_ptr<RxQueue>> receive[VX_DIRECTIONS];
	std::vector<std::unique_ptr<TxQueue>> transmit[VX_DIRECTIONS];
	std::atomic<uint32_t> receiving;  // workers that have not begun to end

	// Every frame in exactly one place, once no worker runs; `own` are the workers' free ones and those they hold.
	void check_frames(uint32_t own) const;
	TxQueue &transmit_of(vx_direction to, int cpu) { return *transmit[to][transmit_queue_of(cpu, transmit[to].size())]; }

private:
	void make_queues(vx_direction direction, uint32_t received, uint32_t sent);
};

}  // namespace vx
