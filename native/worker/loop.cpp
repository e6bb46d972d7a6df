// A worker's loop: receives, sleeps, ticks, ends. On the worker's thread; what is made beforehand is in loop_open.cpp.
#include "loop.h"

#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <utility>

#include "../core/ip.h"
#include "../core/broken.h"
#include "clock.h"

namespace vx {
namespace {

constexpr size_t kWakeAt = 2;  // in polled_
constexpr uint64_t kTickNs = 1000000000;
constexpr uint64_t kFinishNsMax = 1000000000;
constexpr uint64_t kDrainNsMax = 5000000000;
constexpr uint32_t kBatchMax = 1024;  // as the configuration's schema has it
constexpr uint32_t kDrainBatchesMax = 64;  // under a flood the rings are never empty
constexpr uint64_t kPollEveryNs = 1000000;  // while not sleeping: for what is no packet
constexpr uint64_t kCountRefusedNs = 5000000;
constexpr uint32_t kRecordAt = VX_FRAME_OFFSET_MAX / 2;  // as the kernel's headroom: room for a tunnel's headers
constexpr uint64_t kSpinNs = 50000;  // a sleep and a wake-up cost about as much

}  // namespace

// On the starting thread; here, beside what is called for each record.
Result<void> Loop::open_rings()
{
	auto records = RingReader::open(
		shared_.config.exception_rings,
		[this](const uint8_t *bytes, size_t length) { handle_ring_record(bytes, length); }, number_,
		shared_.config.count());
	if (!records)
		return records.error();
	records_ = std::move(*records);
	return {};
}

void Loop::handle_ring_record(const uint8_t *bytes, size_t length)
{
	vx_exception exception;
	if (length < sizeof exception)
		broken("a ring record is shorter than its header");
	memcpy(&exception, bytes, sizeof exception);
	if (exception.length > VX_EXCEPTION_BYTES_MAX || exception.length > length - sizeof exception)
		broken("a ring record is shorter than its packet");
	if (!frames_.has())
		return drop_frameless(exception, bytes + sizeof exception);
	const Frame frame{frames_.take() + kRecordAt, exception.length};
	memcpy(frames_.at(frame.address), bytes + sizeof exception, exception.length);
	handle(exception, frame);
}

void Loop::drop_frameless(const vx_exception &exception, const uint8_t *frame)
{
	if (exception.reason == VX_EXCEPTION_ARP)
		return;  // has its fate already
	const bool outside = exception.reason == VX_EXCEPTION_TRANSLATE && exception.length >= sizeof(vx_translate) &&
			     frame[offsetof(vx_translate, direction)] == VX_OUTSIDE;
	sender_.drop_frameless(outside ? VX_OUTSIDE : VX_INSIDE, VX_DROP_fill_empty);
}

// A frame from a socket, with a header in front of it or without.
void Loop::handle_received(Frame frame)
{
	uint8_t *bytes = frames_.at(frame.address);
	const uint16_t mark = load16_be(bytes + kEtherTypeAt);
	if (mark == VX_ETHERTYPE_TRANSLATE)
		return translate(frame);
	if (mark != VX_ETHERTYPE_EXCEPTION) {
		worked_ = true;
		return sender_.send_ready(frame);
	}
	vx_exception exception;
	memcpy(&exception, bytes - sizeof exception, sizeof exception);
	store16_be(bytes + kEtherTypeAt, ethertype_for(bytes + kEthernetBytes));
	handle(exception, frame);
}

void Loop::translate(Frame frame)
{
	if (!translator_ || frame.length < sizeof(vx_translate))
		broken("a packet to be translated where nothing is");
	worked_ = true;
	vx_translate header;
	memcpy(&header, frames_.at(frame.address), sizeof header);
	if (header.started_ns)
		sample_started_ns_ = header.started_ns;
	translator_->take(frame, now_ns_);
}

void Loop::handle(const vx_exception &exception, Frame frame)
{
	if (exception.magic != VX_EXCEPTION_MAGIC)
		broken("a packet without an exception header");
	if (exception.length > frame.length)
		broken("an exception header that is longer than its packet");
	if (exception.worker != number_)
		broken("a packet of another worker's");
	frame.length = exception.length;
	if (exception.reason == VX_EXCEPTION_TRANSLATE)
		return translate(frame);
	worked_ = true;
	if (exception.started_ns)
		sample_started_ns_ = exception.started_ns;
	if (exception.reason == VX_EXCEPTION_READY)
		return sender_.send_ready(frame);
	if (!exceptions_)
		broken("an exception at another worker than 0");
	if (exception.reason == VX_EXCEPTION_ARP && translator_)
		return translator_->answer_arp(frame);
	exceptions_->handle(exception, frame, now_ns_);
}

// One batch of every socket and ring. True: there may be more.
bool Loop::receive_some()
{
	Frame batch[kBatchMax];
	const uint32_t most = std::clamp(shared_.config.batch, 1u, kBatchMax);
	bool more = false;
	for (XskReceiver &receiver : receivers_) {
		const uint32_t permille = receiver.full_permille();
		const uint32_t count = receiver.receive(batch, most);
		if (count)
			note_batch(slot_.work, count, permille);
		for (uint32_t i = 0; i < count; i++)
			handle_received(batch[i]);
		more |= count == most;
		receiver.queue().refill(frames_);
	}
	return records_->consume(most, &slot_.work) || more;
}

// As much as one injection takes, but no more than that many batches: packets that are dropped leave room for ever more.
bool Loop::receive_turn()
{
	bool more = true;
	for (uint32_t received = 0; more && received < VX_INJECTION_MAX && held() < VX_INJECTION_MAX;
	     received += std::max(shared_.config.batch, 1u))
		more = receive_some();
	return more;
}

void Loop::refill()
{
	frames_.share();
	for (XskReceiver &receiver : receivers_)
		receiver.queue().refill(frames_);
}

void Loop::receive_all()
{
	for (uint32_t i = 0; i < kDrainBatchesMax && receive_some(); i++) {
		if (translator_)
			translator_->settle(now_ns_);
		flush();
	}
}

// Frames that wait to be sent.
uint32_t Loop::held() const
{
	return sender_.held() + (inside_sender_ ? inside_sender_->held() : 0);
}

bool Loop::backlogged() const
{
	return sender_.backlogged() || (inside_sender_ && inside_sender_->backlogged());
}

void Loop::flush()
{
	sender_.flush(now_ns_);
	if (inside_sender_)
		inside_sender_->flush(now_ns_);
}

int Loop::poll_timeout_ms(bool more) const
{
	if (more)
		return 0;
	if (backlogged() || queues_starve())
		return 1;
	const uint64_t left_ns = next_tick_ns_ > now_ns_ ? next_tick_ns_ - now_ns_ : 0;
	return static_cast<int>(left_ns / 1000000 + 1);
}

// Frames come free when others complete theirs, which wakes nobody here.
bool Loop::queues_starve() const
{
	return std::any_of(receivers_.begin(), receivers_.end(), [](const XskReceiver &receiver) {
		return receiver.queue().lent() < receiver.queue().share();
	});
}

void Loop::note_latency()
{
	if (!sample_started_ns_ || backlogged())
		return;
	const uint64_t elapsed_ns = now_ns_ - std::exchange(sample_started_ns_, 0);
	slot_.latency_sum_ns += elapsed_ns;
	slot_.latency[std::min<size_t>(std::bit_width(elapsed_ns >> 7), VX_LATENCY_BUCKETS - 1)]++;
}

void Loop::wait(int timeout_ms)
{
	// Set before the rings are looked at once more: who reserves a record after that sees it, and poll(2) itself knows
	// only of records that asked for a wake-up.
	__atomic_store_n(&shared_.config.control->worker_sleeps[number_], timeout_ms != 0, __ATOMIC_SEQ_CST);
	std::atomic_thread_fence(std::memory_order_seq_cst);  // on its own the store may be overtaken by what is loaded next
	if (records_->pending() || (translator_ && translator_->pending()))
		timeout_ms = 0;
	poll(polled_.data(), polled_.size(), timeout_ms);
	if (shared_.config.priority)
		sched_yield();  // SCHED_FIFO by itself gives another worker of this CPU no turn
	__atomic_store_n(&shared_.config.control->worker_sleeps[number_], 0, __ATOMIC_RELAXED);
	if (translator_ && polled_[kWakeAt].revents) {
		uint64_t times;
		if (read(polled_[kWakeAt].fd, &times, sizeof times) < 0 && errno != EAGAIN)
			broken("its wake-up event cannot be read");
	}
	now_ns_ = monotonic_ns();
	next_poll_ns_ = now_ns_ + kPollEveryNs;
	if (exceptions_ && polled_.back().revents)
		exceptions_->follow(now_ns_);
}

void Loop::run()
{
	slot_.work.thread = static_cast<uint64_t>(gettid());
	now_ns_ = monotonic_ns();
	next_tick_ns_ = now_ns_ + kTickNs;
	while (!stopping_.load(std::memory_order_relaxed)) {
		slot_.heartbeat++;
		bool more = receive_turn();
		if (translator_) {
			const uint64_t taken_over = slot_.nat.taken_over;
			more |= translator_->settle(now_ns_);
			worked_ |= slot_.nat.taken_over != taken_over;
			more |= translator_->tick(now_ns_);
		}
		if (exceptions_)
			exceptions_->settle(now_ns_);
		flush();
		// With what has just been sent: nothing would wake a worker whose fill rings are empty.
		refill();
		now_ns_ = monotonic_ns();
		note_latency();
		const bool worked_now = std::exchange(worked_, false);
		if (worked_now)
			spin_until_ns_ = now_ns_ + kSpinNs;
		const bool idle = !shared_.config.busy && now_ns_ >= spin_until_ns_;
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
	if (exceptions_)
		exceptions_->tick(now_ns_);
	flush();
	count_refused();
	if (shared_.config.count() == 1)
		shared_.check_frames(frames());
}

// Also between ticks: what the sockets refuse is nobody's until it is counted.
void Loop::count_refused()
{
	count_refused_ns_ = now_ns_ + kCountRefusedNs;
	for (size_t i = 0; i < receivers_.size(); i++) {
		const auto [ring_full, fill_empty] = receivers_[i].refused();
		auto &dropped = slot_.direction[i < shared_.receive[VX_INSIDE].size() ? VX_INSIDE : VX_OUTSIDE].dropped;
		dropped[VX_DROP_ring_full] += ring_full;
		dropped[VX_DROP_fill_empty] += fill_empty;
	}
}

uint32_t Loop::frames() const
{
	return frames_.free_count() + held() + (exceptions_ ? exceptions_->waiting() : 0) +
	       (translator_ ? translator_->held() : 0);
}

// What workers hand over to each other comes to an end when none receives any more. What is left then, Workers drops.
void Loop::finish_translations()
{
	shared_.receiving.fetch_sub(1);
	const uint64_t until_ns = monotonic_ns() + kFinishNsMax;
	do {
		now_ns_ = monotonic_ns();
		translator_->settle(now_ns_);
		flush();
	} while ((shared_.receiving.load() || translator_->pending()) && now_ns_ < until_ns);
	translator_->finish(now_ns_);
}

void Loop::finish()
{
	// To the last: what is left in a ring has no fate. XDP adds nothing any more; the bound is for one that does.
	for (const uint64_t until_ns = monotonic_ns() + kDrainNsMax; receive_some() && now_ns_ < until_ns;
	     now_ns_ = monotonic_ns())
		flush();
	if (translator_)
		finish_translations();
	if (exceptions_)
		exceptions_->stop(now_ns_);
	const uint64_t until_ns = monotonic_ns() + kFinishNsMax;
	do {
		now_ns_ = monotonic_ns();
		flush();
	} while (backlogged() && now_ns_ < until_ns);
	sender_.give_up();
	if (inside_sender_)
		inside_sender_->give_up();
	count_refused();
	// Here, not one after the other on the main thread: the kernel waits for a grace period with each.
	receivers_.clear();
	transmitter_ = XskTransmitter();
	inside_transmitter_ = XskTransmitter();
	alive_.store(false, std::memory_order_relaxed);
}

void Loop::stop()
{
	stopping_.store(true, std::memory_order_relaxed);
	const uint64_t one = 1;
	if (write(stop_fd_.get(), &one, sizeof one) < 0)
		broken("its stop event cannot be written");
}

}  // namespace vx
