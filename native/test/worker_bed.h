// Worker 0's test bed: three network namespaces without names (they vanish with the process), joined by
// two veth pairs, and a feeder in XDP's place. Used by worker_*_test.cpp on the test's thread.
//
//   generator gen0 --- in0 [gateway: feeder, worker] out0 --- far0 far end 192.0.2.2, 2001:db8::2
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../io/fd.h"
#include "../io/netlink_parse.h"
#include "../worker/workers.h"
#include "worker_feed.skel.h"

namespace vx::test {

using Bytes = std::vector<uint8_t>;

// A network namespace of its own, open as long as this lives.
class Namespace {
public:
	Namespace();
	void enter() const;
	// Runs `work` inside, then returns to where the thread was.
	void in(const std::function<void()> &work) const;
	// A name `ip link set netns` takes.
	std::string path() const;

private:
	Fd fd_;
};

void shell(const std::string &command);
// The map the workers' frames live in.
Fd make_umem(uint32_t chunks);
bool eventually(const std::function<bool()> &condition, double seconds = 3);
vx_addr address_of(const char *text);
uint32_t ipv4_be(const char *text);

struct Ipv4Packet {
	const char *destination = "192.0.2.2";
	size_t payload = 32;
	uint16_t id = 1;
	uint16_t flags_and_offset = 0;  // host order
	uint8_t protocol = 17;
	uint32_t number = 0;  // first payload bytes behind a UDP header
	Bytes options = {};
};

// A UDP datagram to port 9000 (or a piece of its payload when the offset says so), from 10.1.0.1.
Bytes make_ipv4(const Ipv4Packet &packet);
Bytes make_ipv6(const char *destination, uint32_t number);

class WorkerBed : public testing::Test {
protected:
	static constexpr uint16_t kBySocket = 0x88b5;
	static constexpr uint16_t kByRing = 0x88b6;

	void SetUp() override;
	void TearDown() override;

	void start_worker(const std::function<void(WorkersConfig &)> &adjust = {});
	void stop_worker() { worker_.reset(); }
	// Hands an IP packet to the worker as XDP would.
	void feed(const Bytes &ip, vx_exception exception = {}, uint16_t way = kBySocket);

	// Frames with packets of the test that have reached the far end since the last call.
	std::vector<Bytes> arrived();
	// Waits until that many have.
	std::vector<Bytes> arrived(size_t count, double seconds = 3);
	// Those that have come back to the generator since the last call.
	std::vector<Bytes> returned();

	vx_counters &counters() { return slot_.direction[VX_INSIDE]; }
	uint64_t dropped(vx_drop reason) { return counters().dropped[reason]; }
	uint64_t fates();
	static constexpr uint8_t kNotInMap = 255;
	vx_neighbour neighbour(const char *address);  // state kNotInMap when it is not
	bool neighbour_is(const char *address, uint8_t state) { return neighbour(address).state == state; }
	vx_route route(const char *address);
	uint32_t generation() { return __atomic_load_n(&feeder_->bss->control.epoch.generation, __ATOMIC_ACQUIRE); }

	Namespace home_, gateway_, generator_, far_;
	worker_feed *feeder_ = nullptr;
	vx_slot slot_{};
	std::unique_ptr<Workers> worker_;
	Fd umem_map_;

private:
	Fd generator_socket_, far_socket_;
};

}  // namespace vx::test
