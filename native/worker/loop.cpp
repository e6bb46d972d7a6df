// The exception worker's loop: receives, sleeps, ticks, ends. Runs on the worker's thread.
#include "loop.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "../core/ip.h"
#include "clock.h"

namespace vx {
namespace {

constexpr uint64_t kTickNs = 1000000000;
constexpr uint64_t kFinishNsMax = 1000000000;
constexpr uint64_t kDrainNsMax = 5000000000;
constexpr uint32_t kBatchMax = 1024;  // as the configuration's schema has it
constexpr uint32_t kDrainBatchesMax = 64;  // under a flood the rings are never empty
constexpr uint64_t kPollEveryNs = 1000000;  // while not sleeping: for what is no packet
constexpr uint64_t kCountRefusedNs = 5000000;
constexpr uint64_t kSpinNs = 50000;  // a sleep and a wake-up cost about as much

// A packet whose fate nobody could name any more: the ledger would lie from here on.
[[noreturn]] void broken(const char *what)
{
	fprintf(stderr, "vxpipe: exception worker: broken invariant: %s\n", what);
	abort();
}

}  // namespace

void Loop::handle_ring_record(const uint8_t *bytes, size_t length)
{
	vx_exception exception;
	if (length < sizeof exception)
		broken("a ring record is shorter than its header");
	memcpy(&exception, bytes, sizeof exception);
	if (exception.length > VX_EXCEPTION_BYTES_MAX || exception.length > length - sizeof exception)
		broken("a ring record is shorter than its packet");
	if (!umem_.has_free())
		return sender_.drop_frameless(VX_DROP_fill_empty);
	const Frame frame{umem_.take(), exception.length};
	memcpy(umem_.at(frame.address), bytes + sizeof exception, exception.length);
	handle(exception, frame);
}

// A frame from a socket, with a header in front of it or without.
void Loop::handle_received(Frame frame)
{
	uint8_t *bytes = umem_.at(frame.address);
	if (load16_be(bytes + kEtherTypeAt) != VX_ETHERTYPE_EXCEPTION) {
		worked_ = true;
		return sender_.send_ready(frame);
	}
	vx_exception exception;
	memcpy(&exception, bytes - sizeof exception, sizeof exception);
	store16_be(bytes + kEtherTypeAt, ethertype_for(bytes + kEthernetBytes));
	handle(exception, frame);
}

void Loop::handle(const vx_exception &exception, Frame frame)
{
	if (exception.magic != VX_EXCEPTION_MAGIC)
		broken("a packet without an exception header");
	if (exception.length > frame.length)
		broken("an exception header that is longer than its packet");
	frame.length = exception.length;
	worked_ = true;
	if (exception.started_ns)
		sample_started_ns_ = exception.started_ns;
	if (exception.reason == VX_EXCEPTION_READY)
		return sender_.send_ready(frame);
	const uint8_t version = ip_version(umem_.at(frame.address) + kEthernetBytes);
	const uint32_t header = version == 4 ? kIpv4HeaderBytes : kIpv6HeaderBytes;
	if ((version != 4 && version != 6) || frame.length < kEthernetBytes + header)
		return sender_.drop(frame, VX_DROP_malformed_inner);
	switch (exception.reason) {
	case VX_EXCEPTION_NEIGHBOUR:
	case VX_EXCEPTION_TOO_BIG: return forward(frame);
	case VX_EXCEPTION_FRAGMENT_FIRST: return fragments_.first(exception, frame, now_ns_);
	case VX_EXCEPTION_FRAGMENT_LATER: return fragments_.later(exception, frame, now_ns_);
	default: broken("an exception without a reason");
	}
}

void Loop::forward(Frame frame)
{
	if (!config_.follow_routes)
		return sender_.send(frame, config_.fixed_mac);
	const uint8_t *ip = umem_.at(frame.address) + kEthernetBytes;
	vx_addr destination;
	if (ip_version(ip) == 4)
		destination = mapped(ip + 16);
	else
		memcpy(&destination, ip + 24, sizeof destination);
	const vx_route route = routes_.find(destination);
	if (route.kind != VX_ROUTE_ONLINK && route.kind != VX_ROUTE_GATEWAY)
		return sender_.drop(frame, VX_DROP_no_route);
	if (is_multicast(destination)) {
		uint8_t mac[6];
		multicast_mac(destination, mac);
		return sender_.send(frame, mac);
	}
	neighbours_.forward(route.kind == VX_ROUTE_GATEWAY ? route.gateway : destination, frame, now_ns_);
}

// One batch of every socket and ring. True: there may be more.
bool Loop::receive_some()
{
	Frame batch[kBatchMax];
	const uint32_t most = std::clamp(config_.batch, 1u, kBatchMax);
	bool more = false;
	for (XskReceiver &receiver : receivers_) {
		const uint32_t count = receiver.receive(batch, most);
		for (uint32_t i = 0; i < count; i++)
			handle_received(batch[i]);
		more |= count == most;
		receiver.refill(umem_);
	}
	return exceptions_->consume(most) || more;
}

// As much as one injection takes, but no more than that many batches: packets that are dropped leave room for ever more.
bool Loop::receive_turn()
{
	bool more = true;
	for (uint32_t received = 0; more && received < VX_INJECTION_MAX && sender_.held() < VX_INJECTION_MAX;
	     received += std::max(config_.batch, 1u))
		more = receive_some();
	return more;
}

void Loop::refill()
{
	for (XskReceiver &receiver : receivers_)
		receiver.refill(umem_);
}

void Loop::receive_all()
{
	for (uint32_t i = 0; i < kDrainBatchesMax && receive_some(); i++)
		sender_.flush(now_ns_);
}

int Loop::poll_timeout_ms(bool more) const
{
	if (more)
		return 0;
	if (sender_.backlogged())
		return 1;
	const uint64_t left_ns = next_tick_ns_ > now_ns_ ? next_tick_ns_ - now_ns_ : 0;
	return static_cast<int>(left_ns / 1000000 + 1);
}

void Loop::note_latency()
{
	if (!sample_started_ns_ || sender_.backlogged())
		return;
	const uint64_t elapsed_ns = now_ns_ - std::exchange(sample_started_ns_, 0);
	config_.slot->latency_sum_ns += elapsed_ns;
	config_.slot->latency[std::min<size_t>(std::bit_width(elapsed_ns >> 7), VX_LATENCY_BUCKETS - 1)]++;
}

void Loop::wait(int timeout_ms)
{
	// Set before poll(2) looks at the rings: who reserves a record after that sees it.
	__atomic_store_n(&config_.control->worker_sleeps, timeout_ms != 0, __ATOMIC_SEQ_CST);
	poll(polled_.data(), polled_.size(), timeout_ms);
	__atomic_store_n(&config_.control->worker_sleeps, 0, __ATOMIC_RELAXED);
	now_ns_ = monotonic_ns();
	next_poll_ns_ = now_ns_ + kPollEveryNs;
	if (polled_[1].revents)
		follow();
}

void Loop::run()
{
	now_ns_ = monotonic_ns();
	next_tick_ns_ = now_ns_ + kTickNs;
	while (!stopping_.load(std::memory_order_relaxed)) {
		config_.slot->heartbeat++;
		const bool more = receive_turn();
		neighbours_.settle(now_ns_);
		tables_.publish();
		sender_.flush(now_ns_);
		// With what has just been sent: nothing would wake a worker whose fill rings are empty.
		refill();
		now_ns_ = monotonic_ns();
		note_latency();
		const bool worked_now = std::exchange(worked_, false);
		if (worked_now)
			spin_until_ns_ = now_ns_ + kSpinNs;
		const bool idle = !config_.busy && now_ns_ >= spin_until_ns_;
		if (idle || now_ns_ >= next_poll_ns_)
			wait(idle ? poll_timeout_ms(more) : 0);
		if (worked_now && now_ns_ >= count_refused_ns_)
			count_refused();
		if (now_ns_ >= next_tick_ns_)
			tick();
	}
	finish();
}

void Loop::tick()
{
	next_tick_ns_ = now_ns_ + kTickNs;
	fragments_.tick(now_ns_);
	neighbours_.tick(now_ns_);
	catch_up();
	tables_.publish();
	sender_.flush(now_ns_);
	count_refused();
	check_frames();
	publish_snapshot(true);
}

// Also between ticks: what the sockets refuse is nobody's until it is counted.
void Loop::count_refused()
{
	count_refused_ns_ = now_ns_ + kCountRefusedNs;
	auto &dropped = config_.slot->direction[VX_INSIDE].dropped;
	for (XskReceiver &receiver : receivers_) {
		const auto [ring_full, fill_empty] = receiver.refused();
		dropped[VX_DROP_ring_full] += ring_full;
		dropped[VX_DROP_fill_empty] += fill_empty;
	}
}

// Every frame is in exactly one place. A leak would starve the worker, a double use would send one packet as another.
void Loop::check_frames() const
{
	uint32_t frames = umem_.free_count() + transmitter_.in_kernel() + sender_.held() + neighbours_.waiting() +
			  fragments_.waiting();
	for (const XskReceiver &receiver : receivers_)
		frames += receiver.in_kernel();
	if (frames != umem_.frames())
		broken("UMEM frames leaked or were used twice");
}

void Loop::finish()
{
	// To the last: what is left in a ring has no fate. XDP adds nothing any more; the bound is for one that does.
	for (const uint64_t until_ns = monotonic_ns() + kDrainNsMax; receive_some() && now_ns_ < until_ns;
	     now_ns_ = monotonic_ns())
		sender_.flush(now_ns_);
	neighbours_.settle(now_ns_);
	neighbours_.stop();
	fragments_.stop(now_ns_);
	const uint64_t until_ns = monotonic_ns() + kFinishNsMax;
	do {
		now_ns_ = monotonic_ns();
		sender_.flush(now_ns_);
	} while (sender_.backlogged() && now_ns_ < until_ns);
	sender_.give_up();
	count_refused();
	check_frames();
	publish_snapshot(false);
}

void Loop::stop()
{
	stopping_.store(true, std::memory_order_relaxed);
	const uint64_t one = 1;
	if (write(stop_fd_.get(), &one, sizeof one) < 0)
		broken("its stop event cannot be written");
}

void Loop::publish_snapshot(bool alive)
{
	WorkerSnapshot fresh{};
	fresh.alive = alive;
	fresh.inside_carrier = links_.inside().up && links_.inside().carrier;
	fresh.outside_carrier = links_.outside_sends();
	fresh.outside_mtu = links_.outside().mtu;
	fresh.waiting = neighbours_.waiting() + fragments_.waiting();
	fresh.routes = routes_.size();
	fresh.next_hops = neighbours_.view();
	const std::lock_guard lock(snapshot_mutex_);
	std::swap(snapshot_, fresh);
}

WorkerSnapshot Loop::snapshot()
{
	const std::lock_guard lock(snapshot_mutex_);
	return snapshot_;
}

}  // namespace vx
