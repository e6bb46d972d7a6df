// The exception worker's loop, the part that opens what it needs of the kernel and follows its announcements.
// open() runs on the starting thread, the rest on the worker's.
#include <bpf/bpf.h>
#include <linux/rtnetlink.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>

#include "loop.h"

namespace vx {
namespace {

// What can be held (1,024 for neighbours, 1,024 fragments), queued to leave (1,024) and lent to the receive queues.
constexpr uint32_t kHeldFrames = 3072;
// The queues go through all they are lent in turn: more would bridge a longer pause of the worker, but fall out of the
// cores' caches and page tables, which costs more of the rate than the packet itself (docs/PERFORMANCE.md).
constexpr uint32_t kReceiveFrames = 1024, kReceiveAllFrames = 2048;
constexpr uint32_t kReceiveFramesMin = 128, kReceiveAllFramesMin = 1024;

uint32_t receive_share(uint32_t queues, vx_hand_over hand_over)
{
	const bool all = hand_over == VX_HAND_OVER_SOCKETS;
	return std::max((all ? kReceiveAllFrames : kReceiveFrames) / std::max(queues, 1u),
			all ? kReceiveAllFramesMin : kReceiveFramesMin);
}

}  // namespace

uint32_t umem_chunks(uint32_t inside_queues, vx_hand_over hand_over)
{
	// With everything by socket as many again as are lent: the queues need frames while a turn's are being sent.
	const uint32_t times = hand_over == VX_HAND_OVER_SOCKETS ? 2 : 1;
	return kHeldFrames + times * inside_queues * receive_share(inside_queues, hand_over);
}

Loop::Loop(const ExceptionWorkerConfig &config, Umem umem, EventQueue &events)
	: config_(config), events_(events), umem_(std::move(umem)), tables_(config.control),
	  links_(static_cast<uint32_t>(config.inside_ifindex), static_cast<uint32_t>(config.outside_ifindex),
		 config.interface_fd, tables_, events),
	  sender_(umem_, transmitter_, Injector(config.inject_fd, config.injection, &config.slot->direction[VX_INSIDE]),
		  links_, requests_, config.slot->direction[VX_INSIDE], events,
		  Sampler(*config.control, *config.slot, events)),
	  routes_(static_cast<uint32_t>(config.outside_ifindex), config.routes4_fd, config.routes6_fd, tables_, events),
	  neighbours_(links_, config.neighbours_fd, requests_, sender_, tables_, events),
	  fragments_(umem_, sender_, config_, [this](Frame frame, uint64_t) { forward(frame); })
{
	neighbours_.set_drain([this] { receive_all(); });
}

Result<std::unique_ptr<Loop>> Loop::open(const ExceptionWorkerConfig &config, EventQueue &events)
{
	auto umem = Umem::map(config.umem_fd);
	if (!umem)
		return umem.error();
	std::unique_ptr<Loop> self(new Loop(config, std::move(*umem), events));
	self->stop_fd_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (!self->stop_fd_)
		return Error{"WORKER_FAILED", "eventfd", errno, ""};
	// Announcements first: what changes while the tables are read is then not missed.
	auto announcements = Netlink::open({RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
					    RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_IPV4_IFADDR});
	auto reads = Netlink::open({});
	auto requests = Netlink::open({});
	for (auto *one : {&announcements, &reads, &requests})
		if (!*one)
			return one->error();
	self->announcements_ = std::move(*announcements);
	self->reads_ = std::move(*reads);
	self->requests_ = std::move(*requests);
	if (auto done = self->read_kernel(0); !done)
		return done.error();
	if (!self->links_.outside().exists || !self->links_.inside().exists)
		return Error{"WORKER_FAILED", "RTM_GETLINK", ENODEV, "an interface is gone"};
	self->tables_.publish();
	if (auto done = self->open_sockets(); !done)
		return done.error();
	if (auto done = self->open_rings(); !done)
		return done.error();
	for (const int fd : {self->stop_fd_.get(), self->announcements_.fd(), self->exceptions_->fd()})
		self->polled_.push_back({fd, POLLIN, 0});
	for (const XskReceiver &receiver : self->receivers_)
		self->polled_.push_back({receiver.fd(), POLLIN, 0});
	self->publish_snapshot(true);
	return self;
}

Result<void> Loop::open_sockets()
{
	int shared_fd = -1;
	receivers_.reserve(config_.inside_queues);
	for (uint32_t queue = 0; queue < config_.inside_queues; queue++) {
		auto receiver = XskReceiver::open(umem_, links_.inside().ifindex, queue,
						  receive_share(config_.inside_queues, config_.hand_over), shared_fd);
		if (!receiver)
			return receiver.error();
		receivers_.push_back(std::move(*receiver));
		shared_fd = receivers_.front().fd();
		receivers_.back().refill(umem_);
	}
	auto transmitter = XskTransmitter::open(links_.outside().ifindex, shared_fd);
	if (!transmitter)
		return transmitter.error();
	transmitter_ = std::move(*transmitter);
	// Last, so that a packet that gets in can also get out.
	for (uint32_t queue = 0; queue < config_.inside_queues; queue++) {
		const int fd = receivers_[queue].fd();
		if (bpf_map_update_elem(config_.xsks_fd, &queue, &fd, BPF_ANY))
			return Error{"WORKER_FAILED", "XSKMAP update", errno, "queue " + std::to_string(queue)};
	}
	return {};
}

Result<void> Loop::open_rings()
{
	auto exceptions = RingReader::open(config_.exception_rings_fd, [this](const uint8_t *bytes, size_t length) {
		handle_ring_record(bytes, length);
	});
	if (!exceptions)
		return exceptions.error();
	exceptions_ = std::move(*exceptions);
	return {};
}

Result<void> Loop::read_kernel(uint64_t now_ns)
{
	if (auto done = links_.read(reads_, now_ns); !done)
		return done;
	if (auto done = routes_.read(reads_, now_ns); !done)
		return done;
	if (auto done = routes_.read_rules(reads_, now_ns); !done)
		return done;
	return config_.follow_routes ? neighbours_.read(reads_, now_ns) : Result<void>();
}

void Loop::follow()
{
	if (announcements_.receive([this](NetlinkBytes bytes) { dispatch(bytes); }) == ENOBUFS)
		announcements_lost_ = true;
	catch_up();
	tables_.publish();
}

void Loop::dispatch(NetlinkBytes bytes)
{
	if (const auto link = parse_link(bytes)) {
		const bool sent = links_.outside_sends();
		links_.apply(*link, now_ns_);
		if (sent && !links_.outside_sends())
			neighbours_.link_down();
		publish_snapshot(true);
		// IPv4 routes that die with a link, and nexthops that come back with it, are not announced.
		return routes_.distrust();
	}
	if (const auto neighbour = parse_neighbour(bytes)) {
		if (config_.follow_routes)
			neighbours_.apply(*neighbour, now_ns_);
		return;
	}
	if (const auto route = parse_route(bytes, links_.outside().ifindex))
		return routes_.apply(*route, now_ns_);
	const uint16_t type = header_of(bytes).nlmsg_type;
	rules_changed_ |= type == RTM_NEWRULE || type == RTM_DELRULE;
	if (type == RTM_DELADDR)
		routes_.distrust();
}

// Full readings that are due. One that fails is due again.
void Loop::catch_up()
{
	if (announcements_lost_) {
		announcements_lost_ = !read_kernel(now_ns_);
	} else if (routes_.wants_reading(now_ns_) && !routes_.read(reads_, now_ns_)) {
		routes_.distrust();
	}
	if (rules_changed_)
		rules_changed_ = !routes_.read_rules(reads_, now_ns_);
}

}  // namespace vx
