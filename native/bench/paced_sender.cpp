// Single packets at even distances, each stamped with the moment it is handed to the kernel: AF_PACKET
// without a qdisc. Called by vxgen --latency on its one thread, which spins between packets, so the whole
// way to a far end on the same core runs inside the sending system call.
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "senders.h"

namespace vx::bench {

namespace {

uint64_t now_ns()
{
	timespec now = {};
	clock_gettime(CLOCK_MONOTONIC, &now);
	return static_cast<uint64_t>(now.tv_sec) * 1000000000ull + static_cast<uint64_t>(now.tv_nsec);
}

int open_socket(const Interface &interface)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	int on = 1;
	sockaddr_ll address = {};
	address.sll_family = AF_PACKET;
	address.sll_ifindex = static_cast<int>(interface.ifindex);
	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) < 0 ||
	    bind(fd, reinterpret_cast<const sockaddr *>(&address), sizeof(address)) < 0)
		fail("packet socket", errno);
	return fd;
}

struct Paced {
	vx_traffic traffic;
	vx_walk walk;
	std::vector<uint8_t> frame;
};

void write_packet(Paced &paced, const PacketPlan &plan)
{
	const vx_walk &walk = paced.walk;
	uint32_t class_of = paced.traffic.schedule[walk.schedule_at];
	const vx_template &from = paced.traffic.templates[class_of];
	vx_stamp stamp = {};
	stamp.flow = walk.flow;
	stamp.class_of = class_of;
	stamp.sequence = walk.sequence;
	stamp.sport_be = vx_swap16(walk.sport);
	stamp.source = class_of == VX_CLASS_denied ? plan.denied_sources_be[walk.denied_at]
						   : plan.sources_be[walk.source_at];
	stamp.dport_be = class_of == VX_CLASS_no_rule ? paced.traffic.other_port_be[walk.other_port_at]
						      : paced.traffic.port_be[walk.port_at];
	memcpy(paced.frame.data(), from.bytes, VX_HEAD_BYTES);
	vx_stamp_frame(paced.frame.data(), &from, &stamp);
	// IPv6 has no checksum to spare, so its packets go unstamped.
	if (!from.v6) {
		uint64_t at = now_ns();
		memcpy(paced.frame.data() + VX_AT_UDP + 8 + VX_PAYLOAD_STAMP_AT, &at, sizeof(at));
	}
	vx_walk_on(&paced.walk, &paced.traffic);
}

} // namespace

Report send_paced(const Interface &interface, const PacketPlan &plan, const Limits &limits, uint64_t first)
{
	int fd = open_socket(interface);
	Paced paced = {};
	fill_traffic(plan, paced.traffic);
	paced.walk.sequence = first;
	paced.walk.sport = VX_SPORT_FIRST;
	paced.frame.resize(frame_bytes(plan.inner_bytes), 0);
	Report report = {};
	uint64_t gap = static_cast<uint64_t>(1e9 / limits.rate);
	double waited_before = seconds_waited();
	uint64_t start = now_ns();
	uint64_t due = start;
	while (report.generated < limits.count) {
		uint64_t now = now_ns();
		while (now < due)
			now = now_ns();
		// What it missed while its CPU ran something else is left out: sent now it would be a burst, another load.
		due = std::max(due, now) + gap;
		if (static_cast<double>(now - start) * 1e-9 >= limits.seconds)
			break;
		if ((report.generated & 0xff) == 0 && stop_asked())
			break;
		uint32_t class_of = paced.traffic.schedule[paced.walk.schedule_at];
		write_packet(paced, plan);
		report.generated++;
		ssize_t sent = send(fd, paced.frame.data(), paced.frame.size(), 0);
		if (sent == static_cast<ssize_t>(paced.frame.size())) {
			report.sent++;
			report.classes[class_of]++;
		} else if (errno != ENOBUFS && errno != EAGAIN) {
			fail("sending", errno);
		}
	}
	report.seconds = static_cast<double>(now_ns() - start) * 1e-9;
	report.waited = seconds_waited() - waited_before;
	close(fd);
	return report;
}

} // namespace vx::bench
