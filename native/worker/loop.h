// One worker's loop and what it owns. Made by Workers::start on the starting thread; run() is the worker's thread.
//
// A packet's way: receive -> READY: sender; for source NAT: translator; else: exceptions, which worker 0 has.
#pragma once

#include <poll.h>

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "../io/ring_reader.h"
#include "exceptions.h"
#include "sender.h"
#include "shared.h"
#include "translator.h"

namespace vx {

class Loop {
public:
	// Opens everything; worker 0 fills the maps.
	static Result<std::unique_ptr<Loop>> open(Shared &shared, uint32_t number);
	// Lets XDP hand over to it.
	Result<void> admit();

	// Until stop(); then nothing waits any more.
	void run();
	// Any thread.
	void stop();
	bool alive() const { return alive_.load(std::memory_order_relaxed); }
	// nullptr: another worker has them.
	Exceptions *exceptions() { return exceptions_.get(); }
	// The frames it has. Its thread, or when it has ended.
	uint32_t frames() const;

private:
	Shared &shared_;
	const uint32_t number_;
	vx_slot &slot_;
	Frames frames_;
	std::vector<XskReceiver> receivers_;  // of the inside's queues, then of the outside's
	XskTransmitter transmitter_, inside_transmitter_;
	Netlink requests_;
	std::optional<RingReader> records_;
	Sender sender_;
	std::unique_ptr<Exceptions> exceptions_;
	std::optional<Sender> inside_sender_;     // with source NAT, as the next
	std::optional<Translator> translator_;

	Fd stop_fd_;
	std::vector<pollfd> polled_;  // stop, wake, records, the sockets, then what exceptions_ follows
	std::atomic<bool> stopping_{false}, alive_{true};
	uint64_t now_ns_ = 0;
	uint64_t next_tick_ns_ = 0;
	uint64_t spin_until_ns_ = 0;
	uint64_t count_refused_ns_ = 0;
	uint64_t next_poll_ns_ = 0;
	bool worked_ = false;  // something was received in this turn
	uint64_t sample_started_ns_ = 0;  // of a packet whose latency is measured; 0: none

	Loop(Shared &shared, uint32_t number);
	Result<void> open_sockets();
	Result<void> open_receiver(RxQueue &queue);
	Result<void> open_transmitter(vx_direction to);
	Result<void> open_rings();
	void open_translator();
	uint32_t held() const;
	bool backlogged() const;
	void flush();

	bool receive_some();
	bool receive_turn();
	void receive_all();
	void refill();
	void handle_ring_record(const uint8_t *bytes, size_t length);
	void drop_frameless(const vx_exception &exception, const uint8_t *frame);
	void handle_received(Frame frame);
	void translate(Frame frame);
	void handle(const vx_exception &exception, Frame frame);
	void note_latency();

	int poll_timeout_ms(bool more) const;
	bool queues_starve() const;
	void wait(int timeout_ms);
	void tick();
	void count_refused();
	void finish_translations();
	void finish();
};

}  // namespace vx
