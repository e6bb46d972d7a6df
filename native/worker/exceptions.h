// What XDP cannot decide: packets without a known neighbour, too big, or in fragments; and the tables by which it decides
// the rest. Worker 0 has it, on its thread; open() runs on the starting one.
//
// A packet's way: by its reason through `fragments`, or not -> route -> `neighbours` or straight on -> the sender. Each of
// them owns the frame from the moment it is handed over, and ends in sent or dropped, counted.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "fragments.h"
#include "neighbours.h"
#include "routes.h"
#include "shared.h"

namespace vx {

class Exceptions {
public:
	// Reads the kernel's tables and fills the maps. `drain`: see Neighbours::set_drain.
	static Result<std::unique_ptr<Exceptions>> open(Shared &shared, Frames &frames, Sender &sender, Netlink &requests,
							std::function<void()> drain);

	void handle(const vx_exception &exception, Frame frame, uint64_t now_ns);
	// Takes a frame whose IP packet is as it leaves.
	void forward(Frame frame, uint64_t now_ns);
	// After packets were handled: acts on what was learned meanwhile.
	void settle(uint64_t now_ns);
	// Readable when the kernel has announced something, which follow() reads.
	int fd() const { return announcements_.fd(); }
	void follow(uint64_t now_ns);
	// Once a second.
	void tick(uint64_t now_ns);
	// Drops what waits; then the kernel's neighbour table is as it was.
	void stop(uint64_t now_ns);

	// Frames held.
	uint32_t waiting() const { return neighbours_.waiting() + fragments_.waiting(); }
	// Any thread: as of the last tick.
	WorkerSnapshot snapshot();

private:
	Shared &shared_;
	Frames &frames_;
	Sender &sender_;
	Netlink announcements_, reads_;
	Routes routes_;
	Neighbours neighbours_;
	Fragments fragments_;
	uint64_t now_ns_ = 0;
	bool announcements_lost_ = false;
	bool rules_changed_ = false;
	std::mutex snapshot_mutex_;
	WorkerSnapshot snapshot_{};

	Exceptions(Shared &shared, Frames &frames, Sender &sender, Netlink &requests, std::function<void()> drain);
	Result<void> read_kernel(uint64_t now_ns);
	void dispatch(NetlinkBytes bytes);
	void catch_up();
	void publish_snapshot();
};

}  // namespace vx
