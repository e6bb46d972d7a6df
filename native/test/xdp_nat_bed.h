// The XDP bed with source NAT: a pool of two addresses, a forward and a gateway address, three workers with a ring each; and
// the frames that come. Used by xdp_nat_*_test.cpp.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "xdp_bed.h"
#include "xdp_words.h"

namespace vx::test {

inline constexpr uint32_t kWorkers = 3, kBlock = 128, kVni = 0x123456;
inline constexpr size_t kHead = sizeof(vx_translate);
inline const char *const kPool = "203.0.113.1", *const kOtherPool = "203.0.113.2", *const kGateway = "10.0.0.1";
inline const std::string kInsideMac = "02:00:00:00:00:01", kPeerMac = "02:aa:00:00:00:01";
inline const std::string kInnerTo = "02:bb:00:00:00:01", kInnerFrom = "02:bb:00:00:00:02";

Bytes operator+(Bytes left, const Bytes &right);
Bytes be16(size_t value);
Bytes bytes_of(const uint8_t *at, size_t size);

struct Ip {
	std::string source = "10.0.0.5", destination = "198.51.100.7";
	uint8_t protocol = 17;
	uint16_t id = 1, fragment = 0;
	uint8_t options = 0;  // bytes
};

// Without checksums, which nobody here looks at.
Bytes packet(const Ip &ip, const Bytes &payload);
Bytes udp(uint16_t from, uint16_t to, size_t payload = 10);
Bytes tcp(uint16_t from, uint16_t to);
Bytes icmp(uint8_t type, uint16_t id);
Bytes arp(const std::string &target, uint8_t operation = 1);
// `tcis`: VLAN tags, outermost first.
Bytes ethernet(const std::string &to, const std::string &from, uint16_t type, const Bytes &payload,
	       const std::vector<uint16_t> &tcis = {});
// A subscriber's frame, and the tunnel around it as it comes by the inside interface.
Bytes inner(const Bytes &ip, const std::vector<uint16_t> &tcis = {});
Bytes tunnel4(const Bytes &inner, const std::vector<uint16_t> &tcis = {});
Bytes tunnel6(const Bytes &inner);

// What a worker gets.
struct Handed {
	uint32_t worker;
	vx_translate head;
	Bytes packet;
};

// Of a packet in tunnel4() or tunnel6(), by the next hop of the bed's default route.
void expect_inside_head(const vx_translate &head, const std::string &peer, const std::vector<vx_tag> &tags);

class XdpNat : public testing::Test {
protected:
	void SetUp() override { load("hand_over=rings"); }
	void load(const std::string &knobs);
	// Has the block of a port of the pool address with that number belong to a worker.
	void own(uint32_t number, uint16_t port, uint32_t worker);

	Outcome outside(const Bytes &frame, uint32_t queue = 0);
	// That a frame from outside is left to the kernel as it came.
	void expect_the_kernels(const Bytes &frame);
	// What went to a worker by ring. `direction`: in front of the counters' names.
	Handed handed(const Outcome &outcome, const std::string &direction, uint8_t reason = VX_EXCEPTION_TRANSLATE);
	Handed from_inside(const Bytes &frame) { return handed(bed_.run(frame), ""); }
	Handed from_outside(const Bytes &ip);
	// The ledger's part of an outcome: `reason` is what the frame counts as, beside being received.
	static void expect_counts(const Outcome &outcome, const std::string &direction, const std::string &reason);

	XdpBed &bed_ = XdpBed::instance();
};

}  // namespace vx::test
