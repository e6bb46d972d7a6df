// See gateway.h.
#include "gateway.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "../core/translation.h"
#include "../io/numa.h"
#include "../io/region.h"
#include "packet_memory.h"

namespace vx {
namespace {

constexpr uint64_t kMebibyte = 1 << 20;

// Asked for beforehand: a host that runs out of memory ends some process, and not the one that took it.
Result<void> check(const PacketMemory &memory)
{
	const uint64_t needed = memory.bytes(), available = memory_available();
	const std::string what = std::to_string(memory.workers) + " workers on " +
				 std::to_string(memory.inside_queues + memory.outside_rx_queues) + " receive queues need " +
				 std::to_string(needed / kMebibyte) + " MiB for packets, ";
	if (memory.frames() > kFramesMax)
		return Error{"PACKET_MEMORY", "make packet memory", 0,
			     what + "of which " + std::to_string(kFramesMax * VX_FRAME_BYTES / kMebibyte) +
				     " MiB of frames are the most there can be"};
	if (needed > available)
		return Error{"PACKET_MEMORY", "make packet memory", 0,
			     what + "and this host has " + std::to_string(available / kMebibyte) + " MiB left"};
	return {};
}

}  // namespace

Result<std::unique_ptr<Gateway>> Gateway::open(const DatapathPlan &datapath, const WorkersPlan &workers,
					       Queues inside, Queues outside)
{
	std::unique_ptr<Gateway> self(new Gateway);
	self->plan_ = datapath;
	self->workers_plan_ = workers;
	self->inside_ = inside;
	self->outside_ = outside;
	self->plan_.workers = static_cast<uint32_t>(workers.cpus.size());
	if (!self->plan_.workers || self->plan_.workers > VX_WORKERS_MAX)
		return Error{"WORKER_FAILED", "count workers", EINVAL, std::to_string(self->plan_.workers)};
	// What comes by ring buffer needs no socket, and works where none can be bound.
	const bool by_socket = datapath.hand_over != VX_HAND_OVER_RINGS;
	self->plan_.inside_queues = by_socket ? std::min<uint32_t>(inside.receive, VX_QUEUES_MAX) : 0;
	self->plan_.inside_lanes = std::min<uint32_t>(inside.receive, VX_QUEUES_MAX);
	self->plan_.outside_lanes = datapath.source_nat ? std::min<uint32_t>(outside.receive, VX_QUEUES_MAX) : 0;
	if (datapath.source_nat && datapath.hand_over == VX_HAND_OVER_SOCKETS)
		self->plan_.outside_sockets = std::min<uint32_t>(outside.receive, VX_QUEUES_MAX);
	const PacketMemory memory{.workers = self->plan_.workers,
				  .hand_over = datapath.hand_over,
				  .inside_queues = self->plan_.inside_queues,
				  .outside_rx_queues = self->plan_.outside_sockets,
				  .inside_tx_queues = datapath.source_nat ? inside.transmit : 0,
				  .outside_queues = outside.transmit};
	if (auto enough = check(memory); !enough)
		return enough.error();
	self->plan_.umem_chunks = memory.frames();
	const PreferNodeOf near(workers.cpus.front());
	auto opened = Datapath::open(self->plan_);
	if (!opened)
		return opened.error();
	self->datapath_ = std::move(*opened);
	if (auto made = self->make_nat(); !made)
		return made.error();
	auto ring = RingReader::open(self->datapath_->map_fd("packet_ringbuf"),
				     [gateway = self.get()](const uint8_t *bytes, size_t length) {
					     vx_sample &sample = gateway->samples_.emplace_back();
					     memcpy(&sample, bytes, std::min(length, sizeof sample));
				     });
	if (!ring)
		return ring.error();
	self->sample_ring_ = std::move(*ring);
	return self;
}

Result<void> Gateway::make_nat()
{
	if (!plan_.source_nat)
		return {};
	auto made = Nat::make(*plan_.source_nat, workers_plan_.cpus, datapath_->port_owners());
	if (!made)
		return made.error();
	nat_ = std::move(*made);
	return datapath_->set_pool(pool_tables(*plan_.source_nat, nat_->blocks()));
}

Result<Trial> Gateway::try_outside()
{
	if (auto done = datapath_->attach_outside(); !done)
		return done.error();
	const uint32_t queue = transmit_queue_of(workers_plan_.cpus.front(), std::max(outside_.transmit, 1u));
	auto trial = try_ways_out(plan_.outside_ifindex, datapath_->map_fd("umem"), queue);
	if (trial)
		datapath_->slots()[VX_CONTROL_SLOT].direction[VX_INSIDE].originated += trial->frames;
	return trial;
}

Result<Attached> Gateway::attach()
{
	WorkersConfig config{};

	config.cpus = workers_plan_.cpus;
	config.inside_ifindex = plan_.inside_ifindex;
	config.outside_ifindex = plan_.outside_ifindex;
	config.inside_queues = plan_.inside_queues;
	config.outside_queues = outside_.transmit;
	if (nat_) {
		config.outside_rx_queues = plan_.outside_sockets;
		config.inside_tx_queues = inside_.transmit;
		config.nat = nat_.get();
		config.tunnel_host.vxlan = !plan_.plain_ethernet;
		config.tunnel_host.port = plan_.vxlan_port;
		if (plan_.local)
			config.tunnel_host.local = *plan_.local;
	}
	config.hand_over = plan_.hand_over;
	config.umem_fd = datapath_->map_fd("umem");
	config.inject_fd = plan_.injects() ? datapath_->outside_program_fd() : -1;
	config.injection[VX_INSIDE] = plan_.inside_generic ? Injection::never : Injection::many;
	config.injection[VX_OUTSIDE] = plan_.outside_generic ? Injection::never : plan_.injection;
	config.injections = {datapath_->injections(), datapath_->injection_lanes()};
	config.batch = workers_plan_.batch;
	config.busy = workers_plan_.busy;
	config.priority = workers_plan_.priority;
	config.follow_routes = !plan_.next_hop_mac;
	if (plan_.next_hop_mac)
		memcpy(config.fixed_mac, plan_.next_hop_mac->data(), sizeof(config.fixed_mac));
	config.clear_dont_fragment = plan_.clear_dont_fragment;
	config.decrement_ttl = plan_.decrement_ttl;
	config.xsks_fd = datapath_->map_fd("worker_sockets");
	config.routes4_fd = datapath_->map_fd("routes4");
	config.routes6_fd = datapath_->map_fd("routes6");
	config.neighbours_fd = datapath_->map_fd("neighbours");
	config.interface_fd = datapath_->map_fd("interface_map");
	config.fragments_fd = datapath_->map_fd("fragments");
	config.exception_rings = datapath_->exception_rings();
	config.control = datapath_->control();
	config.slots = &datapath_->slots()[VX_CPUS_MAX];
	if (plan_.hand_over != VX_HAND_OVER_EXCEPTIONS)
		kept_off_.emplace(config.cpus);
	auto started = Workers::start(config);
	if (!started)
		return started.error();
	workers_ = std::move(*started);
	auto attached = datapath_->attach();
	if (!attached) {
		// It may have got as far as receiving: nobody hands anything to workers that are gone.
		datapath_->stop_receiving();
		workers_.reset();
	}
	return attached;
}

void Gateway::stop(std::span<uint8_t> into)
{
	datapath_->stop_receiving();
	workers_.reset();
	kept_off_.reset();
	memcpy(into.data(), datapath_->slots(), std::min(into.size(), Datapath::slots_bytes()));
	datapath_->remove();
}

std::vector<vx_sample> Gateway::drain_samples(uint32_t most)
{
	sample_ring_->consume(VX_RING_BYTES / sizeof(vx_sample));
	if (workers_)
		for (const vx_sample &sample : workers_->drain_samples())
			samples_.push_back(sample);
	sample_round_ = most ? std::max(sample_round_ + 1, 1u) : 0;
	vx_control *control = datapath_->control();
	__atomic_store_n(&control->sample_most, most, __ATOMIC_RELAXED);
	__atomic_store_n(&control->sample_round, sample_round_, __ATOMIC_RELEASE);
	return std::exchange(samples_, {});
}

std::vector<WorkerEvent> Gateway::drain_events()
{
	return workers_ ? workers_->drain_events() : std::vector<WorkerEvent>{};
}

WorkerSnapshot Gateway::snapshot()
{
	return workers_ ? workers_->snapshot() : WorkerSnapshot{};
}

}  // namespace vx
