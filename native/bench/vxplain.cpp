// vxplain: the plainest AF_XDP forwarder, what the bench holds the latency of afxdp against. Receives from queue 0 of one
// interface, cuts off the 50 bytes of a VXLAN tunnel unread, writes two MAC addresses and transmits to queue 0 of another: one
// UMEM, no copy in user space, nothing filtered, translated, looked up or counted. One thread, pinned and polling. Shares no
// code with the gateway. Run by the bench in the gateway's namespace until a signal or the end of standard input.
#include <bpf/libbpf.h>
#include <linux/if_xdp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "attach.h"
#include "options.h"
#include "plain.skel.h"
#include "traffic.h"

namespace vx::bench {

namespace {

constexpr uint32_t kRing = 2048;
constexpr uint32_t kFrames = 2 * kRing;
constexpr uint32_t kLent = kRing / 2; // to the receiving queue at once
constexpr uint64_t kFrameBytes = 4096;
constexpr uint32_t kBatch = 64;
constexpr int kMaxTxSkbBudget = 9; // XDP_MAX_TX_SKB_BUDGET, newer than Debian 12's headers
constexpr int kPollsBetweenLooks = 4096;

template <typename Entry>
struct Ring {
	uint32_t *producer, *consumer;
	Entry *entries;

	Entry &operator[](uint32_t index) { return entries[index & (kRing - 1)]; }
	uint32_t produced() const { return __atomic_load_n(producer, __ATOMIC_ACQUIRE); }
	uint32_t consumed() const { return __atomic_load_n(consumer, __ATOMIC_ACQUIRE); }
	void map(int fd, uint64_t offset, const xdp_ring_offset &at)
	{
		void *mapped = mmap(nullptr, at.desc + kRing * sizeof(Entry), PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_POPULATE, fd, static_cast<off_t>(offset));
		if (mapped == MAP_FAILED)
			fail("mapping an AF_XDP ring", errno);
		auto *base = static_cast<uint8_t *>(mapped);
		producer = reinterpret_cast<uint32_t *>(base + at.producer);
		consumer = reinterpret_cast<uint32_t *>(base + at.consumer);
		entries = reinterpret_cast<Entry *>(base + at.desc);
	}
};

struct Socket {
	int fd;
	Ring<uint64_t> fill, completion;
	Ring<xdp_desc> packets; // received, or to be transmitted
};

struct Plain {
	uint8_t *memory;
	Socket in, out;
	uint8_t macs[12];
	uint64_t forwarded;
};

void set_option(int fd, int option, const void *value, socklen_t length)
{
	if (setsockopt(fd, SOL_XDP, option, value, length) < 0)
		fail("AF_XDP socket option " + std::to_string(option), errno);
}

// `shared` -1: the socket that brings the memory.
Socket open_socket(const Interface &interface, bool receives, uint8_t *memory, int shared)
{
	Socket self = {};
	uint32_t entries = kRing;
	xdp_mmap_offsets offsets = {};
	socklen_t length = sizeof(offsets);
	self.fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (self.fd < 0)
		fail("AF_XDP socket", errno);
	if (shared < 0) {
		xdp_umem_reg reg = {};
		reg.addr = reinterpret_cast<uint64_t>(memory);
		reg.len = kFrames * kFrameBytes;
		reg.chunk_size = kFrameBytes;
		set_option(self.fd, XDP_UMEM_REG, &reg, sizeof(reg));
	}
	set_option(self.fd, XDP_UMEM_FILL_RING, &entries, sizeof(entries));
	set_option(self.fd, XDP_UMEM_COMPLETION_RING, &entries, sizeof(entries));
	set_option(self.fd, receives ? XDP_RX_RING : XDP_TX_RING, &entries, sizeof(entries));
	if (getsockopt(self.fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length) < 0)
		fail("XDP_MMAP_OFFSETS", errno);
	self.fill.map(self.fd, XDP_UMEM_PGOFF_FILL_RING, offsets.fr);
	self.completion.map(self.fd, XDP_UMEM_PGOFF_COMPLETION_RING, offsets.cr);
	self.packets.map(self.fd, receives ? XDP_PGOFF_RX_RING : XDP_PGOFF_TX_RING, receives ? offsets.rx : offsets.tx);
	sockaddr_xdp address = {};
	address.sxdp_family = AF_XDP;
	address.sxdp_ifindex = interface.ifindex;
	address.sxdp_flags = static_cast<uint16_t>(shared < 0 ? XDP_COPY | XDP_USE_NEED_WAKEUP : XDP_SHARED_UMEM);
	address.sxdp_shared_umem_fd = shared < 0 ? 0 : static_cast<uint32_t>(shared);
	if (bind(self.fd, reinterpret_cast<const sockaddr *>(&address), sizeof(address)) < 0)
		fail("binding an AF_XDP socket", errno);
	if (!receives) // as many descriptors a kick as wait; older kernels do 32
		setsockopt(self.fd, SOL_XDP, kMaxTxSkbBudget, &entries, sizeof(entries));
	return self;
}

void lend(Plain &plain, uint64_t address)
{
	Ring<uint64_t> &fill = plain.in.fill;
	uint32_t at = fill.produced();
	fill[at] = address & ~(kFrameBytes - 1);
	__atomic_store_n(fill.producer, at + 1, __ATOMIC_RELEASE);
}

void transmit(Plain &plain)
{
	Ring<xdp_desc> &tx = plain.out.packets;
	while (tx.consumed() != tx.produced())
		if (sendto(plain.out.fd, nullptr, 0, MSG_DONTWAIT, nullptr, 0) < 0 && errno != EAGAIN && errno != EBUSY &&
		    errno != ENOBUFS)
			fail("AF_XDP transmission", errno);
	Ring<uint64_t> &done = plain.out.completion;
	uint32_t at = done.consumed();
	for (uint32_t end = done.produced(); at != end; at++)
		lend(plain, done[at]);
	__atomic_store_n(done.consumer, at, __ATOMIC_RELEASE);
}

void forward(Plain &plain)
{
	Ring<xdp_desc> &rx = plain.in.packets, &tx = plain.out.packets;
	uint32_t from = rx.consumed(), to = tx.produced();
	uint32_t end = from + std::min(rx.produced() - from, kBatch);
	if (from == end)
		return;
	for (; from != end; from++) {
		xdp_desc desc = rx[from];
		if (desc.len <= VX_OUTER_BYTES + sizeof(plain.macs)) {
			lend(plain, desc.addr);
			continue;
		}
		memcpy(plain.memory + desc.addr + VX_OUTER_BYTES, plain.macs, sizeof(plain.macs));
		tx[to++] = {desc.addr + VX_OUTER_BYTES, desc.len - VX_OUTER_BYTES, 0};
		plain.forwarded++;
	}
	__atomic_store_n(rx.consumer, from, __ATOMIC_RELEASE);
	__atomic_store_n(tx.producer, to, __ATOMIC_RELEASE);
	transmit(plain);
}

bool input_ended()
{
	pollfd polled = {STDIN_FILENO, POLLIN, 0};
	char byte;
	return poll(&polled, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0;
}

Plain make_plain(const Options &options, const Interface &inside, const Interface &outside)
{
	Plain plain = {};
	void *memory = mmap(nullptr, kFrames * kFrameBytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED)
		fail("memory of the packets", errno);
	plain.memory = static_cast<uint8_t *>(memory);
	Mac next_hop = parse_mac(options.required("next-hop"));
	memcpy(plain.macs, next_hop.bytes, 6);
	memcpy(plain.macs + 6, outside.mac.bytes, 6);
	plain.in = open_socket(inside, true, plain.memory, -1);
	plain.out = open_socket(outside, false, plain.memory, plain.in.fd);
	for (uint64_t frame = 0; frame < kLent; frame++)
		lend(plain, frame * kFrameBytes);
	return plain;
}

} // namespace

int run(int argc, char **argv)
{
	Options options(argc, argv, "vxplain: AF_XDP in, AF_XDP out, and no gateway in between",
			{{"inside", "NAME", "interface packets arrive on (required)"},
			 {"outside", "NAME", "interface they leave by (required)"},
			 {"next-hop", "MAC", "destination MAC (required)"},
			 {"cpu", "N", "CPU of the thread (1)"}});
	Interface inside = find_interface(options.required("inside"));
	Interface outside = find_interface(options.required("outside"));
	block_signals();
	pin_to_cpu(options.number("cpu", 1, 0, 1023));
	plain *skeleton = plain__open_and_load();
	if (!skeleton)
		fail("loading the program", errno);
	Plain forwarder = make_plain(options, inside, outside);
	uint32_t queue = 0;
	if (bpf_map__update_elem(skeleton->maps.sockets, &queue, sizeof(queue), &forwarder.in.fd, sizeof(int), 0) < 0)
		fail("socket map", errno);
	attach_native(skeleton->progs.plain_receive, inside);
	printf("{\"ready\":true}\n");
	fflush(stdout);
	while (!stop_asked() && !input_ended())
		for (int i = 0; i < kPollsBetweenLooks; i++)
			forward(forwarder);
	printf("{\"forwarded\":%llu}\n", static_cast<unsigned long long>(forwarder.forwarded));
	return 0;
}

} // namespace vx::bench

int main(int argc, char **argv)
{
	return vx::bench::run(argc, argv);
}
