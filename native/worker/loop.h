// The exception worker's loop and what it owns. Made by ExceptionWorker::start on the starting thread; run() is the
// worker's thread.
//
// A packet's way: receive -> by its reason through `fragments`, or not -> route -> `neighbours` or straight on ->
// `sender`. Each of them owns the frame from the moment it is handed over, and ends in sent or dropped, counted.
#pragma once

#include <poll.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "../io/ring_reader.h"
#include "fragments.h"
#include "links.h"
#include "neighbours.h"
#include "routes.h"
#include "sender.h"

namespace vx {

class Loop {
public:
	// Opens everything and fills the maps.
	static Result<std::unique_ptr<Loop>> open(const ExceptionWorkerConfig &config, EventQueue &events);

	// Until stop(); then nothing waits any more and the kernel's neighbour table is as it was.
	void run();
	// Any thread.
	void stop();
	WorkerSnapshot snapshot();

private:
	ExceptionWorkerConfig config_;
	EventQueue &events_;
	Umem umem_;
	std::vector<XskReceiver> receivers_;
	XskTransmitter transmitter_;
	Netlink announcements_, reads_, requests_;
	std::optional<RingReader> exceptions_;
	Tables tables_;
	Links links_;
	Sender sender_;
	Routes routes_;
	Neighbours neighbours_;
	Fragments fragments_;

	Fd stop_fd_;
	std::vector<pollfd> polled_;  // stop, announcements, exceptions, then the sockets
	std::atomic<bool> stopping_{false};
	uint64_t now_ns_ = 0;
	uint64_t next_tick_ns_ = 0;
	uint64_t spin_until_ns_ = 0;
	uint64_t count_refused_ns_ = 0;
	uint64_t next_poll_ns_ = 0;
	bool worked_ = false;  // something was received in this turn
	uint64_t sample_started_ns_ = 0;  // of a packet whose latency is measured; 0: none
	bool announcements_lost_ = false;
	bool rules_changed_ = false;
	std::mutex snapshot_mutex_;
	WorkerSnapshot snapshot_{};

	Loop(const ExceptionWorkerConfig &config, Umem umem, EventQueue &events);
	Result<void> open_sockets();
	Result<void> open_rings();
	Result<void> read_kernel(uint64_t now_ns);

	bool receive_some();
	bool receive_turn();
	void receive_all();
	void refill();
	void handle_ring_record(const uint8_t *bytes, size_t length);
	void handle_received(Frame frame);
	void handle(const vx_exception &exception, Frame frame);
	void note_latency();
	void forward(Frame frame);

	int poll_timeout_ms(bool more) const;
	void wait(int timeout_ms);
	void follow();
	void dispatch(NetlinkBytes bytes);
	void catch_up();
	void tick();
	void count_refused();
	void check_frames() const;
	void publish_snapshot(bool alive);
	void finish();
};

}  // namespace vx
