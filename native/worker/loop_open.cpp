// A worker's sockets, rings and senders, before its thread is there: open() and admit(), on the starting thread.
#include "loop.h"

#include <bpf/bpf.h>
#include <sys/eventfd.h>

#include <bit>
#include <cerrno>
#include <string>
#include <utility>

namespace vx {
namespace {

constexpr uint32_t kKeptFrames = 1024;

Injector injector_of(const WorkersConfig &config, uint32_t number, vx_direction to)
{
	const int cpu = config.cpus[number];
	const auto lane = static_cast<size_t>(cpu);
	return Injector(config.injection[to], config.inject_fd,
			lane < config.injections.size() ? &config.injections[lane] : nullptr, cpu, number,
			&config.slots[number]);
}

}  // namespace

Loop::Loop(Shared &shared, uint32_t number)
	: shared_(shared), number_(number), slot_(shared.config.slots[number]),
	  frames_(*shared.umem, shared.config.count() == 1 ? UINT32_MAX : kKeptFrames),
	  sender_(VX_OUTSIDE, frames_, transmitter_, injector_of(shared.config, number, VX_OUTSIDE), shared.links,
		  requests_, slot_, shared.events, Sampler(*shared.config.control, slot_, shared.events))
{
}

Result<std::unique_ptr<Loop>> Loop::open(Shared &shared, uint32_t number)
{
	std::unique_ptr<Loop> self(new Loop(shared, number));
	self->stop_fd_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (!self->stop_fd_)
		return Error{"WORKER_FAILED", "eventfd", errno, ""};
	auto requests = Netlink::open({});
	if (!requests)
		return requests.error();
	self->requests_ = std::move(*requests);
	if (number == 0) {
		auto exceptions = Exceptions::open(shared, self->frames_, self->sender_, self->requests_,
						   [loop = self.get()] { loop->receive_all(); });
		if (!exceptions)
			return exceptions.error();
		self->exceptions_ = std::move(*exceptions);
	}
	if (auto done = self->open_sockets(); !done)
		return done.error();
	if (auto done = self->open_rings(); !done)
		return done.error();
	for (const int fd : {self->stop_fd_.get(), self->records_->fd()})
		self->polled_.push_back({fd, POLLIN, 0});
	if (shared.config.nat) {
		self->open_translator();
		self->polled_.push_back({shared.config.nat->wake_fd(number), POLLIN, 0});
	}
	for (const XskReceiver &receiver : self->receivers_)
		self->polled_.push_back({receiver.fd(), POLLIN, 0});
	if (self->exceptions_)
		self->polled_.push_back({self->exceptions_->fd(), POLLIN, 0});
	return self;
}

Result<void> Loop::open_sockets()
{
	for (const auto &queues : shared_.receive)
		for (const auto &queue : queues)
			if (auto done = open_receiver(*queue); !done)
				return done;
	for (const vx_direction to : {VX_INSIDE, VX_OUTSIDE})
		if (!shared_.transmit[to].empty())
			if (auto done = open_transmitter(to); !done)
				return done;
	return {};
}

Result<void> Loop::open_receiver(RxQueue &queue)
{
	const uint32_t workers = shared_.config.count();
	// Those that stand still keep no more than their part of a queue's frames from the others.
	const uint32_t entries = workers == 1 ? std::bit_ceil(queue.share() + 1) : std::bit_floor(queue.share() / workers);
	auto receiver = XskReceiver::open(*shared_.umem, queue, entries, shared_.umem_socket);
	if (!receiver)
		return receiver.error();
	receivers_.push_back(std::move(*receiver));
	if (shared_.umem_socket < 0)
		shared_.umem_socket = receivers_.back().fd();
	queue.refill(frames_);
	return {};
}

Result<void> Loop::open_transmitter(vx_direction to)
{
	TxQueue &queue = shared_.transmit_of(to, shared_.config.cpus[number_]);
	auto transmitter = XskTransmitter::open(*shared_.umem, queue, shared_.umem_socket);
	if (!transmitter)
		return transmitter.error();
	if (shared_.umem_socket < 0)
		shared_.umem_socket = transmitter->fd();
	(to == VX_INSIDE ? inside_transmitter_ : transmitter_) = std::move(*transmitter);
	return {};
}

void Loop::open_translator()
{
	const WorkersConfig &config = shared_.config;
	inside_sender_.emplace(VX_INSIDE, frames_, inside_transmitter_, injector_of(config, number_, VX_INSIDE),
			       shared_.links, requests_, slot_, shared_.events,
			       Sampler(*config.control, slot_, shared_.events));
	translator_.emplace(*config.nat, shared_, number_, frames_, sender_, *inside_sender_, exceptions_.get(), slot_);
}

Result<void> Loop::admit()
{
	for (uint32_t queue = 0; queue < receivers_.size(); queue++) {
		const uint32_t at = queue * shared_.config.count() + number_;
		const int fd = receivers_[queue].fd();
		if (bpf_map_update_elem(shared_.config.xsks_fd, &at, &fd, BPF_ANY))
			return Error{"WORKER_FAILED", "XSKMAP update", errno, "queue " + std::to_string(queue)};
	}
	return {};
}

}  // namespace vx
