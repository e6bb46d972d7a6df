// vxclassic: the classic injector, a peer for the bench. XDP copies inner packets into a ring buffer
// (classic.bpf.c); this one thread, pinned and polling, translates each and sends it with sendto on a packet
// socket. Run by the bench in the gateway's namespace until a signal or the end of standard input.
#include <bpf/libbpf.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "attach.h"
#include "classic.h"
#include "options.h"
#include "traffic.h"

#include "classic.skel.h" // needs the structs of classic.h

namespace vx::bench {

namespace {

constexpr size_t kAtDestination = 30;
constexpr size_t kAtIpCheck = 24;
constexpr size_t kAtPort = 36;
constexpr size_t kAtUdpCheck = 40;
constexpr int kPollsBetweenLooks = 4096;

struct Injector {
	int fd;
	sockaddr_ll to;
	uint8_t macs[12];
	uint16_t port_be;
	uint32_t new_address_be;
	uint16_t new_port_be;
	uint64_t sent;
	uint64_t failed;
};

uint16_t load16(const uint8_t *at)
{
	uint16_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

uint32_t load32(const uint8_t *at)
{
	uint32_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

// RFC 1624: HC' = ~(~HC + ~m + m'), over 16-bit words.
void update_checksum(uint8_t *at, uint64_t removed, uint64_t added)
{
	uint64_t sum = static_cast<uint16_t>(~load16(at));
	uint16_t updated = static_cast<uint16_t>(~vx_fold(sum + static_cast<uint16_t>(~vx_fold(removed)) + added));
	memcpy(at, &updated, sizeof(updated));
}

void translate(const Injector &injector, uint8_t *frame)
{
	if (load16(frame + kAtPort) != injector.port_be)
		return;
	uint64_t old_address = load32(frame + kAtDestination);
	update_checksum(frame + kAtIpCheck, old_address, injector.new_address_be);
	if (load16(frame + kAtUdpCheck) != 0)
		update_checksum(frame + kAtUdpCheck, old_address + injector.port_be,
				static_cast<uint64_t>(injector.new_address_be) + injector.new_port_be);
	memcpy(frame + kAtDestination, &injector.new_address_be, 4);
	memcpy(frame + kAtPort, &injector.new_port_be, 2);
}

int inject(void *context, void *data, size_t)
{
	auto &injector = *static_cast<Injector *>(context);
	auto &record = *static_cast<const vx_classic_record *>(data);
	if (record.length == 0)
		return 0;
	uint8_t frame[VX_CLASSIC_BYTES]; // the ring is mapped read-only
	memcpy(frame, record.bytes, record.length);
	memcpy(frame, injector.macs, sizeof(injector.macs));
	translate(injector, frame);
	ssize_t sent = sendto(injector.fd, frame, record.length, 0,
			      reinterpret_cast<const sockaddr *>(&injector.to), sizeof(injector.to));
	if (sent < 0)
		injector.failed++;
	else
		injector.sent++;
	return 0;
}

bool input_ended()
{
	pollfd polled = {STDIN_FILENO, POLLIN, 0};
	char byte;
	return poll(&polled, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0;
}

Injector make_injector(const Options &options, const Interface &outside)
{
	Injector injector = {};
	injector.fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (injector.fd < 0)
		fail("packet socket", errno);
	injector.to.sll_family = AF_PACKET;
	injector.to.sll_ifindex = static_cast<int>(outside.ifindex);
	Mac next_hop = parse_mac(options.required("next-hop"));
	memcpy(injector.macs, next_hop.bytes, 6);
	memcpy(injector.macs + 6, outside.mac.bytes, 6);
	injector.port_be = vx_swap16(static_cast<uint16_t>(options.number("port", 31765, 1, 65535)));
	injector.new_address_be = parse_ipv4_be(options.required("to-address"));
	injector.new_port_be = vx_swap16(static_cast<uint16_t>(options.number("to-port", 8081, 1, 65535)));
	return injector;
}

} // namespace

int run(int argc, char **argv)
{
	Options options(argc, argv, "vxclassic: ring buffer and one sendto a packet",
			{{"inside", "NAME", "interface packets arrive on (required)"},
			 {"outside", "NAME", "interface they leave by (required)"},
			 {"next-hop", "MAC", "destination MAC (required)"},
			 {"allowed", "RANGES", "addresses that may pass (required)"},
			 {"port", "N", "destination port with a rule (31765)"},
			 {"to-address", "IP", "what the rule translates to (required)"},
			 {"to-port", "N", "and its port (8081)"},
			 {"cpu", "N", "CPU of the sending thread (1)"}});
	Interface inside = find_interface(options.required("inside"));
	Interface outside = find_interface(options.required("outside"));
	Injector injector = make_injector(options, outside);
	block_signals();
	pin_to_cpu(options.number("cpu", 1, 0, 1023));
	classic *skeleton = classic__open_and_load();
	if (!skeleton)
		fail("loading the program", errno);
	uint8_t yes = 1;
	for (uint32_t address : parse_ranges_be(options.required("allowed"), 1024))
		if (bpf_map__update_elem(skeleton->maps.allowed, &address, sizeof(address), &yes, sizeof(yes), 0) < 0)
			fail("allowlist", errno);
	ring_buffer *ring = ring_buffer__new(bpf_map__fd(skeleton->maps.packets), inject, &injector, nullptr);
	if (!ring)
		fail("ring buffer", errno);
	attach_native(skeleton->progs.classic_copy, inside);
	printf("{\"ready\":true}\n");
	fflush(stdout);
	while (!stop_asked() && !input_ended())
		for (int i = 0; i < kPollsBetweenLooks; i++)
			ring_buffer__consume(ring);
	unsigned long long full = 0;
	for (const auto &line : skeleton->bss->full)
		full += line[0];
	printf("{\"sent\":%llu,\"failed\":%llu,\"ringFull\":%llu}\n", static_cast<unsigned long long>(injector.sent),
	       static_cast<unsigned long long>(injector.failed), full);
	return 0;
}

} // namespace vx::bench

int main(int argc, char **argv)
{
	return vx::bench::run(argc, argv);
}
