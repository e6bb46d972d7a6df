// The gateway: the programs in the kernel and the workers beside them, started and stopped in the order that loses
// nothing. Made by the addon (native/addon) on Node's main thread.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "../io/datapath.h"
#include "../io/kept_off.h"
#include "../io/ring_reader.h"
#include "../io/trial.h"
#include "nat.h"
#include "workers.h"

namespace vx {

struct WorkersPlan {
	std::vector<int> cpus;  // of each
	uint32_t batch = 64;
	bool busy = false;
	int priority = 0;
};

// As many as the interface has.
struct Queues {
	uint32_t receive = 1, transmit = 1;
};

class Gateway {
public:
	static Result<std::unique_ptr<Gateway>> open(const DatapathPlan &datapath, const WorkersPlan &workers,
						     Queues inside, Queues outside);
	Datapath &datapath() { return *datapath_; }
	// Attaches the outside program and tries by which ways frames leave; before attach().
	Result<Trial> try_outside();
	// The workers first, so that routes and neighbours are known to the first packet.
	Result<Attached> attach();
	// Takes the inside program off, lets the workers finish, copies the final counters into `into`, removes the rest.
	void stop(std::span<uint8_t> into);
	std::vector<WorkerEvent> drain_events();
	// Drop samples since the last call. Has XDP and the workers take up to `most` of a reason each until the next call;
	// 0: nobody watches any more.
	std::vector<vx_sample> drain_samples(uint32_t most);
	WorkerSnapshot snapshot();
	// nullptr: no source NAT. As long as the gateway itself, also when the workers are stopped.
	Nat *nat() { return nat_.get(); }

private:
	Gateway() = default;
	Result<void> make_nat();
	DatapathPlan plan_;
	WorkersPlan workers_plan_;
	Queues inside_, outside_;
	// Destroyed in reverse: the workers use the maps.
	std::unique_ptr<Datapath> datapath_;
	std::unique_ptr<Nat> nat_;
	std::optional<KeptOff> kept_off_;
	std::unique_ptr<Workers> workers_;
	std::optional<RingReader> sample_ring_;
	std::vector<vx_sample> samples_;
	uint32_t sample_round_ = 0;
};

}  // namespace vx
